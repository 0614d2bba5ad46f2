//! From nothing to a model that answers, through the command line alone: a world is drawn, checked,
//! selected from and mixed; a tokenizer, a language model and a tower are trained, then the two
//! stages of every Bunny; the result is merged, talked with, and examined.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

/// The smallest model that learns something in a minute.
const RECIPE: &str = r#"
format_version = 1
name = "smallest"
gradient_checkpointing = false
dataloader_num_workers = 1
learning_rate = 3e-3

[language]
data_path = "world/texts.jsonl"
vocab_size = 512
model_max_length = 192
per_device_train_batch_size = 16

[language.model]
hidden_size = 64
intermediate_size = 160
num_hidden_layers = 2
num_attention_heads = 2
max_position_embeddings = 2048

[contrastive]
data_path = "coreset/pretrain.json"
image_folder = "world/pretrain/images"
per_device_train_batch_size = 32

[contrastive.vision]
hidden_size = 48
intermediate_size = 96
num_hidden_layers = 3
num_attention_heads = 2
image_size = 56
patch_size = 14

[contrastive.text]
hidden_size = 48
intermediate_size = 96
num_hidden_layers = 1
num_attention_heads = 2
max_position_embeddings = 40

[pretrain]
data_path = "coreset/pretrain.json"
image_folder = "world/pretrain/images"
per_device_train_batch_size = 16

[finetune]
data_path = "mixed.json"
image_folder = "world/finetune/images"
version = "bunny"
model_max_length = 512
num_train_epochs = 3
per_device_train_batch_size = 8
unfreeze_vision_tower = true
"#;

/// Two sources, one of them without pictures.
const MIX: &str = r#"
format_version = 1
name = "mixed"

[[source]]
name = "pictures"
path = "world/finetune.json"
filter = { image = true }

[[source]]
name = "texts"
path = "world/finetune.json"
filter = { image = false }
"#;

/// What a command that went well prints, run in `folder`.
fn bunny(folder: &Path, arguments: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_bunny-cli"))
        .args(arguments.split(' '))
        .env("HF_HUB_OFFLINE", "1")
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

fn report(folder: &Path, arguments: &str) -> Value {
    serde_json::from_str(&bunny(folder, &format!("{arguments} --format json"))).unwrap()
}

/// The 95 % interval of a model's share of right answers.
fn accuracy(folder: &Path, model: &str) -> (f64, f64) {
    let found = report(
        folder,
        &format!("eval picture-world --model {model} --data world"),
    );
    let bound = |at: usize| found["overall"]["interval"][at].as_f64().unwrap();
    (bound(0), bound(1))
}

#[test]
fn from_nothing_to_a_model_that_answers() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("recipe.toml"), RECIPE).unwrap();
    fs::write(folder.join("mix.toml"), MIX).unwrap();
    let run = |arguments: &str| bunny(folder, arguments);

    run(
        "data synth --out world --pairs 800 --conversations 1200 --questions 220 --texts 4000 --seed 1",
    );
    for stage in ["pretrain", "finetune"] {
        let found = report(
            folder,
            &format!(
                "data validate world/{stage}.json --images world/{stage}/images --stage {stage}"
            ),
        );
        assert_eq!(found["findings"], Value::Array(Vec::new()), "{stage}");
    }
    run(
        "data coreset --embeddings world/embeddings --images world/pretrain/images --out coreset \
         --clusters 4 --centroid-window none --sample 160",
    );
    run("data mix mix.toml --data . --out mixed.json");

    // Before: the same sizes, all weights as they were drawn.
    run("train recipe.toml --out start --set max_steps=1 --set learning_rate=1e-9");
    run("merge --model start/finetune --out before");
    run("train recipe.toml --out run");
    run("merge --model run/finetune --out after --dtype f16");

    let (picture, question) = ("world/test/images/00000/000000000.jpg", "Describe_it.");
    let told = report(
        folder,
        &format!("chat --model after --image {picture} --prompt {question}"),
    );
    assert!(!told["text"].as_str().unwrap().trim().is_empty());

    let (before, after) = (accuracy(folder, "before"), accuracy(folder, "after"));
    assert!(after.0 > before.1, "{before:?} before, {after:?} after");
}
