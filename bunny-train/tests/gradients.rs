//! Gradients and steps against torch, transformers and PEFT (`tests/reference/training.py`).
#![recursion_limit = "256"]

mod common;

use bunny_core::nn::Mode;
use bunny_train::{
    step::{ForwardBackward, Gradients, Slots},
    trainable::{Trainable, unfreeze_parts},
};
use burn::backend::Autodiff;
use burn_flex::Flex;
use common::{Stage, difference, expected};

type Inner = Flex;
type B = Autodiff<Inner>;

/// A gradient's largest difference, relative to the largest gradient of its tensor. What remains
/// between two correct f32 computations is rounding, about 1e-5 here.
const TOLERANCE: f32 = 1e-3;

#[test]
fn gradients_are_torchs() {
    for name in [
        "pretrain",
        "full",
        "tower",
        "stablelm-eva",
        "llama-siglip",
        "qwen2-clip",
        "minicpm-siglip",
        "phi3-siglip-s2",
    ] {
        for gradient_checkpointing in [false, true] {
            let stage = Stage::gradients(name);
            let device = Default::default();
            let (model, batcher) = stage.open::<B>(&device);
            let (model, trainables) = unfreeze_parts(model, stage.parts());
            let forward_backward = ForwardBackward {
                parts: stage.parts(),
                slots: Slots::new(&trainables),
                gradient_checkpointing,
            };
            let mut sums = Gradients::new(trainables.len());
            let loss = forward_backward
                .run(
                    &model,
                    &batcher.batch(0..4),
                    &Mode::INFERENCE,
                    1.0,
                    &mut sums,
                    &device,
                )
                .unwrap()
                .into_scalar();
            let found = f64::from(loss);
            let wanted = expected()["gradients"][name]["loss"].as_f64().unwrap();
            assert!(
                (found - wanted).abs() < 1e-4 * wanted,
                "{name}: {found}, {wanted}"
            );
            compare(name, &trainables, &sums);
        }
    }
}

fn compare(name: &str, trainables: &[Trainable], sums: &Gradients<Inner>) {
    let mut expected = common::tensors(&format!("gradients/{name}.safetensors"));
    for (slot, trainable) in trainables.iter().enumerate() {
        let key = trainable.key();
        match (sums.get(slot), expected.remove(&key)) {
            (Some(found), Some(expected)) => {
                let found: Vec<f32> = found.to_data().iter().collect();
                let largest = expected
                    .iter()
                    .fold(0f32, |most, value| most.max(value.abs()));
                let off = difference(&found, &expected);
                // Softmax cancels all of a key bias's gradient but rounding.
                let rounding = if key.ends_with("k_proj.bias") {
                    1e-5
                } else {
                    0.0
                };
                assert!(
                    off < TOLERANCE * largest + rounding,
                    "{name} {key}: {off} of {largest}"
                );
            }
            (None, None) => {}
            (found, expected) => panic!(
                "{name} {key}: a gradient is found: {}, expected: {}",
                found.is_some(),
                expected.is_some()
            ),
        }
    }
    assert!(
        expected.is_empty(),
        "{name}: nothing learns {:?}",
        expected.keys()
    );
}
