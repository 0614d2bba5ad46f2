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
//!
//! Weights in GGUF's blocks are [`PackedTensor`]s too: those that are such integers are put in this order
//! as they are read, all others are opened into floats.

mod blocks;
mod config;
mod find;
mod integers;
#[cfg(test)]
mod tests;

use std::{ops::Range, path::Path, sync::Arc};

use bytes::Bytes;
use half::f16;

use crate::{StoredDtype, StoredTensor, writer::PlannedTensor};

use blocks::Blocks;
pub use blocks::RowOrder;
pub use config::{IntegerFormat, PackedConfig, PackedGroup};
use integers::Integers;

/// Numbers of a group that products take, or a multiple of them.
const GRAIN: usize = 32;

/// A weight in integers or in blocks that has been found and checked, but not read.
#[derive(Debug, Clone)]
pub struct PackedTensor {
    name: String,
    sides: [usize; 2],
    /// What its file has: all of it but, of integers, the scales.
    codes: StoredTensor,
    form: Form,
}

/// How a weight lies in its file.
#[derive(Debug, Clone)]
enum Form {
    Integers(Box<Integers>),
    Blocks(Blocks),
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
        match &self.form {
            Form::Integers(integers) => integers.group,
            Form::Blocks(blocks) => blocks.group(),
        }
    }

    /// Bits of a number that [products take](Self::rows).
    pub fn bits(&self) -> usize {
        match &self.form {
            Form::Integers(integers) => integers.layout.bits(),
            Form::Blocks(blocks) => blocks.bits(),
        }
    }

    /// The float type of its scales, which is that of the model it was made of.
    pub fn float_type(&self) -> StoredDtype {
        match &self.form {
            Form::Integers(integers) => integers.scales.dtype,
            Form::Blocks(blocks) => blocks.float_type(),
        }
    }

    /// The file that holds it.
    pub fn file(&self) -> &Arc<Path> {
        &self.codes.file
    }

    /// Its integers under the name of the weight, and with its sides.
    pub fn stored(&self) -> StoredTensor {
        StoredTensor {
            name: self.name.clone(),
            shape: self.shape(),
            ..self.codes.clone()
        }
    }

    /// The shape of the weight, or of the bias, that it stands for.
    pub fn shape(&self) -> Vec<usize> {
        match &self.form {
            Form::Integers(_) => self.sides.to_vec(),
            Form::Blocks(_) => self.codes.shape.clone(),
        }
    }

    /// Some rows as floats: what they stand for, each product rounded once.
    pub fn floats(&self, rows: Range<usize>) -> Vec<f32> {
        match &self.form {
            Form::Integers(integers) => integers.floats(&self.codes.bytes, self.sides, rows),
            Form::Blocks(blocks) => blocks.floats(&self.codes.bytes, self.sides, rows),
        }
    }

    /// Some rows as integers that products take. None where there are no such: where the groups are
    /// no multiples of 32, or numbers of eight bits lie around a zero point and need nine, or blocks are
    /// no such integers.
    ///
    /// Scales become f16, and those that are longer are rounded, by 2⁻¹¹ of themselves; a weight with
    /// scales beyond f16's range has no such rows either. Four bits around a zero point are eight, the
    /// same numbers.
    pub fn rows(&self, rows: Range<usize>) -> Option<PackedRows> {
        match &self.form {
            Form::Integers(integers) => integers.rows(&self.codes.bytes, self.sides, rows),
            Form::Blocks(blocks) => blocks.rows(&self.codes.bytes, self.sides, rows),
        }
    }

    /// Whether it is held in integers, rather than opened into floats as it is read.
    pub fn is_integers(&self) -> bool {
        match &self.form {
            Form::Integers(_) => true,
            Form::Blocks(blocks) => blocks.is_integers(),
        }
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
