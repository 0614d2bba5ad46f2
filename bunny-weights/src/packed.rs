//! Weights in integers as `compressed-tensors` writes them, which transformers and vLLM read.
//!
//! `config.json` says in its `quantization_config` which layers are so and how; a file has, for the
//! layer `L` of `out` rows of `in` numbers in groups that share a scale:
//!
//! ```text
//! pack-quantized   L.weight_packed      i32 [out, ⌈in · bits / 32⌉]   q + 2^(bits − 1), lowest bits first
//!                  L.weight_shape       i64 [2]                        out, in
//!                  L.weight_zero_point  i32 [⌈out · bits / 32⌉, groups]   the same down the rows, or i8
//! int-quantized    L.weight             i8 [out, in]                   q
//!                  L.weight_zero_point  i8 [out, groups]
//! both             L.weight_scale       float [out, groups]            w = scale · (q − zero point)
//! ```
//! Numbers of four and of eight bits are read. Symmetric weights of four bits and bytes with sign are
//! read where they lie in the mapped file.

mod config;
mod find;
#[cfg(test)]
mod tests;

use std::{ops::Range, path::Path, sync::Arc};

use bytes::Bytes;
use half::f16;
use rayon::prelude::*;

use crate::{StoredDtype, StoredTensor, convert, writer::PlannedTensor};

pub use config::{IntegerFormat, PackedConfig, PackedGroup};

/// How the integers of a weight lie in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Bytes with sign, `[out, in]`.
    Bytes,
    /// Words of 32 bits of so many each, `[out, words]`.
    Words { bits: usize },
}

/// A weight in integers that has been found and checked, but not read.
#[derive(Debug, Clone)]
pub struct PackedTensor {
    name: String,
    sides: [usize; 2],
    group: usize,
    layout: Layout,
    codes: StoredTensor,
    scales: StoredTensor,
    zeros: Option<StoredTensor>,
}

/// Rows of a weight in integers as products take them: numbers of a row in groups, each with a scale.
#[derive(Debug, Clone)]
pub struct PackedRows {
    /// Bits of a number: with eight, `codes` are bytes with sign; with four `q + 8`, two to a byte, the
    /// lower half first, and every row padded to a multiple of eight numbers.
    pub bits: usize,
    /// The integers, row by row; part of the mapped file where it has them so.
    pub codes: Bytes,
    /// The scales, f16, `[rows, groups]`, likewise.
    pub scales: Bytes,
}

impl PackedTensor {
    /// What the weight would be called in floats.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Rows, and numbers of a row.
    pub fn sides(&self) -> [usize; 2] {
        self.sides
    }

    /// Numbers that share a scale; the row's where all do.
    pub fn group(&self) -> usize {
        self.group
    }

    /// Bits of a number.
    pub fn bits(&self) -> usize {
        match self.layout {
            Layout::Bytes => 8,
            Layout::Words { bits } => bits,
        }
    }

    /// The float type of its scales, which is that of the model it was made of.
    pub fn float_type(&self) -> StoredDtype {
        self.scales.dtype
    }

    /// The file that holds it.
    pub fn file(&self) -> &Arc<Path> {
        &self.codes.file
    }

    /// Its integers under the name of the weight, and with its sides.
    pub fn stored(&self) -> StoredTensor {
        StoredTensor {
            name: self.name.clone(),
            shape: self.sides.to_vec(),
            ..self.codes.clone()
        }
    }

    /// Groups of a row.
    fn groups(&self) -> usize {
        self.sides[1].div_ceil(self.group)
    }

    /// Bytes of the integers of a row.
    fn row_bytes(&self) -> usize {
        match self.layout {
            Layout::Bytes => self.sides[1],
            Layout::Words { bits } => 4 * words(self.sides[1], bits),
        }
    }

    /// The number `at` of row `row`.
    fn integer(&self, row: usize, at: usize) -> i32 {
        let bytes = &self.codes.bytes[row * self.row_bytes()..];
        match self.layout {
            Layout::Bytes => i32::from(bytes[at] as i8),
            Layout::Words { bits: 8 } => i32::from(bytes[at]) - 128,
            Layout::Words { .. } => i32::from(bytes[at / 2] >> (4 * (at % 2)) & 15) - 8,
        }
    }

    /// The zero point of a group of row `row`.
    fn zero(&self, row: usize, group: usize) -> i32 {
        let Some(zeros) = &self.zeros else { return 0 };
        let byte = |at: usize| zeros.bytes[at];
        match (zeros.dtype, self.bits()) {
            (StoredDtype::I8, _) => i32::from(byte(row * self.groups() + group) as i8),
            // Words go down the rows: word `row / 8` of a column has the numbers of eight rows.
            (_, 4) => {
                let at = 4 * (row / 8 * self.groups() + group) + row % 8 / 2;
                i32::from(byte(at) >> (4 * (row % 2)) & 15) - 8
            }
            _ => i32::from(byte(4 * (row / 4 * self.groups() + group) + row % 4)) - 128,
        }
    }

    /// The scales of some rows.
    fn scales(&self, rows: &Range<usize>) -> Vec<f32> {
        let size = self.scales.dtype.size();
        let groups = self.groups();
        let floats = |range: Range<usize>| {
            let bytes = &self.scales.bytes[range.start * size..range.end * size];
            convert::to_f32(bytes, self.scales.dtype).expect("scales are floats")
        };
        match self.has_one_scale() {
            true => vec![floats(0..1)[0]; rows.len() * groups],
            false => floats(rows.start * groups..rows.end * groups),
        }
    }

    /// Whether all rows share a scale.
    fn has_one_scale(&self) -> bool {
        self.scales.shape.iter().product::<usize>() == 1
    }

    /// Some rows as floats: what they stand for, each product rounded once.
    pub fn floats(&self, rows: Range<usize>) -> Vec<f32> {
        let ([_, inner], groups) = (self.sides, self.groups());
        let scales = self.scales(&rows);
        let mut floats = vec![0f32; rows.len() * inner];
        let lines = floats.par_chunks_mut(inner.max(1)).enumerate();
        lines.for_each(|(at, floats)| {
            let row = rows.start + at;
            for (group, floats) in floats.chunks_mut(self.group).enumerate() {
                let (scale, zero) = (scales[at * groups + group], self.zero(row, group));
                for (place, float) in floats.iter_mut().enumerate() {
                    let integer = self.integer(row, group * self.group + place) - zero;
                    *float = integer as f32 * scale;
                }
            }
        });
        floats
    }

    /// Some rows as integers that products take. None where there are no such: where the groups are
    /// no multiples of 32, or numbers of eight bits lie around a zero point and need nine.
    ///
    /// Scales become f16, and those that are longer are rounded, by 2⁻¹¹ of themselves; a weight with
    /// scales beyond f16's range has no such rows either. Four bits around a zero point are eight, the
    /// same numbers.
    pub fn rows(&self, rows: Range<usize>) -> Option<PackedRows> {
        const GRAIN: usize = 32;
        let [_, inner] = self.sides;
        if self.group < inner && !self.group.is_multiple_of(GRAIN) {
            return None;
        }
        let scales = self.half_scales(&rows)?;
        let stored = rows.start * self.row_bytes()..rows.end * self.row_bytes();
        let stored = self.codes.bytes.slice(stored);
        let (bits, codes) = match (&self.zeros, self.layout) {
            (None, Layout::Words { bits: 8 }) => (8, self.bytes_with_sign(rows)?),
            (None, Layout::Bytes) => (8, stored),
            (None, Layout::Words { .. }) => (4, stored),
            (Some(_), _) => (8, self.bytes_with_sign(rows)?),
        };
        Some(PackedRows {
            bits,
            codes,
            scales,
        })
    }

    /// The numbers of some rows less their zero points, if bytes hold them.
    fn bytes_with_sign(&self, rows: Range<usize>) -> Option<Bytes> {
        let [_, inner] = self.sides;
        let mut bytes = vec![0u8; rows.len() * inner];
        let lines = bytes.par_chunks_mut(inner.max(1)).enumerate();
        let fits = lines.map(|(at, bytes)| {
            let row = rows.start + at;
            bytes.chunks_mut(self.group).enumerate().all(|(group, to)| {
                let zero = self.zero(row, group);
                to.iter_mut().enumerate().all(|(place, byte)| {
                    let number = self.integer(row, group * self.group + place) - zero;
                    let found = i8::try_from(number);
                    *byte = found.unwrap_or_default() as u8;
                    found.is_ok()
                })
            })
        });
        fits.reduce(|| true, |a, b| a && b).then(|| bytes.into())
    }

    /// The scales of some rows in f16; those of the file where they are.
    fn half_scales(&self, rows: &Range<usize>) -> Option<Bytes> {
        let groups = self.groups();
        if self.scales.dtype == StoredDtype::F16
            && self.scales.is_aligned()
            && !self.has_one_scale()
        {
            let size = StoredDtype::F16.size();
            let part = rows.start * groups * size..rows.end * groups * size;
            return Some(self.scales.bytes.slice(part));
        }
        let half = |scale: f32| {
            let half = f16::from_f32(scale);
            // As far as f16 has eleven digits; what is subnormal there has fewer.
            let is_near = (half.to_f32() - scale).abs() <= scale.abs() * 2f32.powi(-10);
            is_near.then_some(half)
        };
        let halves: Option<Vec<f16>> = self.scales(rows).into_iter().map(half).collect();
        Some(Bytes::from_owner(Halves(halves?)))
    }
}

/// Numbers that are aligned as such, and are seen as bytes.
struct Halves(Vec<f16>);

impl AsRef<[u8]> for Halves {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// The words of 32 bits that `count` numbers of so many bits take.
fn words(count: usize, bits: usize) -> usize {
    count.div_ceil(32 / bits)
}

/// What a part of a packed weight is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackedPart {
    /// Its integers.
    Codes,
    /// Its scales, f16.
    Scales,
    /// Its sides, as two numbers of 64 bits.
    Shape,
}

/// The tensors in which a file holds the weight that is called `name` in floats, symmetric and with
/// scales in f16.
///
/// # Panics
/// When the name is none of a weight.
pub fn plan_packed(
    name: &str,
    [out, inner]: [usize; 2],
    format: IntegerFormat,
    bits: usize,
    group: usize,
) -> Vec<(PackedPart, PlannedTensor)> {
    let layer = name.strip_suffix("weight").expect("the name of a weight");
    let tensor = |end: &str, dtype, shape: [usize; 2]| PlannedTensor {
        name: format!("{layer}{end}"),
        dtype,
        shape: shape.to_vec(),
    };
    let scales = tensor(
        "weight_scale",
        StoredDtype::F16,
        [out, inner.div_ceil(group)],
    );
    let scales = (PackedPart::Scales, scales);
    match format {
        IntegerFormat::Bytes => vec![
            (
                PackedPart::Codes,
                tensor("weight", StoredDtype::I8, [out, inner]),
            ),
            scales,
        ],
        IntegerFormat::Words => vec![
            (
                PackedPart::Codes,
                tensor("weight_packed", StoredDtype::I32, [out, words(inner, bits)]),
            ),
            scales,
            (
                PackedPart::Shape,
                PlannedTensor {
                    name: format!("{layer}weight_shape"),
                    dtype: StoredDtype::I64,
                    shape: vec![2],
                },
            ),
        ],
    }
}
