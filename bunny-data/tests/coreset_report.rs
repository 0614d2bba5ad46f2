//! What a selection leaves for people and for other tools: captions and addresses in `kept.parquet`,
//! samples in `report.html`.

mod coreset_common;

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use bunny_data::coreset::{MissingImages, OutputOptions};
use coreset_common::{Machine, fixture, options, run};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

fn read(path: &Path) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap());
    let batches = reader.unwrap().build().unwrap();
    batches.map(|batch| batch.unwrap()).collect()
}

fn texts(batch: &RecordBatch, name: &str) -> Vec<Option<String>> {
    let column = batch.column_by_name(name).unwrap();
    let column = column.as_string::<i32>();
    column.iter().map(|text| text.map(str::to_owned)).collect()
}

/// The set `mixture` with other captions and, in a column `URL`, addresses; both by key.
fn write_set(folder: &Path) -> HashMap<String, [Option<String>; 2]> {
    let mut known = HashMap::new();
    for name in ["img_emb", "text_emb", "metadata"] {
        fs::create_dir_all(folder.join(name)).unwrap();
        for entry in fs::read_dir(fixture("mixture").join(name)).unwrap() {
            let path = entry.unwrap().path();
            let copy = folder.join(name).join(path.file_name().unwrap());
            if name != "metadata" {
                fs::copy(&path, &copy).unwrap();
                continue;
            }
            let mut writer = None;
            for batch in read(&path) {
                let keys = texts(&batch, "key");
                let caption = |key: &Option<String>| {
                    let key = key.as_deref().unwrap();
                    (!key.ends_with('3')).then(|| format!("<b>{key}</b> & \u{201c}more\u{201d}"))
                };
                let url = |key: &Option<String>| {
                    let key = key.as_deref().unwrap();
                    (!key.ends_with('4')).then(|| format!("https://example.org/{key}.jpg"))
                };
                let captions: Vec<_> = keys.iter().map(caption).collect();
                let urls: Vec<_> = keys.iter().map(url).collect();
                for ((key, caption), url) in keys.iter().zip(&captions).zip(&urls) {
                    known.insert(key.clone().unwrap(), [caption.clone(), url.clone()]);
                }
                let column =
                    |texts: Vec<Option<String>>| -> ArrayRef { Arc::new(StringArray::from(texts)) };
                let columns = [
                    ("key", column(keys), true),
                    ("caption", column(captions), true),
                    ("URL", column(urls), true),
                ];
                let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
                let writer = writer.get_or_insert_with(|| {
                    let file = File::create(&copy).unwrap();
                    ArrowWriter::try_new(file, batch.schema(), None).unwrap()
                });
                writer.write(&batch).unwrap();
            }
            match writer {
                Some(writer) => drop(writer.close().unwrap()),
                None => drop(fs::copy(&path, &copy).unwrap()),
            }
        }
    }
    known
}

#[test]
fn captions_and_addresses_stand_beside_the_keys_that_were_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (set, out) = (dir.path().join("set"), dir.path().join("out"));
    let known = write_set(&set);
    let mut options = options("mixture");
    options.windows.centroid = None;
    let outputs = OutputOptions::default();
    run(&set, &out, &options, &outputs, Machine::default()).unwrap();
    let (mut rows, mut nulls) = (0, 0);
    for batch in read(&out.join("kept.parquet")) {
        let [keys, captions, urls] = ["key", "caption", "url"].map(|name| texts(&batch, name));
        for ((key, caption), url) in keys.into_iter().zip(captions).zip(urls) {
            nulls += usize::from(caption.is_none()) + usize::from(url.is_none());
            assert_eq!([caption, url], known[&key.unwrap()]);
            rows += 1;
        }
    }
    let keys = fs::read_to_string(out.join("keys.txt")).unwrap();
    assert_eq!(rows, keys.lines().count());
    assert!(nulls > 0 && nulls < 2 * rows, "{nulls} of {rows}");

    // A column of another name.
    let out = dir.path().join("captions as addresses");
    options.embeddings.url_column = Some("caption".to_owned());
    run(&set, &out, &options, &outputs, Machine::default()).unwrap();
    let batches = read(&out.join("kept.parquet"));
    assert_eq!(texts(&batches[0], "url"), texts(&batches[0], "caption"));
    options.embeddings.url_column = Some("address".to_owned());
    let error = run(&set, &out, &options, &outputs, Machine::default()).unwrap_err();
    assert!(error.to_string().contains("address"), "{error}");
}

#[test]
fn the_report_shows_groups_and_the_ends_of_windows_with_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let [set, out, images] = ["set", "out", "images"].map(|name| dir.path().join(name));
    let known = write_set(&set);
    fs::create_dir(&images).unwrap();
    for (number, key) in known.keys().enumerate() {
        let path = images.join(format!("{key}.png"));
        match number % 5 {
            // One that cannot be read, and one that is not there.
            0 => fs::write(path, "no picture").unwrap(),
            1 => {}
            _ => image::RgbImage::new(200, 100).save(path).unwrap(),
        }
    }
    let mut options = options("mixture");
    options.windows.centroid = None;
    let outputs = OutputOptions {
        images: Some(images),
        missing_images: MissingImages::Skip,
    };
    let report = run(&set, &out, &options, &outputs, Machine::default()).unwrap();
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    for (what, count) in [("<figure>", 10), ("<img ", 5), ("class=\"stays\"", 6)] {
        assert!(page.matches(what).count() >= count, "{what}: {page}");
    }
    assert!(page.contains("&lt;b&gt;") && !page.contains("<b>"));
    assert!(page.contains("not a picture") || page.contains("class=\"note\""));

    // Groups are of rows that were joined, and what stays of them is one.
    let joined = &report.reduced.joined;
    assert!((1..=8).contains(&joined.len()));
    for group in joined {
        assert!(group.size > 1 && !group.others.contains(&group.stays));
        assert!(
            group.others.len() as u64 == (group.size - 1).min(4),
            "{group:?}"
        );
    }
    // Values go down with the ranks; those within the window are the ranks of the window.
    let (score, window) = (&report.score, options.windows.score.unwrap());
    let ranks = window.ranks(score.rows);
    assert!(score.seats.iter().any(|seat| seat.inside));
    for pair in score.seats.windows(2) {
        assert!(pair[0].rank < pair[1].rank && pair[0].value >= pair[1].value);
    }
    for seat in &score.seats {
        assert_eq!(seat.inside, ranks.contains(&seat.rank));
    }
    let at = |rank| {
        score
            .seats
            .iter()
            .find(|seat| seat.rank == rank)
            .unwrap()
            .value
    };
    for (bound, rank) in score.bounds.iter().zip([ranks.start, ranks.end]) {
        assert!((bound.unwrap() - at(rank)).abs() <= 1e-6);
    }
}
