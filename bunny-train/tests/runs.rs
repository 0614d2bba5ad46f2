//! Whole runs against torch, transformers and PEFT (`tests/reference/training.py`): every step's
//! loss, gradient norm and learning rates, and the weights after the last one.
#![recursion_limit = "256"]

mod common;

use std::{collections::BTreeMap, path::Path};

use bunny_core::checkpoint::Precision;
use bunny_train::run::metrics;
use burn::backend::Autodiff;
use burn_flex::Flex;
use common::{Stage, difference, expected, read_tensors};

type B = Autodiff<Flex>;

#[test]
fn pretraining_takes_torchs_steps() {
    follow("pretrain", false);
}

#[test]
fn lora_takes_torchs_steps() {
    follow("lora", false);
}

#[test]
fn recomputed_layers_take_the_same_steps() {
    follow("lora", true);
}

#[test]
fn accumulated_micro_batches_are_averaged_as_the_reference_does() {
    follow("lora-accumulated", false);
}

#[test]
fn accumulated_answers_are_averaged_over_the_whole_step() {
    follow("lora-accumulated-tokens", false);
}

#[test]
fn full_tuning_with_decay_takes_torchs_steps() {
    follow("full-decayed", false);
}

#[test]
fn an_unfrozen_tower_takes_torchs_steps() {
    follow("tower", true);
}

fn follow(name: &str, gradient_checkpointing: bool) {
    let folder = tempfile::tempdir().unwrap();
    let mut job = Stage::run(name).job(folder.path());
    job.stage.recipe.gradient_checkpointing = gradient_checkpointing;
    let outcome = job
        .run::<B>(Precision::F32, &Default::default(), &mut |_, _| {})
        .unwrap();
    assert!(outcome.is_complete());
    let expected = &expected()["runs"][name];
    let trace = expected["trace"].as_array().unwrap();
    let found = metrics::read(&folder.path().join(metrics::METRICS_FILE)).unwrap();
    assert_eq!(found.len(), trace.len());
    for (found, wanted) in found.iter().zip(trace) {
        let near = |what: &str, found: f64, tolerance: f64| {
            let wanted = wanted[what].as_f64().unwrap();
            let off = (found - wanted).abs();
            assert!(
                off <= tolerance * wanted.abs(),
                "{name} {what} of {wanted}: {found} is off by {off}"
            );
        };
        // Rounding in f32, and what ten steps make of it.
        near("loss", found.loss, 1e-5);
        near("grad_norm", found.grad_norm, 1e-4);
        near("learning_rate", found.learning_rate, 1e-12);
        near(
            "projector_learning_rate",
            found.projector_learning_rate,
            1e-12,
        );
    }
    let rounding = &expected["rounding"]["weights"];
    let wanted = common::tensors(&format!("runs/{name}.safetensors"));
    let found = learnt(folder.path());
    for (tensor, wanted) in &wanted {
        // The tower's last layer and head stay as they are, and are not written.
        let Some(found) = found.get(tensor) else {
            assert!(tensor.contains("vision_tower"), "{tensor} is not written");
            continue;
        };
        let off = f64::from(difference(found, wanted));
        // The room that torch's own f32 needs, many times over: sums run in another order here.
        let room = 2e-6 + 20.0 * rounding[tensor].as_f64().unwrap();
        assert!(off <= room, "{name} {tensor} is off by {off}, over {room}");
    }
}

/// What a stage has written, under the names that torch has for it.
fn learnt(folder: &Path) -> BTreeMap<String, Vec<f32>> {
    let mut all = BTreeMap::new();
    for file in [
        "mm_projector.safetensors",
        "adapter_model.safetensors",
        "non_lora_trainables.safetensors",
        "model.safetensors",
    ] {
        let path = folder.join(file);
        if path.exists() {
            all.extend(read_tensors(&path).into_iter().map(|(name, values)| {
                let bare = name.strip_prefix("base_model.model.");
                let name = match bare.filter(|bare| !bare.contains(".lora_")) {
                    Some(bare) => bare.to_owned(),
                    None => name,
                };
                (name, values)
            }));
        }
    }
    all
}
