//! Columns of every type that people's libraries write (tests/reference/tables.py).

mod coreset_common;

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bunny_data::coreset::{Centroids, CoresetOptions, Geometry, OutputOptions, Window};
use bunny_data::images::ImageSource;
use bunny_data::mix::{Mix, MixRecipe};
use bunny_data::record::RecordFile;
use bunny_data::validate::{ValidateOptions, validate};
use coreset_common::{Machine, run};
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/tables")
        .join(name)
}

fn expected() -> Value {
    serde_json::from_slice(&fs::read(fixture("expected.json")).unwrap()).unwrap()
}

fn texts(value: &Value) -> Vec<String> {
    let texts = value.as_array().unwrap().iter();
    texts
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn columns_of_json_texts_are_what_they_say() {
    let expected = expected();
    let file = RecordFile::open(fixture("json.parquet")).unwrap();
    let turns = RecordFile::open(fixture("json_turns.parquet")).unwrap();
    for (index, expected) in expected["json"].as_array().unwrap().iter().enumerate() {
        let record: bunny_data::record::Record = serde_json::from_value(expected.clone()).unwrap();
        assert_eq!(file.get(index).unwrap(), record);
        let read = turns.get(index).unwrap();
        assert_eq!(read.id, record.id);
        assert_eq!(read.conversations, record.conversations);
    }
}

#[test]
fn pictures_inside_a_file_are_those_of_its_records() {
    let expected = expected();
    let folder = tempfile::tempdir().unwrap();
    let images = ImageSource::open(folder.path()).unwrap();
    for name in ["image", "images", "bytes"] {
        let file = RecordFile::open(fixture(&format!("{name}.parquet"))).unwrap();
        let expected = expected[name].as_array().unwrap();
        assert_eq!(file.len(), expected.len());
        for (index, pictures) in expected.iter().enumerate() {
            let record = file.get(index).unwrap();
            let found = record.images().iter().map(|name| match images.read(name) {
                Ok(bytes) => STANDARD.encode(bytes),
                // One that lies elsewhere.
                Err(_) => name.clone(),
            });
            assert_eq!(found.collect::<Vec<_>>(), texts(pictures), "{name} {index}");
            for picture in record.images() {
                assert_eq!(images.contains(picture), picture != "elsewhere/c.png");
                // No name is as long as a picture.
                assert!(picture.len() < 4096);
            }
        }
        // The same pictures from a copy of the records as JSON, whatever its order.
        let recipe = format!(
            "format_version = 1\nname = 'copy'\norder = 'shuffle'\n\
             [[source]]\nname = 'a'\npath = '{name}.parquet'\nimage_root = 'coco'\n"
        );
        let path = folder.path().join("mix.toml");
        fs::write(&path, recipe).unwrap();
        let recipe = MixRecipe::read(&path).unwrap();
        let mix = Mix::open(recipe, fixture(""), None).unwrap();
        let out = folder.path().join(format!("{name}.json"));
        mix.write(&out, false, &|_, _| {}).unwrap();
        let copy = RecordFile::open(&out).unwrap();
        let of = |file: &RecordFile| {
            let mut found: Vec<Vec<String>> = (0..file.len())
                .map(|index| {
                    let record = file.get(index).unwrap();
                    let names = record.images().iter();
                    names
                        .map(|name| match images.read(name) {
                            Ok(bytes) => STANDARD.encode(bytes),
                            Err(_) => name.trim_start_matches("coco/").to_owned(),
                        })
                        .collect()
                })
                .collect();
            found.sort();
            found
        };
        assert_eq!(of(&copy), of(&file));
    }
    let options = &mut ValidateOptions::default();
    options.images = Some(&images);
    options.pictures = bunny_data::images::PictureCheck::Decode;
    let file = RecordFile::open(fixture("image.parquet")).unwrap();
    let report = validate(&file, options, &|_, _| {}).unwrap();
    assert_eq!((report.records, report.pictures), (5, 4));
    assert_eq!(report.counts.get("missing_picture"), Some(&1));
    assert_eq!(report.counts.get("placeholder_without_picture"), Some(&1));
    assert_eq!(report.findings.len(), 2, "{:?}", report.findings);
}

#[test]
fn a_picture_may_be_in_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let images = ImageSource::open(folder.path()).unwrap();
    let name = "data:image/png;base64,aGFyZQ==";
    assert!(images.contains(name));
    assert_eq!(*images.read(name).unwrap(), *b"hare");
    let broken = format!("data:image/png;base64,{}", "!".repeat(5000));
    let error = images.read(&broken).unwrap_err().to_string();
    assert!(error.len() < 400, "{error}");
}

#[test]
fn a_codec_that_is_not_read_is_named_when_the_file_is_opened() {
    let error = RecordFile::open(fixture("brotli.parquet"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("compressed by brotli") && error.contains("zstd"),
        "{error}"
    );

    let dir = tempfile::tempdir().unwrap();
    let set = dir.path().join("set");
    for folder in ["img_emb", "text_emb"] {
        fs::create_dir_all(set.join(folder)).unwrap();
        let file = format!("{folder}/{folder}_0.npy");
        fs::copy(fixture("typed").join(&file), set.join(&file)).unwrap();
    }
    fs::create_dir(set.join("metadata")).unwrap();
    fs::copy(
        fixture("brotli/metadata/metadata_0.parquet"),
        set.join("metadata/metadata_0.parquet"),
    )
    .unwrap();
    let out = dir.path().join("out");
    let error = select(&set, &out, &all()).unwrap_err();
    assert!(
        error.contains("column key is compressed by brotli"),
        "{error}"
    );
    assert!(!out.exists());
}

/// Options that keep every row of a small set.
fn all() -> CoresetOptions {
    let mut options = CoresetOptions::default();
    options.clusters.count = Some(1);
    options.duplicates.threshold = 0.9999;
    options.windows.score = None;
    options.windows.centroid = None;
    options
}

/// The keys that are kept, or why there are none.
fn select(set: &Path, out: &Path, options: &CoresetOptions) -> Result<Vec<String>, String> {
    let outputs = OutputOptions::default();
    match run(set, out, options, &outputs, Machine::default()) {
        Ok(_) => {
            let keys = fs::read_to_string(out.join("keys.txt")).unwrap();
            Ok(keys.lines().map(str::to_owned).collect())
        }
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn keys_and_captions_of_every_type_are_texts() {
    let dir = tempfile::tempdir().unwrap();
    for (name, keys) in expected()["keys"].as_object().unwrap() {
        let mut options = all();
        options.embeddings.key_column = Some(name.clone());
        let found = select(&fixture("typed"), &dir.path().join(name), &options);
        assert_eq!(found, Ok(texts(keys)), "{name}");
    }
    // What no text can be made of, and what is none: the first before the work begins.
    for (name, why) in [
        ("double", "column double is Float64, not text or integers"),
        ("list", "not text or integers"),
        (
            "no_text",
            "row 0: column no_text holds bytes that are no text",
        ),
    ] {
        let mut options = all();
        options.embeddings.key_column = Some(name.to_owned());
        let out = dir.path().join(name);
        let error = select(&fixture("typed"), &out, &options).unwrap_err();
        assert!(error.contains(why), "{error}");
        assert_eq!(out.exists(), name == "no_text");
    }
    let mut options = all();
    options.embeddings.key_column = Some("string".to_owned());
    let images = dir.path().join("images");
    fs::create_dir(&images).unwrap();
    for key in texts(&expected()["keys"]["string"]) {
        fs::write(images.join(format!("{key}.png")), "").unwrap();
    }
    let outputs = OutputOptions {
        images: Some(images),
        ..OutputOptions::default()
    };
    let out = dir.path().join("captions");
    run(
        &fixture("typed"),
        &out,
        &options,
        &outputs,
        Machine::default(),
    )
    .unwrap();
    let records = RecordFile::open(out.join("pretrain.json")).unwrap();
    let record = records.get(3).unwrap();
    assert_eq!(record.conversations[1].value, record.id);
    assert_eq!(record.images(), [format!("{}.png", record.id)]);
}

#[test]
fn scores_of_every_type_of_number_select_the_same_rows() {
    let dir = tempfile::tempdir().unwrap();
    let by = |name: &str| {
        let mut options = all();
        options.embeddings.key_column = Some("string".to_owned());
        options.embeddings.score_column = Some(name.to_owned());
        options.windows.score = Some(Window::new(2000, 8000));
        select(&fixture("typed"), &dir.path().join(name), &options)
    };
    let expected = by("score_float32").unwrap();
    assert!(expected.len() > 3 && expected.len() < 12);
    for name in [
        "score_float16",
        "score_float64",
        "score_int8",
        "score_dictionary",
    ] {
        assert_eq!(by(name).unwrap(), expected, "{name}");
    }
    let error = by("caption").unwrap_err();
    assert!(
        error.contains("column caption is ") && error.contains("not numbers"),
        "{error}"
    );
    assert!(!dir.path().join("caption").exists());
}

#[test]
fn a_part_without_rows_and_double_precision_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = all();
    options.windows.score = Some(Window::new(2000, 8000));
    let [one, parts] = ["parts_float32", "parts_float64"]
        .map(|name| select(&fixture(name), &dir.path().join(name), &options).unwrap());
    assert!(one.len() > 3);
    assert_eq!(one, parts);
    let centroids = |name| Centroids::read(fixture(name), 8, Geometry::Euclidean).unwrap();
    assert_eq!(
        centroids("centroids_float64.npy"),
        centroids("centroids_float32.npy")
    );
}
