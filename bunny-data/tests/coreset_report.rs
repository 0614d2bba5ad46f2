//! What a selection leaves for people and for other tools: captions and addresses in `kept.parquet`,
//! samples in `report.html`.

mod coreset_common;

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, UInt32Type, UInt64Type};
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

/// Columns of metadata that are called as columns of `kept.parquet` are.
const THEIRS: [&str; 3] = ["row", "cluster", "image_text_cosine"];

/// The set `mixture` with other captions and, in a column `URL`, addresses; both by key. The columns
/// [`THEIRS`] are there too, and say whose they are.
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
                let theirs = THEIRS.map(|name| {
                    let said = format!("their {name}");
                    (name, column(vec![Some(said); keys.len()]), true)
                });
                let mut columns = vec![
                    ("key", column(keys), true),
                    ("caption", column(captions), true),
                    ("URL", column(urls), true),
                ];
                columns.extend(theirs);
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
fn columns_of_the_metadata_that_are_called_as_ours_are_left_where_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let (set, out) = (dir.path().join("set"), dir.path().join("out"));
    write_set(&set);
    let mut options = options("mixture");
    options.windows.centroid = None;
    // One of them is asked for, and comes under the name of what it is asked for.
    options.embeddings.caption_column = Some("cluster".to_owned());
    let outputs = OutputOptions::default();
    run(&set, &out, &options, &outputs, Machine::default()).unwrap();

    let metadata = fs::read_dir(set.join("metadata")).unwrap();
    let mut metadata: Vec<PathBuf> = metadata.map(|entry| entry.unwrap().path()).collect();
    // Of the names metadata_8 to metadata_011 the number counts.
    metadata.sort_by_key(|path| {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let (_, number) = stem.rsplit_once('_').unwrap();
        number.parse::<u32>().unwrap()
    });
    let batches = metadata.iter().flat_map(|path| read(path));
    let keys: Vec<Option<String>> = batches.flat_map(|batch| texts(&batch, "key")).collect();
    for batch in read(&out.join("kept.parquet")) {
        let schema = batch.schema();
        let names: Vec<&str> = schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        assert_eq!(
            names,
            [
                "key",
                "url",
                "caption",
                "row",
                "cluster",
                "component",
                "component_size",
                "image_text_cosine",
                "image_centroid_cosine",
                "centroid_distance",
            ]
        );
        let column = |name: &str| batch.column_by_name(name).unwrap().clone();
        // A column of another type is none that was computed.
        column("cluster").as_primitive::<UInt32Type>();
        column("image_text_cosine").as_primitive::<Float64Type>();
        let rows = column("row");
        let rows = rows.as_primitive::<UInt64Type>().values().iter();
        for ((key, caption), row) in texts(&batch, "key")
            .iter()
            .zip(texts(&batch, "caption"))
            .zip(rows)
        {
            assert_eq!(key, &keys[*row as usize]);
            assert_eq!(caption.as_deref(), Some("their cluster"));
        }
    }
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
