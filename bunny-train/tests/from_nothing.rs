//! A Bunny from nothing: all four stages of one recipe, each going on after a stop as if there had
//! been none, and a model at the end that can be asked.
#![recursion_limit = "256"]

mod common;

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use bunny_core::{
    Bunny,
    checkpoint::{ModelSource, Precision},
    generate::{GenerationOptions, Pipeline},
};
use bunny_train::{
    TrainError, merge,
    recipe::{Override, PicturePolicy, Recipe, StageKind, StageRecipe},
    run::{Job, Observer, Outcome, Stage, checkpoint, metrics::METRICS_FILE},
    stages::{BunnySetup, BunnyStage, ContrastiveStage, LanguageStage, ModelPaths},
};
use bunny_weights::StoredDtype;
use burn::{backend::Autodiff, tensor::DType};
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
fn run(kind: StageKind, recipe: &StageRecipe, out: &Path, stop_after: Option<u64>) -> Outcome {
    let folder = out.join(kind.name());
    match recipe.clone() {
        StageRecipe::Language(recipe) => follow(LanguageStage { recipe }, folder, stop_after),
        StageRecipe::Contrastive(recipe) => follow(ContrastiveStage { recipe }, folder, stop_after),
        StageRecipe::Bunny(recipe) => {
            let stage = BunnyStage {
                kind,
                paths: ModelPaths {
                    model: PathBuf::from(&recipe.model_name_or_path),
                    vision_tower: recipe.vision_tower.as_ref().map(PathBuf::from),
                    projector: (kind == StageKind::Finetune).then(|| out.join("pretrain")),
                    adapter: None,
                },
                recipe,
            };
            follow(stage, folder, stop_after)
        }
    }
}

fn follow(stage: impl Stage, folder: PathBuf, stop_after: Option<u64>) -> Outcome {
    let mut job = Job::new(stage, folder);
    job.resume = true;
    let told = job.stop.clone();
    let mut watch = |line: &bunny_train::run::metrics::StepMetrics, _: u64| {
        told.store(Some(line.step) == stop_after, Ordering::Relaxed);
    };
    let observer: Observer<'_> = &mut watch;
    job.run::<B>(Precision::F32, &Default::default(), observer)
        .unwrap()
}

/// All four stages, the last one with adapters, at two steps each.
fn tune_by_adapters(out: &Path) -> Recipe {
    let data = tempfile::tempdir().unwrap();
    write_data(data.path());
    let changes = [
        "finetune.lora_enable=true",
        "finetune.lora_r=4",
        "max_steps=2",
    ];
    let recipe = recipe(data.path(), &changes).with_results_in(out);
    for (kind, stage) in &recipe.stages {
        run(*kind, stage, out, None);
    }
    recipe
}

/// The stage that makes the tower.
fn tower_job(recipe: &Recipe, out: &Path) -> Job<ContrastiveStage> {
    let (kind, StageRecipe::Contrastive(contrastive)) = &recipe.stages[1] else {
        panic!("the tower comes second");
    };
    let recipe = contrastive.clone();
    let mut job = Job::new(ContrastiveStage { recipe }, out.join(kind.name()));
    job.resume = true;
    job
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
    let out = tempfile::tempdir().unwrap();
    tune_by_adapters(out.path());
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
    // What nobody reads and the reference asks for comes from the tower's own files.
    let given = read_tensors(&out.path().join("contrastive/model.safetensors"));
    let mut unread = 0;
    for (name, values) in given
        .iter()
        .filter(|(name, _)| name.starts_with("vision_model."))
    {
        let inside = &tensors[&format!("model.vision_tower.vision_tower.{name}")];
        if name.contains(".layers.2.") || name.contains(".head.") {
            assert!(inside == values, "{name}");
            unread += 1;
        }
    }
    assert!(unread > 20);

    // An average tells its tower's sizes as its models do.
    let mean = out.path().join("mean");
    let half = |model: &PathBuf| (model.clone(), 0.5);
    merge::average(&[half(&merged), half(&merged)], &mean).unwrap();
    let open = [&merged, &mean].map(|model| ModelSource::merged(model).open().unwrap());
    assert_eq!(open[0].config.vision, open[1].config.vision);
}

#[test]
fn an_adapter_to_start_from_brings_the_projector_that_learnt_beside_it() {
    let out = tempfile::tempdir().unwrap();
    let recipe = tune_by_adapters(out.path());
    let Some((_, StageRecipe::Bunny(finetune))) = recipe.stages.last() else {
        panic!("the last stage is a Bunny's own");
    };
    let paths = ModelPaths {
        model: out.path().join("language"),
        vision_tower: Some(out.path().join("contrastive")),
        projector: Some(out.path().join("pretrain")),
        adapter: Some(out.path().join("finetune")),
    };
    let setup = BunnySetup::open(finetune, &paths).unwrap();
    let model: Bunny<Flex> = setup
        .load(finetune, Precision::F32, &Default::default())
        .unwrap();
    let learnt = read_tensors(&out.path().join("finetune/non_lora_trainables.safetensors"));
    for (name, values) in &learnt {
        let name = name.trim_start_matches("base_model.model.");
        let found = model.named_parameters().into_iter();
        let found = found.filter(|one| one.name == name);
        let numbers: Vec<f32> = found
            .flat_map(|one| one.pieces)
            .flat_map(|piece| piece.to_data().iter::<f32>().collect::<Vec<_>>())
            .collect();
        assert!(numbers == *values, "{name}");
    }
    assert!(learnt.keys().any(|name| name.contains("mm_projector")));
}

#[test]
fn a_run_over_other_texts_does_not_go_on_and_keeps_its_tokenizer() {
    let [data, out] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    write_data(data.path());
    let recipe = recipe(data.path(), &[]).with_results_in(out.path());
    let (kind, StageRecipe::Language(language)) = &recipe.stages[0] else {
        panic!("the language model comes first");
    };
    run(*kind, &recipe.stages[0].1, out.path(), Some(2));
    let folder = out.path().join("language");
    let tokenizer = std::fs::read(folder.join("tokenizer.json")).unwrap();
    // The same path, other words, and more of them.
    let texts: String = (0..400)
        .map(|at| format!("{{\"text\": \"word{at} follows word{at}\"}}\n"))
        .collect();
    std::fs::write(data.path().join("texts.jsonl"), texts).unwrap();
    let stage = LanguageStage {
        recipe: language.clone(),
    };
    let mut job = Job::new(stage, folder.clone());
    job.resume = true;
    let go_on = |job: &Job<LanguageStage>, precision| {
        let error = job.run::<B>(precision, &Default::default(), &mut |_, _| {});
        error.unwrap_err().to_string()
    };
    let error = go_on(&job, Precision::F32);
    assert!(error.contains("number of records was"), "{error}");
    let kept = std::fs::read(folder.join("tokenizer.json")).unwrap();
    assert!(kept == tokenizer, "the tokenizer was trained anew");

    write_data(data.path());
    let error = go_on(&job, Precision::weights_only(DType::BF16));
    let said = "dtype was f32 and is bf16 weights, f32 activations";
    assert!(error.contains(said), "{error}");
    job.stage.recipe.training.save_steps = 1;
    let outcome = job.run::<B>(Precision::F32, &Default::default(), &mut |_, _| {});
    assert!(outcome.unwrap().is_complete());
}

#[test]
fn an_evaluation_that_fails_does_not_cost_the_steps_before_it() {
    let [data, out] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    write_data(data.path());
    let recipe = recipe(data.path(), &["max_steps=3", "contrastive.save_steps=100"]);
    let recipe = recipe.with_results_in(out.path());
    run(recipe.stages[0].0, &recipe.stages[0].1, out.path(), None);
    let captions = std::fs::read_to_string(data.path().join("captions.json")).unwrap();
    let unseen = data.path().join("unseen.json");
    std::fs::write(&unseen, captions.replace("7.png", "none.png")).unwrap();
    let mut job = tower_job(&recipe, out.path());
    job.stage.recipe.training.eval_data_path = Some(unseen);
    let ran = |job: &Job<ContrastiveStage>| {
        job.run::<B>(Precision::F32, &Default::default(), &mut |_, _| {})
    };
    let error = ran(&job).unwrap_err();
    assert!(matches!(error, TrainError::Picture { .. }), "{error}");
    let kept: Vec<u64> = checkpoint::list(&job.folder)
        .unwrap()
        .into_iter()
        .map(|(step, _)| step)
        .collect();
    assert_eq!(kept, [3]);
    job.stage.recipe.training.eval_data_path = None;
    assert!(ran(&job).unwrap().is_complete());
}

#[test]
fn a_tower_of_pictures_that_are_all_missing_is_refused() {
    let [data, out, empty] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    write_data(data.path());
    let recipe = recipe(data.path(), &[]).with_results_in(out.path());
    run(recipe.stages[0].0, &recipe.stages[0].1, out.path(), None);
    let mut job = tower_job(&recipe, out.path());
    job.stage.recipe.image_folder = Some(empty.path().to_path_buf());
    job.stage.recipe.missing_pictures = PicturePolicy::Skip;
    let error = job
        .run::<B>(Precision::F32, &Default::default(), &mut |_, _| {})
        .unwrap_err();
    assert!(matches!(error, TrainError::NoPictures { .. }), "{error}");
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
        let steps =
            bunny_train::run::metrics::read(&out.path().join(kind.name()).join(METRICS_FILE));
        let (first, last) = (steps.unwrap()[0].loss, outcome.last_loss.unwrap());
        // Texts are all but the same sentence; of sixteen pairs each has its own picture.
        assert!(last < first / 4.0, "{kind}: {first} {last}");
    }
}
