//! A model whose language model is in integers, written as `compressed-tensors` has it, a tensor at a
//! time.
//!
//! ```text
//! products of the layers   in the integers that are asked for
//! the head                 eight bits
//! the token table          floats, of which a row a token is read; norms and biases
//! tower and projector      floats
//! ```
//! Rows that are no multiple of a group have eight bits and one scale: others' readers know no short
//! groups.

mod search;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use bunny_weights::{
    CheckpointError, StoredDtype,
    folder::CONFIG,
    packed::{IntegerFormat, PackedConfig, PackedGroup, PackedPart, plan_packed},
    writer::{MAX_SHARD_SIZE, PlannedTensor},
};
use burn::tensor::DType;
use half::f16;
use rayon::prelude::*;

use super::{
    OpenModel, WeightSet,
    folder::{described, float_to_write},
};
use crate::{
    Error,
    config::BunnyConfig,
    nn::{Bits, Packing, ParameterKind, Part, Weights},
};

/// Numbers that are in memory as f32 at a time.
const BLOCK: usize = 1 << 24;

/// The mean squares of what products are given, each of its layer's inputs, by the layer's published
/// name: what an error of a weight costs. Layers that are not there count all inputs alike.
pub type MeanSquares = BTreeMap<String, Vec<f32>>;

/// What a layer lost.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerLoss {
    /// Its published name.
    pub layer: String,
    /// The integers that it is in now.
    pub packing: Packing,
    /// Bytes of them and their scales.
    pub bytes: u64,
    /// The root mean square of what its numbers are off by, as a share of their own.
    pub of_weights: f64,
    /// The same of its outputs, as far as its inputs are known.
    pub of_outputs: f64,
}

/// What was written.
#[derive(Debug)]
pub struct Quantized {
    /// The files.
    pub files: Vec<PathBuf>,
    /// The layers in integers, in the order in which they were rounded.
    pub layers: Vec<LayerLoss>,
}

impl OpenModel {
    /// Writes the model into `folder` with its language model in integers, adapters folded in before;
    /// all else is stored as `dtype`. Scales are searched for, with an eye to `inputs`; `told` hears of
    /// each layer.
    ///
    /// One block of a tensor is in memory at a time, the integers of the tensor, and all scales.
    ///
    /// # Errors
    /// When `dtype` is no float, a tensor is missing or cannot be read, its numbers are none or beyond
    /// f16, an adapter has no weight to go to, or a file cannot be written.
    pub fn write_quantized(
        &self,
        folder: impl AsRef<Path>,
        packing: Packing,
        inputs: &MeanSquares,
        dtype: StoredDtype,
        mut told: impl FnMut(&LayerLoss),
    ) -> Result<Quantized, Error> {
        let float = float_to_write(folder.as_ref(), dtype)?;
        let format = match packing.bits {
            // Where they lie, they are what is multiplied.
            Bits::Eight => IntegerFormat::Bytes,
            Bits::Four => IntegerFormat::Words,
        };
        let targets = targets(&self.config, packing);
        let mut plan = Vec::new();
        let mut parts = BTreeMap::new();
        for planned in self.weights.merged_plan(&self.config, dtype)? {
            let Some(&packing) = targets.get(&planned.name) else {
                plan.push(planned);
                continue;
            };
            let weight = Target::new(planned, packing, inputs);
            for (part, tensor) in weight.plan(format) {
                parts.insert(tensor.name.clone(), (part, weight.clone()));
                plan.push(tensor);
            }
        }

        let files = described(&self.beside, &self.config, &self.image_processor, dtype);
        let mut config = files.json(CONFIG).cloned().unwrap_or_default();
        config["quantization_config"] = quantization_config(format, &targets);
        let files = files.with_json(CONFIG, config);

        let mut scales: BTreeMap<String, Vec<f16>> = BTreeMap::new();
        let mut layers = Vec::with_capacity(targets.len());
        let files = files.write(folder, &plan, MAX_SHARD_SIZE, |planned| {
            let Some((part, weight)) = parts.get(&planned.name) else {
                return self.weights.merged_bytes(planned, float);
            };
            if *part == PackedPart::Shape {
                let sides = weight.sides.map(|side| (side as i64).to_le_bytes());
                return Ok(sides.concat());
            }
            // Files have scales before some codes and behind others.
            let of_weight = match scales.get(&weight.name) {
                Some(scales) => scales,
                None => {
                    let (found, loss) = weight.search(&self.weights)?;
                    told(&loss);
                    layers.push(loss);
                    &*scales.entry(weight.name.clone()).or_insert(found)
                }
            };
            match part {
                PackedPart::Scales => Ok(bytemuck::cast_slice(of_weight).to_vec()),
                _ => weight.codes(&self.weights, of_weight, format),
            }
        })?;
        Ok(Quantized { files, layers })
    }
}

/// The weights that are in integers, by their published names, and in which.
fn targets(config: &BunnyConfig, packing: Packing) -> BTreeMap<String, Packing> {
    let specs = config.describe().into_iter();
    specs
        .filter_map(|spec| {
            let bits = match spec.kind {
                ParameterKind::Product if spec.layer.is_some() => packing.bits,
                ParameterKind::Table if spec.local.starts_with("lm_head") => Bits::Eight,
                _ => return None,
            };
            let inner = spec.shape[1];
            let packing = match inner.is_multiple_of(packing.group) {
                true => Packing { bits, ..packing },
                false => Packing {
                    bits: Bits::Eight,
                    group: inner,
                },
            };
            (spec.part == Part::LanguageModel).then_some((spec.published, packing))
        })
        .collect()
}

/// What `config.json` says of weights in integers: layers that are alike but for their number are named
/// together.
fn quantization_config(
    format: IntegerFormat,
    targets: &BTreeMap<String, Packing>,
) -> serde_json::Value {
    let mut alike: BTreeMap<(usize, Option<usize>), BTreeSet<String>> = BTreeMap::new();
    for (name, packing) in targets {
        let is_row = !packing.group.is_multiple_of(Packing::GROUP);
        let bits = match packing.bits {
            Bits::Eight => 8,
            Bits::Four => 4,
        };
        let group = (!is_row).then_some(packing.group);
        let layer = name.strip_suffix(".weight").unwrap_or(name);
        let parts = layer.split('.').map(|part| {
            let is_number = part.bytes().all(|byte| byte.is_ascii_digit());
            if is_number { "[0-9]+" } else { part }
        });
        let pattern = parts.collect::<Vec<_>>().join("[.]") + "$";
        alike.entry((bits, group)).or_default().insert(pattern);
    }
    let groups: Vec<PackedGroup> = alike
        .into_iter()
        .map(|((bits, group), layers)| PackedGroup {
            bits,
            group,
            layers: layers.into_iter().collect(),
        })
        .collect();
    let others = [Part::VisionTower, Part::Projector];
    let ignore = others.map(|part| part.prefix().replace('.', "[.]") + ".*");
    PackedConfig::write(format, &groups, &ignore)
}

/// A weight that is going to be in integers.
#[derive(Debug, Clone)]
struct Target {
    name: String,
    sides: [usize; 2],
    packing: Packing,
    /// How much an error of each column counts.
    weights: Vec<f32>,
}

impl Target {
    fn new(planned: PlannedTensor, packing: Packing, inputs: &MeanSquares) -> Self {
        let (rows, columns) = (planned.shape[0], planned.shape[1]);
        let layer = planned.name.strip_suffix(".weight").unwrap_or_default();
        let squares = inputs.get(layer).filter(|found| found.len() == columns);
        let weights = match squares {
            Some(squares) => {
                let mean = squares.iter().sum::<f32>() / columns.max(1) as f32;
                // What a short calibration never met may come yet.
                let weight = |square: &f32| (square / mean.max(f32::MIN_POSITIVE)).max(1e-3);
                squares.iter().map(weight).collect()
            }
            None => vec![1.0; columns],
        };
        Self {
            name: planned.name,
            sides: [rows, columns],
            packing,
            weights,
        }
    }

    fn bits(&self) -> usize {
        match self.packing.bits {
            Bits::Eight => 8,
            Bits::Four => 4,
        }
    }

    fn plan(&self, format: IntegerFormat) -> Vec<(PackedPart, PlannedTensor)> {
        plan_packed(
            &self.name,
            self.sides,
            format,
            self.bits(),
            self.packing.group,
        )
    }

    fn groups(&self) -> usize {
        self.sides[1].div_ceil(self.packing.group)
    }

    /// Hands over its rows in f32, some at a time, with the number of the first.
    fn each_block(
        &self,
        weights: &WeightSet,
        mut with: impl FnMut(usize, &[f32]) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let [rows, columns] = self.sides;
        let stored = weights
            .take(&self.name)
            .ok_or_else(|| CheckpointError::NoWeights {
                folder: weights.place().into(),
                hint: "",
            })?;
        let at_once = (BLOCK / columns.max(1)).max(1);
        for first in (0..rows).step_by(at_once) {
            let range = first..rows.min(first + at_once);
            let bytes = weights.rows(&stored, range, columns, DType::F32)?;
            match bytemuck::try_cast_slice::<u8, f32>(&bytes) {
                Ok(numbers) => with(first, numbers)?,
                // A file may hold them at any byte.
                Err(_) => with(first, &bytemuck::pod_collect_to_vec::<u8, f32>(&bytes))?,
            }
        }
        Ok(())
    }

    /// Its scales, and what is lost with them.
    fn search(&self, weights: &WeightSet) -> Result<(Vec<f16>, LayerLoss), CheckpointError> {
        let ([rows, columns], groups, bits) = (self.sides, self.groups(), self.packing.bits);
        let mut scales = vec![f16::ZERO; rows * groups];
        let mut sums = [0f64; 4];
        self.each_block(weights, |first, numbers| {
            let part = &mut scales[first * groups..][..numbers.len() / columns.max(1) * groups];
            let lines = numbers.par_chunks(columns).zip(part.par_chunks_mut(groups));
            let found = lines.enumerate().map(|(at, (numbers, scales))| {
                if !numbers.iter().all(|number| number.is_finite()) {
                    return Err((first + at, "numbers that are not finite"));
                }
                let mut sums = [0f64; 4];
                let parts = numbers.chunks(self.packing.group);
                let parts = parts.zip(self.weights.chunks(self.packing.group));
                for ((numbers, weights), to) in parts.zip(scales) {
                    *to = search::best_scale(numbers, weights, bits);
                    if to.is_infinite() {
                        return Err((first + at, "numbers too large for a scale in f16"));
                    }
                    let scale = to.to_f32();
                    let integers = search::integers(numbers, *to, bits);
                    for ((number, weight), integer) in numbers.iter().zip(weights).zip(integers) {
                        let off = f64::from(number - scale * f32::from(integer)).powi(2);
                        let (own, weight) = (f64::from(*number).powi(2), f64::from(*weight));
                        for (sum, term) in
                            sums.iter_mut().zip([off, own, weight * off, weight * own])
                        {
                            *sum += term;
                        }
                    }
                }
                Ok(sums)
            });
            // Summed in the order of rows, so that a report does not hang on threads.
            for found in found.collect::<Vec<_>>() {
                let found = found.map_err(|(row, what)| CheckpointError::Unpackable {
                    tensor: self.name.clone(),
                    problem: format!("row {row} has {what}"),
                })?;
                for (sum, term) in sums.iter_mut().zip(found) {
                    *sum += term;
                }
            }
            Ok(())
        })?;
        let share = |off: f64, own: f64| if own > 0.0 { (off / own).sqrt() } else { 0.0 };
        let [off, own, weighted_off, weighted_own] = sums;
        let loss = LayerLoss {
            layer: self
                .name
                .strip_suffix(".weight")
                .unwrap_or(&self.name)
                .into(),
            packing: self.packing,
            bytes: (rows * (columns * self.bits()).div_ceil(8) + 2 * scales.len()) as u64,
            of_weights: share(off, own),
            of_outputs: share(weighted_off, weighted_own),
        };
        Ok((scales, loss))
    }

    /// Its integers as files of `format` have them.
    fn codes(
        &self,
        weights: &WeightSet,
        scales: &[f16],
        format: IntegerFormat,
    ) -> Result<Vec<u8>, CheckpointError> {
        let ([rows, columns], groups, bits) = (self.sides, self.groups(), self.packing.bits);
        let row_bytes = match (format, bits) {
            (IntegerFormat::Bytes, _) => columns,
            (IntegerFormat::Words, Bits::Eight) => 4 * columns.div_ceil(4),
            (IntegerFormat::Words, Bits::Four) => 4 * columns.div_ceil(8),
        };
        let mut codes = vec![0u8; rows * row_bytes];
        self.each_block(weights, |first, numbers| {
            let lines = numbers.par_chunks(columns);
            let lines = lines.zip(codes[first * row_bytes..].par_chunks_mut(row_bytes));
            lines.enumerate().for_each(|(at, (numbers, codes))| {
                let scales = &scales[(first + at) * groups..];
                let parts = numbers.chunks(self.packing.group).zip(scales);
                let integers =
                    parts.flat_map(|(numbers, scale)| search::integers(numbers, *scale, bits));
                for (at, integer) in integers.enumerate() {
                    match (format, bits) {
                        (IntegerFormat::Bytes, _) => codes[at] = integer as u8,
                        (IntegerFormat::Words, Bits::Eight) => codes[at] = integer as u8 ^ 0x80,
                        (IntegerFormat::Words, Bits::Four) => {
                            codes[at / 2] |= ((integer + 8) as u8) << (4 * (at % 2));
                        }
                    }
                }
            });
            Ok(())
        })?;
        Ok(codes)
    }
}
