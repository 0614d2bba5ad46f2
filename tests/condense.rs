//! From tars to a trained projector by one recipe and one command, over a small world: what the verbs do
//! one after another, to the byte, and gone on with where it was ended.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    sync::Arc,
};

use arrow_array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

fn fixtures() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    folder.canonicalize().unwrap().to_str().unwrap().to_owned()
}

/// Runs it in `folder`.
fn bunny(folder: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bunny-cli"))
        .args(arguments.split(' '))
        .env("HF_HUB_OFFLINE", "1")
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What a command that went well prints.
fn said(folder: &Path, arguments: &str) -> String {
    let output = bunny(folder, arguments);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a command that failed says.
fn refused(folder: &Path, arguments: &str) -> String {
    let output = bunny(folder, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments}");
    String::from_utf8(output.stderr).unwrap()
}

/// The pairs of a small world as img2dataset leaves them: three tars, one of a picture that is broken.
fn tars(folder: &Path) {
    said(
        folder,
        "data synth --out world --pairs 90 --conversations 1 --questions 11 --texts 1",
    );
    let records = fs::read(folder.join("world/pretrain.json")).unwrap();
    let records: Vec<Value> = serde_json::from_slice(&records).unwrap();
    fs::create_dir(folder.join("tars")).unwrap();
    for (shard, records) in records.chunks(30).enumerate() {
        let file = fs::File::create(folder.join(format!("tars/{shard:05}.tar"))).unwrap();
        let mut archive = tar::Builder::new(file);
        for (index, record) in records.iter().enumerate() {
            let key = format!("{shard:05}{index:04}");
            let picture = folder
                .join("world/pretrain/images")
                .join(record["image"].as_str().unwrap());
            let picture = match (shard, index) {
                (1, 3) => b"<html>404</html>".to_vec(),
                _ => fs::read(picture).unwrap(),
            };
            let caption = record["conversations"][1]["value"].as_str().unwrap();
            for (ending, bytes) in [
                ("jpg", &picture[..]),
                ("txt", caption.as_bytes()),
                ("json", json!({"key": key}).to_string().as_bytes()),
            ] {
                let mut header = tar::Header::new_ustar();
                header.set_size(bytes.len() as u64);
                header.set_mode(0o644);
                let name = format!("{key}.{ending}");
                archive.append_data(&mut header, name, bytes).unwrap();
            }
        }
        archive.finish().unwrap();
    }
}

const SELECTION: &str = r#"
[coreset]
clusters = 3
threshold = 0.9999
score_window = "10-90"
centroid_window = "none"
sample = 24
"#;

/// The chain, with a training over the small random Bunny whose own records are not there.
fn recipe(folder: &Path) -> String {
    let fixtures = fixtures();
    let training = format!(
        "format_version = 1
model_name_or_path = '{fixtures}/models/phi-siglip-lora/base'
vision_tower = '{fixtures}/models/phi-siglip-lora/siglip-tower'
model_max_length = 256
per_device_train_batch_size = 4
save_steps = 2
max_steps = 4
[pretrain]
data_path = 'elsewhere.json'
image_folder = 'elsewhere'
[finetune]
data_path = 'elsewhere.json'
"
    );
    fs::write(folder.join("training.toml"), training).unwrap();
    format!(
        "format_version = 1
name = 'chain'
[embed]
images = '../tars'
model = '{fixtures}/pairs/clip'
part_files = 1
batch = 16
{SELECTION}
[train]
recipe = 'training.toml'
stage = 'pretrain'
set = ['pretrain.learning_rate=1e-3']
"
    )
}

fn read(path: impl AsRef<Path>) -> Vec<u8> {
    let path = path.as_ref();
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn one_recipe_does_what_the_verbs_do_one_after_another() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tars(folder);
    // Beside the recipe, from which its paths start where they lead nowhere from here.
    fs::create_dir(folder.join("mine")).unwrap();
    let chain = recipe(&folder.join("mine"));
    fs::write(folder.join("mine/chain.toml"), &chain).unwrap();

    let printed = said(folder, "data condense mine/chain.toml");
    assert!(printed.contains("89 pairs"), "{printed}");
    assert!(printed.contains("1 pictures are broken"), "{printed}");
    let out = folder.join("runs/chain");
    let records: Vec<Value> =
        serde_json::from_slice(&read(out.join("coreset/pretrain.json"))).unwrap();
    assert_eq!(records.len(), 24);
    let projector = read(out.join("pretrain/mm_projector.safetensors"));

    // The same as by hand.
    let clip = format!("{}/pairs/clip", fixtures());
    said(
        folder,
        &format!("data embed --images tars --model {clip} --out e --part-files 1 --batch 16"),
    );
    said(
        folder,
        "data coreset --embeddings e --images mine/../tars --out c --clusters 3 --threshold 0.9999 \
         --score-window 10-90 --centroid-window none --sample 24",
    );
    for part in ["img_emb/img_emb_2.npy", "metadata/metadata_0.parquet"] {
        assert!(read(folder.join("e").join(part)) == read(out.join("embeddings").join(part)));
    }
    for file in ["keys.txt", "pretrain.json", "kept.parquet", "centroids.npy"] {
        assert!(
            read(folder.join("c").join(file)) == read(out.join("coreset").join(file)),
            "{file}"
        );
    }

    // Ended in the middle of each step, it goes on and leaves the same.
    fs::remove_file(out.join("embeddings/stats/part_2.json")).unwrap();
    fs::remove_dir_all(out.join("coreset")).unwrap();
    for entry in fs::read_dir(out.join("pretrain")).unwrap() {
        let path = entry.unwrap().path();
        let is_last = path.ends_with("checkpoint-4");
        if is_last {
            fs::remove_dir_all(path).unwrap();
        } else if path.ends_with("mm_projector.safetensors") {
            fs::remove_file(path).unwrap();
        }
    }
    said(folder, "data condense mine/chain.toml");
    assert!(read(out.join("pretrain/mm_projector.safetensors")) == projector);
    said(folder, "data condense mine/chain.toml");
    assert!(read(out.join("pretrain/mm_projector.safetensors")) == projector);

    // Another selection is not written over this one unless it is said.
    fs::write(
        folder.join("mine/chain.toml"),
        chain.replace("sample = 24", "sample = 20"),
    )
    .unwrap();
    let error = refused(folder, "data condense mine/chain.toml");
    assert!(error.contains("--force"), "{error}");
}

#[test]
fn what_would_stop_the_training_is_told_before_anything_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let chain = recipe(folder);
    let with = |chain: String| {
        fs::write(folder.join("chain.toml"), chain).unwrap();
        let error = refused(folder, "data condense chain.toml --out out");
        assert!(!folder.join("out").exists());
        error
    };
    // Stage finetune has records of its own.
    let error = with(chain.replace("stage = 'pretrain'\n", ""));
    assert!(
        error.contains("finetune.data_path = elsewhere.json"),
        "{error}"
    );
    let error = with(chain.replace("'training.toml'", "'bunny-phi2-siglip'"));
    assert!(error.contains("bunny-phi2-siglip"), "{error}");
    let error = with(chain.replace("learning_rate=", "lerning_rate="));
    assert!(error.contains("`learning_rate`"), "{error}");
    let error = with(chain.replace("part_files = 1", "part_file = 1"));
    assert!(
        error.contains("chain.toml: line 6: ") && error.contains("`part_files`"),
        "{error}"
    );
}

#[test]
fn records_and_tables_are_condensed_without_training() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    said(
        folder,
        "data synth --out world --pairs 60 --conversations 1 --questions 11 --texts 1",
    );
    let condensed = |name: &str, source: &str| -> (String, Vec<Value>) {
        let chain = format!(
            "format_version = 1\nname = '{name}'\n[embed]\n{source}\n\
             model = '{}/pairs/clip'\n{SELECTION}",
            fixtures()
        );
        fs::write(folder.join("chain.toml"), chain).unwrap();
        let printed = said(folder, "data condense chain.toml --threads 1");
        let records = read(folder.join("runs").join(name).join("coreset/pretrain.json"));
        (printed, serde_json::from_slice(&records).unwrap())
    };
    let pictures = folder.join("world/pretrain/images");

    let source = "images = 'world/pretrain/images'\nrecords = 'world/pretrain.json'";
    let (printed, by_records) = condensed("records", source);
    let hint = "bunny-cli train --set pretrain.data_path=runs/records/coreset/pretrain.json \
                --set pretrain.image_folder=world/pretrain/images";
    assert!(printed.contains(hint), "{printed}");
    assert_eq!(by_records.len(), 24);
    for record in &by_records {
        let image = record["image"].as_str().unwrap();
        assert!(pictures.join(image).is_file(), "{image}");
    }

    // The same pairs in a table, pictures and all.
    let records: Vec<Value> =
        serde_json::from_slice(&read(folder.join("world/pretrain.json"))).unwrap();
    let bytes = records
        .iter()
        .map(|record| read(pictures.join(record["image"].as_str().unwrap())));
    let captions = records
        .iter()
        .map(|record| record["conversations"][1]["value"].as_str());
    let columns: [(&str, ArrayRef); 2] = [
        ("image", Arc::new(BinaryArray::from_iter_values(bytes))),
        ("caption", Arc::new(captions.collect::<StringArray>())),
    ];
    let table = RecordBatch::try_from_iter(columns).unwrap();
    let file = fs::File::create(folder.join("pairs.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, table.schema(), None).unwrap();
    writer.write(&table).unwrap();
    writer.close().unwrap();
    let (_, by_table) = condensed("table", "images = 'pairs.parquet'");
    assert_eq!(by_table.len(), 24);
    for record in &by_table {
        let image = record["image"].as_str().unwrap();
        assert!(image.starts_with("parquet:image/"), "{image}");
    }
}
