//! The files a selection leaves, and what it refuses.

mod coreset_common;

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch, StringArray};
use bunny_data::DataError;
use bunny_data::coreset::{
    Centroids, CoresetOptions, Geometry, Invalid, MissingImages, OutputOptions,
};
use bunny_data::record::RecordFile;
use coreset_common::{Machine, fixture, options, run};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

fn copy_set(from: &Path, to: &Path) {
    for folder in ["img_emb", "text_emb", "metadata"] {
        fs::create_dir_all(to.join(folder)).unwrap();
        for entry in fs::read_dir(from.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, to.join(folder).join(path.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
fn the_pretraining_file_is_that_of_bunny_and_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let images = dir.path().join("images");
    fs::create_dir(&images).unwrap();
    let mut options = options("mixture");
    options.windows.centroid = None;
    let mut outputs = OutputOptions {
        images: Some(images.clone()),
        missing_images: MissingImages::Error,
    };
    let out = dir.path().join("out");
    let select = |outputs: &OutputOptions| {
        run(
            &fixture("mixture"),
            &out,
            &options,
            outputs,
            Machine::default(),
        )
    };
    let error = select(&outputs).unwrap_err().to_string();
    assert!(
        error.contains(".jpg") && error.contains("--missing-images skip"),
        "{error}"
    );

    outputs.missing_images = MissingImages::Skip;
    let report = select(&outputs).unwrap();
    assert_eq!(report.written.missing_images, report.written.rows);
    assert_eq!(
        fs::read_to_string(out.join("pretrain.json")).unwrap(),
        "[]\n"
    );

    let keys = fs::read_to_string(out.join("keys.txt")).unwrap();
    for key in keys.lines() {
        fs::write(images.join(format!("{key}.jpg")), "").unwrap();
    }
    outputs.missing_images = MissingImages::Error;
    select(&outputs).unwrap();
    let text = fs::read_to_string(out.join("pretrain.json")).unwrap();
    let records: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(records.len(), keys.lines().count());
    let key = keys.lines().next().unwrap();
    assert_eq!(
        records[0],
        serde_json::json!({
            "id": key,
            "image": format!("{key}.jpg"),
            "conversations": [
                {"from": "human", "value": "<image>\nProvide a brief description of the given image."},
                {"from": "gpt", "value": format!("a caption of “{key}”")},
            ],
        })
    );
    assert_eq!(
        RecordFile::open(out.join("pretrain.json")).unwrap().len(),
        records.len()
    );
    assert!(
        fs::read_to_string(out.join("report.html"))
            .unwrap()
            .contains("<svg")
    );
}

/// Rewrites the captions of a set by their row in their file.
fn recaption(set: &Path, caption: impl Fn(usize, &str) -> Option<String>) {
    for entry in fs::read_dir(set.join("metadata")).unwrap() {
        let path = entry.unwrap().path();
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap());
        let mut batches = reader.unwrap().with_batch_size(1 << 20).build().unwrap();
        let Some(batch) = batches.next() else {
            continue; // a shard without rows
        };
        let batch = batch.unwrap();
        let at = batch.schema().index_of("caption").unwrap();
        let old = batch.column(at).as_string::<i32>();
        let new: StringArray = (0..old.len())
            .map(|row| caption(row, old.value(row)))
            .collect();
        let mut columns = batch.columns().to_vec();
        columns[at] = Arc::new(new);
        let batch = RecordBatch::try_new(batch.schema(), columns).unwrap();
        let file = File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }
}

#[test]
fn keys_without_a_caption_are_counted_and_left_out_of_the_pretraining_file() {
    let dir = tempfile::tempdir().unwrap();
    let set = dir.path().join("set");
    copy_set(&fixture("mixture"), &set);
    // Of every five captions one is empty, one blank and one not there.
    recaption(&set, |row, old| match row % 5 {
        0 => Some(String::new()),
        1 => Some(" \n".to_owned()),
        2 => None,
        _ => Some(old.to_owned()),
    });
    let images = dir.path().join("images");
    fs::create_dir(&images).unwrap();
    let mut options = options("mixture");
    options.windows.centroid = None;
    let outputs = OutputOptions {
        images: Some(images.clone()),
        missing_images: MissingImages::Skip,
    };
    let select = |out: &Path| run(&set, out, &options, &outputs, Machine::default()).unwrap();
    let out = dir.path().join("without images");
    select(&out);
    let keys = fs::read_to_string(out.join("keys.txt")).unwrap();
    for key in keys.lines() {
        fs::write(images.join(format!("{key}.jpg")), "").unwrap();
    }
    let out = dir.path().join("with images");
    let report = select(&out);
    let text = fs::read_to_string(out.join("pretrain.json")).unwrap();
    let records: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let (kept, all) = (records.len(), keys.lines().count());
    assert!(0 < kept && kept < all);
    assert_eq!(report.written.empty_captions, (all - kept) as u64);
    for record in records {
        let caption = record["conversations"][1]["value"].as_str().unwrap();
        assert!(caption.starts_with("a caption of"), "{caption}");
    }
}

#[test]
fn what_cannot_end_well_is_refused_before_the_work_begins() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let refused = |set: &Path, options: &CoresetOptions, outputs: &OutputOptions| {
        let error = run(set, &out, options, outputs, Machine::default()).unwrap_err();
        let stages = fs::read_dir(out.join("work")).unwrap().count();
        assert_eq!(stages, 0, "{error}");
        error.to_string()
    };
    let mut trained = options("mixture");
    trained.clusters.centroids = None;

    let outputs = OutputOptions {
        images: Some(dir.path().join("nowhere")),
        ..OutputOptions::default()
    };
    let error = refused(&fixture("mixture"), &trained, &outputs);
    assert!(error.contains("nowhere: cannot open: "), "{error}");

    let bare = dir.path().join("bare");
    copy_set(&fixture("mixture"), &bare);
    fs::remove_dir_all(bare.join("metadata")).unwrap();
    let outputs = OutputOptions {
        images: Some(dir.path().to_owned()),
        ..OutputOptions::default()
    };
    let error = refused(&bare, &trained, &outputs);
    assert!(
        error.starts_with("--images: the set has no captions"),
        "{error}"
    );

    let start = fixture("mixture").join("centroids.npy");
    trained.clusters.start_from = Some(start);
    trained.clusters.count = Some(3);
    let error = refused(&fixture("mixture"), &trained, &OutputOptions::default());
    assert!(
        error.starts_with("--start-from: ") && error.ends_with("asks for 3"),
        "{error}"
    );

    let mut narrow = options("mixture");
    let path = dir.path().join("narrow.npy");
    Centroids::new(vec![1.0; 6], 3, Geometry::Euclidean)
        .write(&path)
        .unwrap();
    narrow.clusters.centroids = Some(path);
    let error = refused(&fixture("mixture"), &narrow, &OutputOptions::default());
    assert!(
        error.contains("narrow.npy: centroids of 3 numbers"),
        "{error}"
    );
}

#[test]
fn training_that_starts_from_centroids_has_as_many() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options("mixture");
    options.clusters.start_from = options.clusters.centroids.take();
    options.clusters.count = None;
    let (outputs, machine) = (OutputOptions::default(), Machine::default());
    let report = run(&fixture("mixture"), dir.path(), &options, &outputs, machine).unwrap();
    let start = options.clusters.start_from.unwrap();
    let given = Centroids::read(start, report.dims, Geometry::Euclidean).unwrap();
    assert_eq!(report.clusters, given.len() as u64);
}

#[test]
fn an_unusable_row_is_named_by_file_and_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options("broken");
    options.invalid = Invalid::Error;
    let outputs = OutputOptions::default();
    let error = run(
        &fixture("broken"),
        dir.path(),
        &options,
        &outputs,
        Machine::default(),
    )
    .unwrap_err()
    .to_string();
    assert!(
        error.contains("img_emb_8.npy: row 5: the image embedding has no usable"),
        "{error}"
    );
    options.invalid = Invalid::Drop;
    let report = run(
        &fixture("broken"),
        dir.path(),
        &options,
        &outputs,
        Machine::default(),
    )
    .unwrap();
    assert_eq!((report.scanned.rows, report.scanned.dropped), (240, 4));
    assert!(
        report.scanned.faults[1].contains("text_emb_8.npy: row 77"),
        "{:?}",
        report.scanned
    );
    assert!(report.warnings()[0].contains("4 of 240"));
}

#[test]
fn files_that_do_not_belong_together_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let set = dir.path().join("set");
    copy_set(&fixture("mixture"), &set);
    let refused = || {
        let options = CoresetOptions::default();
        let outputs = OutputOptions::default();
        run(
            &set,
            &dir.path().join("out"),
            &options,
            &outputs,
            Machine::default(),
        )
        .unwrap_err()
    };
    let text = set.join("text_emb/text_emb_8.npy");
    let kept = fs::read(&text).unwrap();
    fs::copy(set.join("text_emb/text_emb_10.npy"), &text).unwrap();
    assert!(matches!(refused(), DataError::RowCount { path, rows: 130, .. } if path == text));
    fs::write(&text, &kept[..kept.len() - 1]).unwrap();
    let error = refused().to_string();
    assert!(
        error.contains("text_emb_8.npy: cut short in row 149"),
        "{error}"
    );
    fs::write(&text, kept).unwrap();
    fs::remove_file(set.join("metadata/metadata_011.parquet")).unwrap();
    assert!(refused().to_string().contains("img_emb_011.npy"));
}

#[test]
fn what_does_not_fit_the_memory_is_said_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine {
        memory: 1000,
        ..Machine::default()
    };
    let outputs = OutputOptions::default();
    let error = run(
        &fixture("giant"),
        dir.path(),
        &options("giant"),
        &outputs,
        machine,
    );
    assert!(matches!(error, Err(DataError::Memory { budget: 1000, .. })));
}

#[test]
fn what_each_row_of_the_sample_takes_counts_as_memory() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options("giant");
    options.clusters.centroids = None;
    options.clusters.count = Some(2);
    // Twice the search of two centroids of 32 numbers fits, but not 20 bytes for each of 512 rows.
    let machine = Machine {
        memory: 10_000,
        ..Machine::default()
    };
    let outputs = OutputOptions::default();
    let error = run(&fixture("giant"), dir.path(), &options, &outputs, machine).unwrap_err();
    // A centroid is 128 bytes, and what counts its rows 8.
    let expected = 2 * (2 * 136 + 512 * 20);
    assert!(
        matches!(error, DataError::Memory { need, budget: 10_000, .. } if need == expected),
        "{error}"
    );
}

#[test]
fn a_search_in_two_levels_reports_how_often_it_agrees() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options("giant");
    options.clusters.search = bunny_data::coreset::Search::TwoLevel { probes: 1 };
    let outputs = OutputOptions::default();
    let report = run(
        &fixture("giant"),
        dir.path(),
        &options,
        &outputs,
        Machine::default(),
    )
    .unwrap();
    // Of a small set every row is checked.
    let divided = report.divided;
    assert_eq!(divided.checked, divided.rows);
    assert!(divided.agreeing <= divided.checked);
    assert!(
        report
            .warnings()
            .iter()
            .any(|line| line.contains("two levels"))
    );
}

#[test]
fn a_sample_larger_than_what_the_windows_leave_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options("giant");
    options.sample = Some(1_000_000);
    let report = run(
        &fixture("giant"),
        dir.path(),
        &options,
        &OutputOptions::default(),
        Machine::default(),
    )
    .unwrap();
    assert_eq!(report.written.rows, report.centroid.kept);
    let said = format!(
        "1000000 rows were to be drawn, but the windows left {}",
        report.centroid.kept
    );
    assert_eq!(report.warnings(), [said]);
}

#[cfg(unix)]
#[test]
fn names_that_are_not_utf8_are_refused_before_the_work_begins_and_named() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let set = dir.path().join("set");
    copy_set(&fixture("mixture"), &set);
    let odd = |name: &[u8]| dir.path().join(OsStr::from_bytes(name));
    let refused = |options: &CoresetOptions, outputs: &OutputOptions, named: &Path| {
        let out = dir.path().join("out");
        let error = run(&set, &out, options, outputs, Machine::default()).unwrap_err();
        assert!(
            matches!(&error, DataError::Name { path } if path == named),
            "{error}"
        );
        assert!(!out.exists(), "{error}");
    };
    let mut given = options("mixture");
    let centroids = odd(b"centroids\xff.npy");
    fs::copy(fixture("mixture").join("centroids.npy"), &centroids).unwrap();
    given.clusters.centroids = Some(centroids.clone());
    refused(&given, &OutputOptions::default(), &centroids);
    given.clusters.start_from = given.clusters.centroids.take();
    refused(&given, &OutputOptions::default(), &centroids);
    let outputs = OutputOptions {
        images: Some(odd(b"images\xff")),
        ..OutputOptions::default()
    };
    refused(&options("mixture"), &outputs, &odd(b"images\xff"));

    // The files of one shard, which still belong together.
    for (folder, ending) in [
        ("img_emb", "npy"),
        ("text_emb", "npy"),
        ("metadata", "parquet"),
    ] {
        let mut name = format!("{folder}_").into_bytes();
        name.extend(b"\xff_8.");
        name.extend(ending.as_bytes());
        let folder = set.join(folder);
        let plain = format!("{}_8.{ending}", folder.file_name().unwrap().display());
        fs::rename(folder.join(plain), folder.join(OsStr::from_bytes(&name))).unwrap();
    }
    let named = set
        .join("img_emb")
        .join(OsStr::from_bytes(b"img_emb_\xff_8.npy"));
    refused(&options("mixture"), &OutputOptions::default(), &named);
}

#[cfg(unix)]
#[test]
fn folders_whose_names_are_not_utf8_hold_sets_like_any_other() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join(OsStr::from_bytes(b"odd\xff"));
    let set = odd.join("set");
    copy_set(&fixture("mixture"), &set);
    let select = |set: &Path, out: &Path, sample| {
        let options = CoresetOptions {
            sample,
            ..options("mixture")
        };
        let outputs = OutputOptions::default();
        run(set, out, &options, &outputs, Machine::default()).unwrap();
        fs::read_to_string(out.join("keys.txt")).unwrap()
    };
    let plain = dir.path().join("plain");
    // Into one folder after the other: what changed is made anew.
    for sample in [None, Some(3), Some(5)] {
        let keys = select(&set, &odd.join("out"), sample);
        assert_eq!(keys, select(&fixture("mixture"), &plain, sample));
        assert!(sample.is_none_or(|sample| keys.lines().count() as u64 == sample));
    }
}
