//! From pictures to a pretraining file by the command line alone: embedded by a small pair of towers,
//! selected, and written as records to train from.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use arrow_array::{Array, cast::AsArray};
use half::f16;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use serde_json::{Value, json};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

fn command(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bunny-cli"))
        .args(arguments)
        .env("HF_HUB_OFFLINE", "1")
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What a command that went well prints.
fn bunny(folder: &Path, arguments: &[&str]) -> String {
    let output = command(folder, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a command that failed says.
fn refused(folder: &Path, arguments: &[&str]) -> String {
    let output = command(folder, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn clip() -> String {
    fixtures().join("pairs/clip").to_str().unwrap().to_owned()
}

/// A tar as img2dataset writes one: the members of a sample lie together.
fn shard(path: &Path, members: &[(String, Vec<u8>)]) {
    let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    archive.finish().unwrap();
}

/// The records of a small world.
fn world(folder: &Path) -> Vec<Value> {
    let counts = [
        "--pairs",
        "120",
        "--conversations",
        "1",
        "--questions",
        "11",
        "--texts",
        "1",
    ];
    bunny(
        folder,
        &[&["data", "synth", "--out", "world"], &counts[..]].concat(),
    );
    let records = fs::read(folder.join("world/pretrain.json")).unwrap();
    serde_json::from_slice(&records).unwrap()
}

fn caption(record: &Value) -> &str {
    record["conversations"][1]["value"].as_str().unwrap()
}

/// The world as three tars; also which keys have a whole picture and a caption.
fn shards(folder: &Path, records: &[Value]) -> Vec<String> {
    fs::create_dir(folder.join("tars")).unwrap();
    let mut keys = Vec::new();
    for (number, records) in records.chunks(40).enumerate() {
        let mut members = Vec::new();
        for (index, record) in records.iter().enumerate() {
            let key = format!("{number:05}{index:04}");
            let image = record["image"].as_str().unwrap();
            let picture = folder.join("world/pretrain/images").join(image);
            let mut picture = fs::read(picture).unwrap();
            let mut says = |ending: &str, bytes: Vec<u8>| {
                members.push((format!("{key}.{ending}"), bytes));
            };
            if (number, index) == (0, 5) {
                picture = b"<html>404</html>".to_vec();
            }
            match (number, index) {
                // A caption in the JSON alone, and none at all.
                (0, 6 | 7) => {}
                _ => says("txt", caption(record).as_bytes().to_vec()),
            }
            let mut metadata = json!({
                "key": key, "status": "success", "width": 640, "similarity": 0.25,
                "exif": "{}", "error_message": null,
            });
            if (number, index) == (0, 6) {
                metadata["caption"] = caption(record).into();
            }
            says("json", metadata.to_string().into_bytes());
            says("jpg", picture);
            if number != 0 || !matches!(index, 5 | 7) {
                keys.push(key);
            }
        }
        shard(&folder.join(format!("tars/{number:05}.tar")), &members);
    }
    keys
}

/// The rows of a file of embeddings, as numpy lays them out.
fn rows(path: &Path) -> Vec<Vec<f32>> {
    let bytes = fs::read(path).unwrap();
    assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"));
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
    assert!(
        header.starts_with("{'descr': '<f2', 'fortran_order': False, 'shape': ("),
        "{header}"
    );
    let dims = header.split(", ").nth(3).unwrap().trim_end_matches(')');
    let dims: usize = dims.trim_end_matches("),").parse().unwrap();
    let number = |bytes: &[u8]| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
    bytes[10 + length..]
        .chunks_exact(2 * dims)
        .map(|row| row.chunks_exact(2).map(number).collect())
        .collect()
}

/// Every file of a folder of embeddings and its bytes.
fn all_of(out: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for folder in ["", "img_emb", "text_emb", "metadata", "stats"] {
        for entry in fs::read_dir(out.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let name = path
                    .strip_prefix(out)
                    .unwrap()
                    .to_string_lossy()
                    .into_owned();
                all.push((name, fs::read(path).unwrap()));
            }
        }
    }
    all.sort();
    all
}

#[test]
fn a_coreset_begins_with_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let records = world(folder);
    let keys = shards(folder, &records);
    let clip = clip();
    let embed = |out: &str, more: &[&str]| -> Vec<String> {
        let verb = [
            "data", "embed", "--images", "tars", "--model", &clip, "--out", out,
        ];
        let usual = ["--part-files", "1", "--batch", "16"];
        [&verb[..], &usual[..], more]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect()
    };
    fn words(owned: &[String]) -> Vec<&str> {
        owned.iter().map(String::as_str).collect()
    }
    let said = bunny(folder, &words(&embed("embedded", &["--format", "json"])));
    let report: Value = serde_json::from_str(&said).unwrap();
    let counts = json!({"pairs": 118, "broken": 1, "without_caption": 1, "without_picture": 0});
    assert_eq!(report["counts"], counts);
    assert_eq!(report["broken"][0]["image_path"], "000000005");
    let out = folder.join("embedded");

    // The layout of clip-retrieval, the files of three parts.
    let mut found = Vec::new();
    for number in 0..3 {
        let images = rows(&out.join(format!("img_emb/img_emb_{number}.npy")));
        let texts = rows(&out.join(format!("text_emb/text_emb_{number}.npy")));
        assert_eq!(images.len(), texts.len());
        for row in images.iter().chain(&texts) {
            // 20 numbers below 1, each rounded to 2^-12 of itself.
            let length: f32 = row.iter().map(|x| x * x).sum();
            assert!((length - 1.0).abs() < 1e-3, "{length}");
        }
        let table =
            fs::File::open(out.join(format!("metadata/metadata_{number}.parquet"))).unwrap();
        for batch in ParquetRecordBatchReader::try_new(table, 1024).unwrap() {
            let batch = batch.unwrap();
            let schema = batch.schema();
            let columns: Vec<&str> = schema
                .fields()
                .iter()
                .map(|field| &**field.name())
                .collect();
            let own = [
                "image_path",
                "caption",
                "key",
                "status",
                "width",
                "similarity",
                "exif",
            ];
            assert_eq!(columns, [&own[..], &["error_message"]].concat());
            assert!(
                batch
                    .column_by_name("width")
                    .unwrap()
                    .data_type()
                    .is_integer()
            );
            let paths = batch.column(0).as_string::<i32>();
            found.extend(paths.iter().map(|path| path.unwrap().to_owned()));
            assert_eq!(
                batch.column_by_name("error_message").unwrap().null_count(),
                batch.num_rows()
            );
        }
    }
    assert_eq!(found, keys);

    // Again with nothing to do; ended before its last part was whole; and in two goes.
    let whole = all_of(&out);
    bunny(folder, &words(&embed("embedded", &[])));
    assert_eq!(all_of(&out), whole);
    for file in ["stats/part_2.json", "img_emb/img_emb_2.npy"] {
        fs::remove_file(out.join(file)).unwrap();
    }
    fs::write(out.join("text_emb/.text_emb_2.npy.tmp"), "cut short").unwrap();
    bunny(folder, &words(&embed("embedded", &[])));
    assert_eq!(all_of(&out), whole);

    // What was made of something else is not mixed with this.
    let error = refused(folder, &words(&embed("embedded", &["--limit", "50"])));
    assert!(error.contains("say --force"), "{error}");
    assert_eq!(all_of(&out), whole);
    bunny(
        folder,
        &words(&embed("embedded", &["--limit", "50", "--force"])),
    );
    let first = rows(&out.join("img_emb/img_emb_0.npy"));
    let second = rows(&out.join("img_emb/img_emb_1.npy"));
    assert_eq!((first.len(), second.len()), (38, 12));
    assert!(!out.join("img_emb/img_emb_2.npy").exists());
    bunny(folder, &words(&embed("embedded", &["--force"])));
    assert_eq!(all_of(&out), whole);
    fs::create_dir(folder.join("mine")).unwrap();
    fs::write(folder.join("mine/notes.txt"), "").unwrap();
    let error = refused(folder, &words(&embed("mine", &[])));
    assert!(error.contains("holds files already"), "{error}");

    let select = [
        "data",
        "coreset",
        "--embeddings",
        "embedded",
        "--out",
        "coreset",
        "--images",
        "tars",
        "--clusters",
        "3",
        "--threshold",
        "0.9999",
        "--score-window",
        "10-90",
        "--centroid-window",
        "none",
        "--sample",
        "20",
        "--memory",
        "64MB",
    ];
    bunny(folder, &select);
    let selected = fs::read(folder.join("coreset/pretrain.json")).unwrap();
    let selected: Vec<Value> = serde_json::from_slice(&selected).unwrap();
    assert_eq!(selected.len(), 20);
    for record in &selected {
        let key = record["id"].as_str().unwrap();
        let (number, index) = key.split_at(5);
        let place = 40 * number.parse::<usize>().unwrap() + index.parse::<usize>().unwrap();
        assert_eq!(caption(record), caption(&records[place]));
        assert_eq!(record["image"], format!("{key}.jpg"));
    }
}

#[test]
fn records_and_folders_give_what_tars_give() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let clip = clip();
    let (embed, model) = (["data", "embed", "--images"], ["--model", &clip, "--out"]);
    let records = world(folder);
    let more = ["--records", "world/pretrain.json", "--limit", "30"];
    let images = "world/pretrain/images";
    bunny(
        folder,
        &[&embed[..], &[images], &model, &["by-records"], &more].concat(),
    );
    let by_records = rows(&folder.join("by-records/img_emb/img_emb_0.npy"));
    assert_eq!(by_records.len(), 30);

    // The same pictures in a folder, in the same order, captions beside them.
    fs::create_dir(folder.join("plain")).unwrap();
    for (index, record) in records[..30].iter().enumerate() {
        let image = folder.join(images).join(record["image"].as_str().unwrap());
        let name = |ending: &str| folder.join(format!("plain/{index:03}.{ending}"));
        fs::copy(image, name("jpg")).unwrap();
        match index % 2 {
            0 => fs::write(name("txt"), caption(record)).unwrap(),
            _ => fs::write(
                name("json"),
                json!({"caption": caption(record)}).to_string(),
            )
            .unwrap(),
        }
    }
    bunny(
        folder,
        &[&embed[..], &["plain"], &model, &["by-folder"]].concat(),
    );
    for file in ["img_emb/img_emb_0.npy", "text_emb/text_emb_0.npy"] {
        let files = ["by-records", "by-folder"].map(|out| fs::read(folder.join(out).join(file)));
        let [by_records, by_folder] = files.map(Result::unwrap);
        assert!(by_records == by_folder, "{file}");
    }
    let error = refused(
        folder,
        &[&embed[..], &["world/pretrain.json"], &model, &["none"]].concat(),
    );
    assert!(error.contains("pretrain.json"), "{error}");
    let phi = fixtures().join("models/phi-siglip");
    let other = ["--model", phi.to_str().unwrap(), "--out", "none"];
    let error = refused(folder, &[&embed[..], &["plain"], &other].concat());
    assert!(error.contains("`model_type`"), "{error}");
    assert!(!folder.join("none").exists());
}

/// Through files, tars and 16 bits the vectors are still those of transformers.
#[test]
fn embeddings_are_those_of_transformers() {
    for (pair, dims) in [("clip", 20), ("siglip", 24)] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let model = fixtures().join("pairs").join(pair);
        let captions = fs::read(model.join("captions.json")).unwrap();
        let captions: Vec<Value> = serde_json::from_slice(&captions).unwrap();
        let expected = fs::read(model.join("expected.safetensors")).unwrap();
        let length = u64::from_le_bytes(expected[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&expected[8..8 + length]).unwrap();
        let expected = |name: &str, row: usize| -> Vec<f32> {
            let start = 8 + length + header[name]["data_offsets"][0].as_u64().unwrap() as usize;
            let numbers = expected[start + 4 * row * dims..]
                .chunks_exact(4)
                .take(dims);
            let numbers: Vec<f32> = numbers
                .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
                .collect();
            let norm = numbers.iter().map(|x| x * x).sum::<f32>().sqrt();
            numbers.iter().map(|x| x / norm).collect()
        };
        let pictures =
            ["models/wide.png", "pairs/noise.png"].map(|file| fs::read(fixtures().join(file)));
        let pictures = pictures.map(Result::unwrap);
        // The empty caption is none, and leaves its pair out.
        let mut members = Vec::new();
        for (index, caption) in captions.iter().enumerate() {
            let text = caption["caption"].as_str().unwrap();
            members.push((format!("{index:03}.png"), pictures[index % 2].clone()));
            members.push((format!("{index:03}.txt"), text.as_bytes().to_vec()));
        }
        shard(&folder.join("0.tar"), &members);
        let model = model.to_str().unwrap();
        bunny(
            folder,
            &[
                "data", "embed", "--images", "0.tar", "--model", model, "--out", "out",
            ],
        );
        let kept = (0..captions.len()).filter(|at| captions[*at]["caption"] != "");
        let images = rows(&folder.join("out/img_emb/img_emb_0.npy"));
        let texts = rows(&folder.join("out/text_emb/text_emb_0.npy"));
        assert_eq!(images.len(), captions.len() - 1);
        for (row, at) in kept.enumerate() {
            for (found, expected) in [
                (&images[row], expected("pictures", at % 2)),
                (&texts[row], expected("captions", at)),
            ] {
                let pairs = found.iter().zip(&expected);
                let difference = pairs.fold(0.0, |most: f32, (a, b)| most.max((a - b).abs()));
                // Half of the last of eleven bits of a number below 1.
                assert!(difference < 2.0 / 4096.0, "{pair} {at}: {difference}");
            }
        }
    }
}
