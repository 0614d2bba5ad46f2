//! Learning really happens: a tiny model learns 64 picture-question pairs by heart, and by the
//! pictures; and what it has learnt is the same after merging.
#![recursion_limit = "256"]

mod common;

use std::{ops::ControlFlow, path::Path};

use bunny_core::{
    checkpoint::{ModelSource, Precision},
    generate::{GenerationOptions, Pipeline},
    input::image::Aspect,
};
use bunny_train::{
    merge,
    recipe::{BunnyRecipe, StageKind, TrainingArguments},
    run::Job,
    stages::{BunnyStage, ModelPaths},
};
use bunny_weights::StoredDtype;
use burn::backend::Autodiff;
use burn_flex::Flex;
use common::fixtures;
use image::{Rgb, RgbImage};
use serde_json::json;

const PAIRS: usize = 64;
const QUESTION: &str = "What is it?";
const COLOURS: [(&str, [u8; 3]); 8] = [
    ("red", [230, 20, 20]),
    ("green", [20, 180, 30]),
    ("blue", [20, 40, 230]),
    ("white", [250, 250, 250]),
    ("black", [5, 5, 5]),
    ("yellow", [240, 230, 20]),
    ("pink", [240, 120, 200]),
    ("grey", [120, 120, 120]),
];

/// Two colours, one over the other, in all 64 ways; the answer names both.
fn pair(at: usize) -> (RgbImage, String) {
    let ((top, above), (bottom, below)) = (COLOURS[at / 8], COLOURS[at % 8]);
    let colour = |_, y| Rgb(if y < 14 { above } else { below });
    (
        RgbImage::from_fn(28, 28, colour),
        format!("{top} over {bottom}."),
    )
}

fn write_data(folder: &Path) {
    let records: Vec<_> = (0..PAIRS)
        .map(|at| {
            let (picture, answer) = pair(at);
            picture.save(folder.join(format!("{at}.png"))).unwrap();
            json!({
                "id": format!("pair-{at}"),
                "image": format!("{at}.png"),
                "conversations": [
                    {"from": "human", "value": format!("<image>\n{QUESTION}")},
                    {"from": "gpt", "value": answer},
                ],
            })
        })
        .collect();
    std::fs::write(folder.join("pairs.json"), json!(records).to_string()).unwrap();
}

fn job(data: &Path, folder: &Path) -> Job<BunnyStage> {
    let model = fixtures().join("models/phi-siglip");
    let stage = BunnyStage {
        kind: StageKind::Finetune,
        paths: ModelPaths {
            vision_tower: Some(model.join("siglip-tower")),
            model: model.clone(),
            ..ModelPaths::default()
        },
        recipe: BunnyRecipe {
            model_name_or_path: model.display().to_string(),
            image_folder: Some(data.to_path_buf()),
            image_aspect_ratio: Some(Aspect::Pad),
            tune_mm_mlp_adapter: Some(false),
            unfreeze_vision_tower: true,
            gradient_checkpointing: false,
            training: TrainingArguments {
                data_path: data.join("pairs.json"),
                learning_rate: 3e-3,
                num_train_epochs: 60.0,
                per_device_train_batch_size: 16,
                dataloader_num_workers: 1,
                save_steps: 1000,
                ..TrainingArguments::default()
            },
            ..BunnyRecipe::default()
        },
    };
    Job::new(stage, folder)
}

/// How many pairs a model answers to the letter, its picture being that of pair `at + shift`.
fn exact(source: &ModelSource, shift: usize) -> usize {
    let pipeline = Pipeline::<Flex>::load(source, Precision::F32, Default::default()).unwrap();
    let options = GenerationOptions {
        max_new_tokens: 24,
        ..GenerationOptions::default()
    };
    let right = |at: &usize| {
        let (picture, _) = pair((at + shift) % PAIRS);
        let mut chat = pipeline.chat();
        let answer = chat
            .ask(
                QUESTION,
                &[picture],
                &options,
                |_| ControlFlow::Continue(()),
            )
            .unwrap();
        answer.text == pair(*at).1
    };
    (0..PAIRS).filter(right).count()
}

#[test]
fn a_tiny_model_learns_64_pictures_by_heart_and_fails_when_they_are_swapped() {
    let (data, run) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_data(data.path());
    let outcome = job(data.path(), run.path())
        .run::<Autodiff<Flex>>(Precision::F32, &Default::default(), &mut |_, _| {})
        .unwrap();
    let source = ModelSource::merged(run.path());
    assert_eq!(
        exact(&source, 0),
        PAIRS,
        "the last loss was {:?}",
        outcome.last_loss
    );
    assert_eq!(exact(&source, 1), 0);
}

#[test]
fn merged_adapters_answer_as_unmerged_ones() {
    let (run, merged) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut job = common::Stage::run("tower").job(run.path());
    job.stage.recipe.training.max_steps = Some(3);
    job.stage.recipe.training.learning_rate = 2e-2;
    job.run::<Autodiff<Flex>>(Precision::F32, &Default::default(), &mut |_, _| {})
        .unwrap();
    let source = ModelSource {
        model: run.path().to_path_buf(),
        base: Some(job.stage.paths.model.clone()),
        vision_tower: job.stage.paths.vision_tower.clone(),
    };
    merge::merge(&source, merged.path(), StoredDtype::F32).unwrap();
    let tensors = common::read_tensors(&merged.path().join("model.safetensors"));
    let before = common::read_tensors(&job.stage.paths.model.join("model.safetensors"));
    assert_eq!(
        tensors.keys().collect::<Vec<_>>(),
        before.keys().collect::<Vec<_>>()
    );
    let product = "model.layers.0.mlp.fc1.weight";
    assert!(
        tensors[product] != before[product],
        "the adapter has changed nothing"
    );

    let answers = [&source, &ModelSource::merged(merged.path())].map(|source| {
        let pipeline = Pipeline::<Flex>::load(source, Precision::F32, Default::default()).unwrap();
        let mut chat = pipeline.chat();
        let options = GenerationOptions {
            max_new_tokens: 12,
            ..GenerationOptions::default()
        };
        let (picture, _) = pair(7);
        chat.ask(
            QUESTION,
            &[picture],
            &options,
            |_| ControlFlow::Continue(()),
        )
        .unwrap()
        .text
    });
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn an_average_is_the_weighted_sum_of_its_models() {
    let before = fixtures().join("models/phi-siglip");
    let [run, tuned, plain, out] = [(); 4].map(|()| tempfile::tempdir().unwrap());
    let mut job = common::Stage::run("tower").job(run.path());
    job.stage.recipe.training.max_steps = Some(3);
    job.run::<Autodiff<Flex>>(Precision::F32, &Default::default(), &mut |_, _| {})
        .unwrap();
    let source = ModelSource {
        model: run.path().to_path_buf(),
        base: Some(before.clone()),
        vision_tower: job.stage.paths.vision_tower.clone(),
    };
    merge::merge(&source, tuned.path(), StoredDtype::F32).unwrap();
    merge::merge(
        &ModelSource::merged(&before),
        plain.path(),
        StoredDtype::F32,
    )
    .unwrap();

    let models = [
        (plain.path().to_path_buf(), 0.42),
        (tuned.path().to_path_buf(), 0.58),
    ];
    merge::average(&models, out.path()).unwrap();
    let [a, b, mean] = [plain.path(), tuned.path(), out.path()]
        .map(|folder| common::read_tensors(&folder.join("model.safetensors")));
    for (name, values) in &mean {
        for ((mean, a), b) in values.iter().zip(&a[name]).zip(&b[name]) {
            let exact = 0.42 * f64::from(*a) + 0.58 * f64::from(*b);
            // Each of two products and their sum is rounded once.
            let room = 3e-7 * (a.abs() + b.abs());
            assert!(
                (f64::from(*mean) - exact).abs() <= f64::from(room),
                "{name}"
            );
        }
    }
    let other = fixtures().join("models/stablelm-siglip");
    let error = merge::average(&[(other, 0.5), models[1].clone()], out.path()).unwrap_err();
    assert!(error.to_string().contains("cannot be averaged"), "{error}");
}
