//! The files a selection leaves, and what it refuses.

mod coreset_common;

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch, StringArray};
use bunny_data::DataError;
use bunny_data::coreset::engine::Local;
use bunny_data::coreset::{
    Centroids, CoresetOptions, Division, Geometry, Invalid, MissingImages, OutputOptions, Paths,
    Report, Silent, TileSize, Window, Worker,
};
use bunny_data::record::RecordFile;
use coreset_common::{Machine, fixture, options, results, run};
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

/// A key of the set `mixture` that is not among those kept.
fn never_kept(kept: &str) -> String {
    let mut keys = Vec::new();
    for entry in fs::read_dir(fixture("mixture").join("metadata")).unwrap() {
        let file = File::open(entry.unwrap().path()).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            let column = batch.column_by_name("key").unwrap().clone();
            let column = column.as_string::<i32>();
            keys.extend((0..column.len()).map(|row| column.value(row).to_owned()));
        }
    }
    let is_kept = |key: &String| kept.lines().any(|kept| kept == key);
    keys.into_iter().find(|key| !is_kept(key)).unwrap()
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
    // Not one picture: that is known before the work, and nothing is left out of an empty list.
    for missing in [MissingImages::Error, MissingImages::Skip] {
        outputs.missing_images = missing;
        let error = select(&outputs).unwrap_err().to_string();
        assert!(error.contains("no picture of any of the "), "{error}");
        assert_eq!(fs::read_dir(out.join("work")).unwrap().count(), 0);
    }
    let alone = dir.path().join("alone");
    run(
        &fixture("mixture"),
        &alone,
        &options,
        &OutputOptions::default(),
        Machine::default(),
    )
    .unwrap();
    let keys = fs::read_to_string(alone.join("keys.txt")).unwrap();
    let mut kept = keys.lines();
    fs::write(images.join(format!("{}.jpg", kept.next().unwrap())), "").unwrap();
    outputs.missing_images = MissingImages::Error;
    let error = select(&outputs).unwrap_err().to_string();
    let missing = format!(
        "{} of {} kept keys",
        kept.clone().count(),
        keys.lines().count()
    );
    assert!(
        error.contains(&missing) && error.contains("--missing-images skip"),
        "{error}"
    );
    outputs.missing_images = MissingImages::Skip;
    let report = select(&outputs).unwrap();
    assert_eq!(report.written.missing_images, report.written.rows - 1);
    // What is no kept key's does not make a list of nothing.
    let rest: Vec<String> = kept.map(|key| format!("{key}.jpg")).collect();
    fs::remove_file(images.join(format!("{}.jpg", keys.lines().next().unwrap()))).unwrap();
    fs::write(images.join(format!("{}.jpg", never_kept(&keys))), "").unwrap();
    let error = select(&outputs).unwrap_err().to_string();
    assert!(
        error.contains("pretrain.json: it would be empty"),
        "{error}"
    );

    fs::write(
        images.join(format!("{}.jpg", keys.lines().next().unwrap())),
        "",
    )
    .unwrap();
    for name in rest {
        fs::write(images.join(name), "").unwrap();
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
    let select = |out: &Path, outputs: &OutputOptions| {
        run(&set, out, &options, outputs, Machine::default()).unwrap()
    };
    let out = dir.path().join("without images");
    select(&out, &OutputOptions::default());
    let keys = fs::read_to_string(out.join("keys.txt")).unwrap();
    for key in keys.lines() {
        fs::write(images.join(format!("{key}.jpg")), "").unwrap();
    }
    let out = dir.path().join("with images");
    let report = select(&out, &outputs);
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
        let stages = fs::read_dir(out.join("work")).map_or(0, Iterator::count);
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

/// Selects into a folder without leave to replace what it holds.
fn unforced(embeddings: &Path, out: &Path, options: &CoresetOptions) -> Result<Report, String> {
    let worker = Worker {
        memory: 64 << 20,
        tile: TileSize::default(),
        progress: &Silent,
    };
    let paths = Paths {
        embeddings: embeddings.to_owned(),
        out: out.to_owned(),
        work: None,
        keep_work: false,
        force: false,
        division: Division::default(),
    };
    let engine = Local::new(NonZeroUsize::new(2), worker).unwrap();
    let done = bunny_data::coreset::select(&engine, &paths, options, &OutputOptions::default());
    done.map_err(|error| error.to_string())
}

#[test]
fn a_finished_selection_is_replaced_only_where_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (set, out) = (dir.path().join("set"), dir.path().join("out"));
    copy_set(&fixture("mixture"), &set);
    let first = options("mixture");
    let report = unforced(&set, &out, &first).unwrap();
    let before = results(&out);

    let mut second = first.clone();
    second.duplicates.threshold = 0.7;
    second.sample = Some(3);
    let error = unforced(&set, &out, &second).unwrap_err();
    for told in [
        "duplicates.threshold: 0.86 before, 0.7 now",
        "sample: null before, 3 now",
        "--force",
    ] {
        assert!(error.contains(told), "{error}");
    }
    assert!(results(&out) == before);
    // The same again is done already, and so it is with pictures looked for beside.
    assert_eq!(unforced(&set, &out, &first).unwrap(), report);

    // A result that someone wrote to.
    let keys = out.join("keys.txt");
    let whole = fs::read(&keys).unwrap();
    fs::write(&keys, "nonsense\n").unwrap();
    let error = unforced(&set, &out, &first).unwrap_err();
    assert!(
        error.contains("keys.txt: not what the selection left"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&keys).unwrap(), "nonsense\n");
    fs::write(&keys, whole).unwrap();
    assert_eq!(unforced(&set, &out, &first).unwrap(), report);

    // Other rows.
    recaption(&set, |row, _| Some(format!("caption {row}")));
    let error = unforced(&set, &out, &first).unwrap_err();
    assert!(error.contains("the embeddings are others"), "{error}");
    assert!(results(&out) == before);
    run(
        &set,
        &out,
        &second,
        &OutputOptions::default(),
        Machine::default(),
    )
    .unwrap();
    assert!(results(&out) != before);
}

#[test]
fn work_of_other_options_stays_until_it_may_be_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let other = out.join("work/kmeans-0123456789abcdef");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("round-00003.npy"), "hours of work").unwrap();
    let mut options = options("mixture");
    options.clusters.centroids = None;
    options.clusters.count = Some(3);
    options.windows.score = Some(Window::new(0, 1));
    options.windows.centroid = Some(Window::new(0, 1));
    // It ends without a row, before work files are removed.
    let error = unforced(&fixture("mixture"), &out, &options).unwrap_err();
    assert!(error.contains("nothing was selected"), "{error}");
    assert!(other.join("round-00003.npy").exists());
    options.clusters.count = Some(4);
    run(
        &fixture("mixture"),
        &out,
        &options,
        &OutputOptions::default(),
        Machine::default(),
    )
    .unwrap_err();
    assert!(!other.exists());
}

#[test]
fn a_folder_that_holds_something_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let set = dir.path().join("set");
    copy_set(&fixture("mixture"), &set);
    let options = options("mixture");
    let model = dir.path().join("model");
    fs::create_dir(&model).unwrap();
    fs::write(model.join("model.safetensors"), "weights").unwrap();
    let error = unforced(&set, &model, &options).unwrap_err();
    assert!(error.contains("it holds model.safetensors"), "{error}");
    let own = dir.path().join("own");
    fs::create_dir_all(own.join("work/thesis")).unwrap();
    let error = unforced(&set, &own, &options).unwrap_err();
    assert!(error.contains("it holds work/thesis"), "{error}");
    for inside in [
        set.clone(),
        set.join("img_emb"),
        set.join("metadata/new/deep"),
    ] {
        let error = unforced(&set, &inside, &options).unwrap_err();
        assert!(
            error.contains("among the files they are selected from"),
            "{error}"
        );
    }
    assert!(!set.join("metadata/new").exists());
    unforced(&set, &set.join("coreset"), &options).unwrap();
}

#[cfg(unix)]
#[test]
fn two_selections_do_not_work_in_one_folder() {
    let dir = tempfile::tempdir().unwrap();
    let lock = bunny_base::FolderLock::take(dir.path()).unwrap();
    let error = unforced(&fixture("mixture"), dir.path(), &options("mixture")).unwrap_err();
    assert!(error.contains("another selection is at work"), "{error}");
    drop(lock);
    unforced(&fixture("mixture"), dir.path(), &options("mixture")).unwrap();
}
