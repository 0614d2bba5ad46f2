//! Continuous training as the reference has it, through the command line: a model is trained and merged,
//! `continuous_training` is written into its `config.json`, and training goes on from it, with the tower
//! that lies in it and no other.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use bunny_weights::TensorFiles;
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn run(folder: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bunny-cli"))
        .args(arguments.split(' '))
        .env("HF_HUB_OFFLINE", "1")
        .env_remove("RUST_LOG")
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What a command that went well prints.
fn bunny(folder: &Path, arguments: &str) -> String {
    let output = run(folder, arguments);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

fn read(file: PathBuf) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

fn recipe(name: &str, model: &str, more: &str) -> String {
    let data = root().join("tests/fixtures/training");
    let data = data.to_str().unwrap().replace('\\', "/");
    format!(
        r#"
format_version = 1
name = "{name}"
model_name_or_path = "{model}"
model_max_length = 512
image_folder = "{data}/pictures"
per_device_train_batch_size = 4
dataloader_num_workers = 1
gradient_checkpointing = false
max_steps = 4
learning_rate = 5e-3

[finetune]
data_path = "{data}/finetune.json"
version = "bunny"
{more}
"#
    )
}

const LORA: &str = "lora_enable = true\nlora_r = 8\nlora_alpha = 16\n";

/// The tensors of a model's part, by their names.
fn part(folder: &Path, start: &str) -> Vec<(String, Vec<u8>)> {
    let files = TensorFiles::open_folder(folder).unwrap();
    let names: Vec<String> = files
        .names()
        .filter(|name| name.starts_with(start))
        .map(str::to_owned)
        .collect();
    assert!(!names.is_empty(), "{start}");
    let bytes = |name: String| {
        let tensor = files.get(&name).unwrap();
        (name, tensor.bytes.to_vec())
    };
    names.into_iter().map(bytes).collect()
}

const TOWER: &str = "model.vision_tower.";
const PROJECTOR: &str = "model.mm_projector.";

#[test]
fn training_goes_on_from_what_it_has_made() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    bunny(folder, "model unpack small");
    // The tower learns, so that another one than that of the merged folder would be noticed.
    let first = recipe(
        "first",
        "small",
        &format!("{LORA}unfreeze_vision_tower = true\n"),
    );
    fs::write(folder.join("first.toml"), first).unwrap();
    bunny(folder, "train first.toml --out one");
    bunny(
        folder,
        "merge --model one/finetune --out merged --dtype f32",
    );
    assert_ne!(
        part(&folder.join("merged"), TOWER),
        part(&folder.join("small"), TOWER)
    );

    let file = folder.join("merged/config.json");
    let mut config = read(file.clone());
    config["continuous_training"] = true.into();
    fs::write(&file, config.to_string()).unwrap();
    fs::write(folder.join("second.toml"), recipe("second", "merged", LORA)).unwrap();
    bunny(folder, "train second.toml --out two");

    // Said once, of what was gone on from; the base of the adapter is the whole Bunny.
    let said = read(folder.join("two/finetune/config.json"));
    assert_eq!(said["continuous_training"], false);
    let adapter = read(folder.join("two/finetune/adapter_config.json"));
    assert_eq!(adapter["base_model_name_or_path"], "merged");

    bunny(folder, "merge --model two/finetune --out again --dtype f32");
    let (merged, again) = (folder.join("merged"), folder.join("again"));
    // The tower of the model that was gone on from, to the bit; the projector has learnt on.
    assert_eq!(part(&again, TOWER), part(&merged, TOWER));
    assert_ne!(part(&again, PROJECTOR), part(&merged, PROJECTOR));
    assert_ne!(
        part(&again, "model.layers."),
        part(&merged, "model.layers.")
    );
    assert_eq!(
        read(again.join("config.json"))["continuous_training"],
        false
    );

    // Its first loss is where the first run has come to, and not where that began.
    let losses = |run: &str| -> Vec<f64> {
        let text = fs::read_to_string(folder.join(run).join("finetune/metrics.jsonl")).unwrap();
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter_map(|line| line["loss"].as_f64()).collect()
    };
    let (one, two) = (losses("one"), losses("two"));
    assert!(two[0] < one[0], "{one:?} then {two:?}");
    let answer = bunny(
        folder,
        "chat --model again --prompt Hello --max-new-tokens 4 --format json",
    );
    assert_eq!(
        serde_json::from_str::<Value>(&answer).unwrap()["format_version"],
        json!(1)
    );
}

/// A LLaVA of transformers is gone on from as any model.
#[test]
fn training_goes_on_from_a_llava() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    bunny(folder, "export llava builtin --out llava");
    fs::write(folder.join("recipe.toml"), recipe("llava", "llava", LORA)).unwrap();
    bunny(folder, "train recipe.toml --out run");
    bunny(folder, "merge --model run/finetune --out merged");
    let config = read(folder.join("merged/config.json"));
    assert_eq!(config["model_type"], "bunny-phi");
    assert!(config.get("vision_config").is_none(), "{config}");
    let inspected = bunny(folder, "model inspect merged --format json");
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["vision_tower"]["kind"], "siglip");
    bunny(
        folder,
        "chat --model merged --prompt Hello --max-new-tokens 4 --format json",
    );
}

#[test]
fn a_model_is_exported_as_a_llava_with_a_card_and_into_a_new_folder_alone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let printed = bunny(folder, "export llava builtin --out llava");
    for file in [
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        assert!(folder.join("llava").join(file).exists(), "{file}");
        assert!(printed.contains(file), "{file}: {printed}");
    }
    let card = fs::read_to_string(folder.join("llava/README.md")).unwrap();
    for said in [
        "license: mit OR apache-2.0",
        "# llava",
        "LlavaForConditionalGeneration",
    ] {
        assert!(card.contains(said), "{said}: {card}");
    }
    let refused = |arguments: &str| {
        let output = run(folder, arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    };
    assert!(refused("export llava builtin --out llava").contains("holds files already"));
    assert!(refused("export llava llava --out llava --force").contains("it is read"));
    // Known from its name: nothing is asked of a hub.
    let eva = refused("export llava bunny-phi-2-eva --out eva");
    assert!(eva.contains("EVA-CLIP"), "{eva}");
    assert!(!folder.join("eva").exists());
    // It is asked, inspected and exported as any model.
    let inspected = bunny(folder, "model inspect llava --format json");
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["model_type"], "bunny-phi");
    assert_eq!(inspected["language_model"]["vocab_size"], 769);
    let picture = root().join("examples/pictures/shapes.jpg");
    let ask = |model: &str| {
        let picture = picture.display();
        let arguments =
            format!("chat --model {model} --image {picture} --prompt Describe_it. --format json");
        let answer: Value = serde_json::from_str(&bunny(folder, &arguments)).unwrap();
        answer["generated_ids"].clone()
    };
    assert_eq!(ask("llava"), ask("builtin"));
}
