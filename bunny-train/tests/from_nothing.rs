//! A Bunny from nothing: all four stages of one recipe, each going on after a stop as if there had
//! been none, and a model at the end that can be asked.
#![recursion_limit = "256"]

mod common;

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
};

use bunny_core::{
    checkpoint::{ModelSource, Precision, StoredDtype},
    generate::{GenerationOptions, Pipeline},
};
use bunny_train::{
    contrastive::ContrastiveJob,
    language::LanguageJob,
    merge,
    metrics::METRICS_FILE,
    recipe::{Override, Recipe, Stage, StageKind},
    run::{Observer, Outcome},
    start::Places,
    trainer::Job,
};
use burn::backend::Autodiff;
use burn_flex::Flex;
use common::read_tensors;
use image::{Rgb, RgbImage};
use serde_json::json;

type B = Autodiff<Flex>;

const RECIPE: &str = r#"
format_version = 1
name = "from-nothing"
gradient_checkpointing = false
dataloader_num_workers = 1
save_steps = 2
per_device_train_batch_size = 4
learning_rate = 1e-3

[language]
vocab_size = 300
model_max_length = 48
num_train_epochs = 2
[language.model]
hidden_size = 16
intermediate_size = 32
num_hidden_layers = 2
num_attention_heads = 2
resid_pdrop = 0.1

[contrastive]
num_train_epochs = 2
[contrastive.vision]
hidden_size = 16
intermediate_size = 24
num_hidden_layers = 3
num_attention_heads = 2
image_size = 28
[contrastive.text]
hidden_size = 16
intermediate_size = 24
num_hidden_layers = 1
num_attention_heads = 2
max_position_embeddings = 12

[pretrain]

[finetune]
unfreeze_vision_tower = true
mm_projector_lr = 2e-3
"#;

const COLOURS: [(&str, [u8; 3]); 4] = [
    ("red", [230, 20, 20]),
    ("green", [20, 180, 30]),
    ("blue", [20, 40, 230]),
    ("white", [250, 250, 250]),
];

/// Sixteen pictures of one colour over another, with captions, questions and texts.
fn write_data(folder: &Path) {
    let (mut captions, mut talks, mut texts) = (Vec::new(), Vec::new(), String::new());
    for at in 0..16 {
        let ((top, above), (bottom, below)) = (COLOURS[at / 4], COLOURS[at % 4]);
        let colour = |_, y| Rgb(if y < 16 { above } else { below });
        let name = format!("{at}.png");
        let picture = RgbImage::from_fn(24, 32, colour);
        picture.save(folder.join(&name)).unwrap();
        let caption = format!("{top} over {bottom}");
        let record = |question: &str| {
            json!({"id": name, "image": name, "conversations": [
                {"from": "human", "value": question},
                {"from": "gpt", "value": caption},
            ]})
        };
        captions.push(record("<image>"));
        talks.push(record("<image>\nWhich colours?"));
        // Texts are packed into rows: it takes many for more than one step an epoch.
        let text = json!({"text": format!("Which colours? {caption}.")});
        texts += &format!("{text}\n").repeat(5);
    }
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
    write("captions.json", json!(captions).to_string());
    write("talks.json", json!(talks).to_string());
    write("texts.jsonl", texts);
}

fn recipe(data: &Path, changes: &[&str]) -> Recipe {
    let path = |name: &str| data.join(name).display().to_string();
    let mut overrides = vec![
        format!("language.data_path={}", path("texts.jsonl")),
        format!("contrastive.data_path={}", path("captions.json")),
        format!("pretrain.data_path={}", path("captions.json")),
        format!("finetune.data_path={}", path("talks.json")),
        format!("image_folder={}", data.display()),
    ];
    overrides.extend(changes.iter().map(|change| (*change).to_owned()));
    let overrides: Vec<Override> = overrides.iter().map(|text| text.parse().unwrap()).collect();
    Recipe::parse("from-nothing.toml", RECIPE, &overrides).unwrap()
}

/// Runs one stage as `bunny-cli train` does; with `stop_after`, until so many steps are taken.
fn run(kind: StageKind, stage: &Stage, out: &Path, stop_after: Option<u64>) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    let mut watch = |line: &bunny_train::metrics::StepMetrics, _: u64| {
        told.store(Some(line.step) == stop_after, Ordering::Relaxed);
    };
    let observer: Observer<'_> = &mut watch;
    let folder = out.join(kind.name());
    let (resume, device) = (true, Default::default());
    let outcome = match stage.clone() {
        Stage::Language(recipe) => LanguageJob {
            recipe,
            folder,
            resume,
            stop,
        }
        .run::<B>(Precision::F32, &device, observer),
        Stage::Contrastive(recipe) => ContrastiveJob {
            recipe,
            folder,
            resume,
            stop,
        }
        .run::<B>(Precision::F32, &device, observer),
        Stage::Bunny(recipe) => Job {
            kind,
            places: Places {
                model: PathBuf::from(&recipe.model_name_or_path),
                vision_tower: recipe.vision_tower.as_ref().map(PathBuf::from),
                projector: (kind == StageKind::Finetune).then(|| out.join("pretrain")),
                adapter: None,
            },
            recipe,
            folder,
            resume,
            stop,
        }
        .run::<B>(Precision::F32, &device, observer),
    };
    outcome.unwrap()
}

/// Every file of a finished stage by its name, but for what depends on the clock or the place.
fn results(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(path).unwrap())
        })
        .filter(|(name, _)| name != METRICS_FILE && name != "config.json")
        .collect()
}

#[test]
fn four_stages_make_a_model_that_answers_and_a_stop_between_changes_nothing() {
    let [data, straight, halting] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    write_data(data.path());
    for (folder, halts) in [(straight.path(), false), (halting.path(), true)] {
        let recipe = recipe(data.path(), &[]).with_results_in(folder);
        let kinds: Vec<_> = recipe.stages.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, StageKind::ALL);
        for (kind, stage) in &recipe.stages {
            if halts {
                assert!(!run(*kind, stage, folder, Some(3)).is_complete(), "{kind}");
            }
            assert!(run(*kind, stage, folder, None).is_complete(), "{kind}");
        }
    }
    for kind in StageKind::ALL {
        let [one, other] = [&straight, &halting].map(|out| results(&out.path().join(kind.name())));
        assert!(!one.is_empty() && one.keys().eq(other.keys()), "{kind}");
        for (file, bytes) in &one {
            assert!(bytes == &other[file], "{kind}/{file} differs");
        }
    }

    // The tower learnt with the rest, and is in the model.
    let tuned = read_tensors(&straight.path().join("finetune/model.safetensors"));
    let tower = read_tensors(&straight.path().join("contrastive/model.safetensors"));
    let weight = "vision_model.encoder.layers.0.mlp.fc1.weight";
    let inside = &tuned[&format!("model.vision_tower.vision_tower.{weight}")];
    assert!(*inside != tower[weight]);
    // Two of the tower's three layers.
    assert!(!tuned.keys().any(|name| name.contains("encoder.layers.2.")));

    let merged = tempfile::tempdir().unwrap();
    let source = ModelSource::merged(straight.path().join("finetune"));
    merge::merge(&source, merged.path(), StoredDtype::F16).unwrap();
    let source = ModelSource::merged(merged.path());
    let pipeline = Pipeline::<Flex>::load(&source, Precision::F32, Default::default()).unwrap();
    let options = GenerationOptions {
        max_new_tokens: 4,
        ..GenerationOptions::default()
    };
    let picture = RgbImage::from_pixel(40, 30, Rgb([230, 20, 20]));
    let answer = pipeline
        .chat()
        .ask("Which colours?", &[picture], &options, |_| {
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(answer.text.len() < 100);
}

#[test]
fn a_tuned_tower_beside_adapters_goes_into_the_merged_model() {
    let [data, out] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    write_data(data.path());
    let changes = [
        "finetune.lora_enable=true",
        "finetune.lora_r=4",
        "max_steps=2",
    ];
    let recipe = recipe(data.path(), &changes).with_results_in(out.path());
    for (kind, stage) in &recipe.stages {
        run(*kind, stage, out.path(), None);
    }
    let source = ModelSource {
        model: out.path().join("finetune"),
        base: Some(out.path().join("language")),
        vision_tower: None,
    };
    let merged = out.path().join("merged");
    merge::merge(&source, &merged, StoredDtype::F32).unwrap();
    let learnt = read_tensors(&out.path().join("finetune/non_lora_trainables.safetensors"));
    let tensors = read_tensors(&merged.join("model.safetensors"));
    let tower: Vec<_> = learnt
        .iter()
        .filter(|(name, _)| name.contains("vision_tower"))
        .collect();
    assert!(tower.len() > 30);
    for (name, values) in tower {
        let name = name.trim_start_matches("base_model.model.");
        assert!(tensors[name] == *values, "{name}");
    }
    ModelSource::merged(merged).open().unwrap();
}

#[test]
fn losses_fall_in_the_stages_that_start_from_nothing() {
    let [data, out] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    write_data(data.path());
    let changes = [
        "num_train_epochs=40",
        "learning_rate=5e-3",
        "contrastive.per_device_train_batch_size=16",
        "language.model.initializer_range=0.1",
        "save_steps=1000",
    ];
    let recipe = recipe(data.path(), &changes).with_results_in(out.path());
    for (kind, stage) in &recipe.stages[..2] {
        let outcome = run(*kind, stage, out.path(), None);
        let steps = bunny_train::metrics::read(&out.path().join(kind.name()).join(METRICS_FILE));
        let (first, last) = (steps.unwrap()[0].loss, outcome.last_loss.unwrap());
        // Texts are all but the same sentence; of sixteen pairs each has its own picture.
        assert!(last < first / 4.0, "{kind}: {first} {last}");
    }
}
