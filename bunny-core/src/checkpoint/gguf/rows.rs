//! Weights of a model into a GGUF file, some rows at a time.

use std::ops::Range;

use bunny_weights::{
    CheckpointError, StoredTensor,
    gguf::{PlannedBlocks, TensorSink, TensorType, round_rows},
    packed::{PackedRows, PackedTensor, RowOrder},
};
use burn::tensor::DType;
use rayon::prelude::*;

use crate::{
    checkpoint::WeightSet,
    nn::{ParameterKind, ParameterSpec, Weights, held_as},
};

/// Numbers that are in memory as f32 at a time.
const BLOCK: usize = 1 << 22;

/// A tensor that is going to be written.
#[derive(Debug)]
pub(super) struct Planned {
    pub blocks: PlannedBlocks,
    pub content: Content,
}

/// What a tensor holds.
#[derive(Debug)]
pub(super) enum Content {
    /// A parameter of the model, its rows in this order.
    Parameter {
        spec: ParameterSpec,
        order: RowOrder,
    },
    /// Zeros.
    Zeros,
}

impl WeightSet {
    /// Bits of the integers that the weight of this name is held in, if an export can take them as they
    /// are.
    pub(super) fn integer_bits(&self, name: &str) -> Option<usize> {
        let stored = self.take(name)?;
        self.as_integers(&stored).map(PackedTensor::bits)
    }

    /// A weight in integers whose groups are whole blocks of 32.
    fn as_integers(&self, stored: &StoredTensor) -> Option<&PackedTensor> {
        let packed = self.packed(stored)?;
        let [_, inner] = packed.sides();
        let group = packed.group();
        let is_whole = inner.is_multiple_of(32) && (group >= inner || group.is_multiple_of(32));
        // Some are opened only when they are asked for: a row tells.
        (is_whole && packed.is_integers()).then_some(packed)?;
        let row = packed.rows(0..1)?;
        (row.bits == packed.bits()).then_some(packed)
    }

    /// Hands a tensor's rows over as its file has them.
    pub(super) fn put_tensor(
        &self,
        planned: &Planned,
        sink: &mut TensorSink<'_>,
    ) -> Result<(), CheckpointError> {
        let blocks = &planned.blocks;
        match &planned.content {
            Content::Parameter { spec, order } => self.put_rows(blocks, spec, *order, sink),
            Content::Zeros => sink.put(&vec![0; blocks.size() as usize]),
        }
    }

    fn put_rows(
        &self,
        blocks: &PlannedBlocks,
        spec: &ParameterSpec,
        order: RowOrder,
        sink: &mut TensorSink<'_>,
    ) -> Result<(), CheckpointError> {
        let stored = self
            .take(&spec.published)
            .ok_or_else(|| CheckpointError::NoWeights {
                folder: self.place().into(),
                hint: "",
            })?;
        check_shape(spec, &stored)?;
        let rows = spec.shape[0];
        let columns: usize = spec.shape[1..].iter().product();
        let holds = |packed: &&PackedTensor| match blocks.kind {
            TensorType::Q4_0 => packed.bits() == 4,
            kind => kind == TensorType::Q8_0,
        };
        let integers = self.as_integers(&stored).filter(holds);
        // Laced rows stay within their head.
        let step = match order {
            RowOrder::Laced { heads } => rows / heads,
            _ => 1,
        };
        let at_once = (BLOCK / columns.max(1) / step * step).max(step);
        for first in (0..rows).step_by(at_once) {
            let range = first..rows.min(first + at_once);
            let bytes = match integers {
                Some(packed) => as_blocks(packed, range.clone(), blocks.kind)?,
                None => self.rounded(&stored, range.clone(), columns, blocks)?,
            };
            match order {
                RowOrder::Same => sink.put(&bytes)?,
                _ => sink.put(&in_order(&bytes, range, order, rows))?,
            }
        }
        Ok(())
    }

    /// Some rows in the type of a file; those that are stored in it are not copied.
    fn rounded(
        &self,
        stored: &StoredTensor,
        rows: Range<usize>,
        columns: usize,
        blocks: &PlannedBlocks,
    ) -> Result<burn::tensor::Bytes, CheckpointError> {
        let kind = blocks.kind;
        let same = kind.float().filter(|float| *float == stored.dtype);
        if let (Some(float), None) = (same.and_then(held_as), &self.adapter) {
            return self.rows(stored, rows, columns, float);
        }
        let first = rows.start;
        let bytes = self.rows(stored, rows, columns, DType::F32)?;
        let copied;
        let numbers: &[f32] = match bytemuck::try_cast_slice(&bytes) {
            Ok(numbers) => numbers,
            // A file may hold them at any byte.
            Err(_) => {
                copied = bytemuck::pod_collect_to_vec::<u8, f32>(&bytes);
                &copied
            }
        };
        let row = blocks.shape.last().copied().unwrap_or(1);
        let rounded = round_rows(kind, numbers, row);
        let rounded = rounded.map_err(|fault| CheckpointError::Unpackable {
            tensor: stored.name.clone(),
            problem: format!("row {} has {}", first + fault.row, fault.problem),
        })?;
        Ok(burn::tensor::Bytes::from_bytes_vec(rounded))
    }
}

/// Whether a stored tensor has the shape of the parameter, tables having more rows or as many.
fn check_shape(spec: &ParameterSpec, stored: &StoredTensor) -> Result<(), CheckpointError> {
    let (wanted, found) = (&spec.shape, &stored.shape);
    let is_right = match spec.kind {
        ParameterKind::Table => {
            found.len() == wanted.len() && found[1..] == wanted[1..] && found[0] >= wanted[0]
        }
        _ => found == wanted,
    };
    match is_right {
        true => Ok(()),
        false => Err(CheckpointError::Mismatch {
            place: stored.file.display().to_string(),
            missing: Vec::new(),
            misshapen: vec![format!("{} is {found:?}, expected {wanted:?}", stored.name)],
            unexpected: Vec::new(),
        }),
    }
}

/// Rows, of `rows` in all, in the order in which a file has them.
fn in_order(bytes: &[u8], range: Range<usize>, order: RowOrder, rows: usize) -> Vec<u8> {
    let row_bytes = bytes.len() / range.len().max(1);
    let mut ordered = Vec::with_capacity(bytes.len());
    for row in range.clone() {
        let from = order.published(row, rows) - range.start;
        ordered.extend(&bytes[from * row_bytes..][..row_bytes]);
    }
    ordered
}

/// Some rows of a weight in integers as the blocks of the same numbers: of four bits into Q4_0, of four
/// or eight into Q8_0.
fn as_blocks(
    packed: &PackedTensor,
    range: Range<usize>,
    kind: TensorType,
) -> Result<burn::tensor::Bytes, CheckpointError> {
    let [_, inner] = packed.sides();
    let rows = packed
        .rows(range)
        .ok_or_else(|| CheckpointError::Unpackable {
            tensor: packed.name().into(),
            problem: "its scales are beyond f16".into(),
        })?;
    let groups = inner.div_ceil(packed.group());
    let PackedRows {
        bits,
        codes,
        scales,
    } = &rows;
    let row_codes = inner * bits / 8;
    let block = kind.block();
    let mut bytes = vec![0; kind.bytes(codes.len() / row_codes * inner)];
    let lines = bytes
        .par_chunks_mut(kind.bytes(inner))
        .zip(codes.par_chunks(row_codes));
    lines.enumerate().for_each(|(row, (bytes, codes))| {
        let blocks = bytes.chunks_exact_mut(kind.block_bytes());
        for (at, (bytes, codes)) in blocks.zip(codes.chunks_exact(block * bits / 8)).enumerate() {
            let scale = row * groups + at * block / packed.group();
            bytes[..2].copy_from_slice(&scales[2 * scale..][..2]);
            put_codes(kind, *bits, codes, &mut bytes[2..]);
        }
    });
    Ok(burn::tensor::Bytes::from_bytes_vec(bytes))
}

/// The numbers of a block, two to a byte or one.
fn put_codes(kind: TensorType, bits: usize, codes: &[u8], bytes: &mut [u8]) {
    let nibble = |at: usize| codes[at / 2] >> (4 * (at % 2)) & 15;
    match (kind, bits) {
        (TensorType::Q4_0, _) => {
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = nibble(at) | nibble(at + 16) << 4;
            }
        }
        (_, 4) => {
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = nibble(at).wrapping_sub(8);
            }
        }
        _ => bytes.copy_from_slice(codes),
    }
}
