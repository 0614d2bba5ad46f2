//! How much memory it takes to talk with each model, and whether the machine has that.

use bunny_core::{
    BunnyConfig,
    config::presets::PRESETS,
    nn::{ParameterKind, Part, WeightFormat},
    ops::{Bits, Packing},
};
use serde::Serialize;

/// A model, and the memory that it takes in each form.
#[derive(Debug, Serialize)]
pub struct Fit {
    /// Its name in `model list`.
    pub model: &'static str,
    /// In `f32`, in 16 bits, in `int8` and in `int4`.
    pub bytes: [Held; 4],
}

/// The memory that a model takes in one form.
#[derive(Debug, Serialize)]
pub struct Held {
    /// The language model's form; tower and projector are held in 16 bits, or in `f32` too.
    pub form: &'static str,
    /// Weights, keys and values of a conversation of [`POSITIONS`], and what a prompt takes beside them.
    pub bytes: u64,
    /// Whether the machine has that; `None` where it does not say what it has.
    pub fits: Option<bool>,
}

/// Positions of a conversation: what most models of the paper have, and a picture and long answers take.
pub const POSITIONS: usize = 2048;
/// Activations of a prompt, buffers and the program itself.
const BESIDE: u64 = 100_000_000;

/// Every model of the paper on a machine of `memory` bytes.
pub fn fits(memory: Option<u64>) -> Vec<Fit> {
    PRESETS
        .iter()
        .map(|preset| {
            let config = preset.config();
            let held = |form: &'static str, language, others| {
                let bytes = weights(&config, language, others) + cache(&config, language) + BESIDE;
                Held {
                    form,
                    bytes,
                    fits: memory.map(|memory| bytes <= memory),
                }
            };
            let packed = |bits| WeightFormat::Packed(Packing::new(bits));
            let (f32, f16) = (WeightFormat::F32, WeightFormat::F16);
            Fit {
                model: preset.name,
                bytes: [
                    held("f32", f32, f32),
                    held("f16", f16, f16),
                    held("int8", packed(Bits::Eight), f16),
                    held("int4", packed(Bits::Four), f16),
                ],
            }
        })
        .collect()
}

/// Bytes of the weights, with the language model's products in one form and all else in another. Tables
/// of a packed model have eight bits.
fn weights(config: &BunnyConfig, language: WeightFormat, others: WeightFormat) -> u64 {
    let eight = WeightFormat::Packed(Packing::new(Bits::Eight));
    let specs = config.describe();
    let bytes = specs.iter().map(|spec| {
        let form = match (spec.part, spec.kind, language) {
            (Part::LanguageModel, ParameterKind::Table, WeightFormat::Packed(_)) => eight,
            (Part::LanguageModel, ParameterKind::Product | ParameterKind::Table, _) => language,
            _ => others,
        };
        let columns = spec.shape.last().copied().unwrap_or(1);
        let rows = spec.count() as usize / columns.max(1);
        form.bytes(rows, columns) as u64
    });
    bytes.sum()
}

/// Bytes of keys and values, in 16 bits where the weights have no more.
fn cache(config: &BunnyConfig, language: WeightFormat) -> u64 {
    let decoder = &config.decoder;
    let size = if language == WeightFormat::F32 { 4 } else { 2 };
    let positions = POSITIONS.min(decoder.max_position_embeddings);
    (decoder.kv_bytes_per_token(size) * positions) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phi_2_with_siglip_takes_what_was_measured() {
        let found = fits(Some(4_000_000_000));
        let fit = found.iter().find(|fit| fit.model == "bunny-phi-2-siglip");
        let [f32, f16, int8, int4] = &fit.unwrap().bytes;
        // Measured at 768 of 2,048 positions: 6.3, 3.9 and 2.7 GiB in bf16, int8 and int4; the other
        // 1,280 positions take 0.39 GiB.
        for (held, measured) in [(f16, 6.3), (int8, 3.9), (int4, 2.7)] {
            let gib = held.bytes as f64 / 1024_f64.powi(3);
            assert!((gib - measured - 0.39).abs() < 0.4, "{held:?}");
        }
        assert!(f32.bytes > f16.bytes);
        assert_eq!(
            [f32, f16, int8, int4].map(|held| held.fits.unwrap()),
            [false, false, false, true]
        );
    }
}
