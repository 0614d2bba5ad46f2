//! Integers with scales beside them, as `compressed-tensors` writes them.

use std::ops::Range;

use bytes::Bytes;
use half::f16;
use rayon::prelude::*;

use super::{GRAIN, Halves, PackedRows, words};
use crate::{StoredDtype, StoredTensor, convert};

/// How the integers of a weight lie in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Bytes with sign, `[out, in]`.
    Bytes,
    /// Words of 32 bits of so many each, `[out, words]`.
    Words { bits: usize },
}

impl Layout {
    /// Bits of a number.
    pub fn bits(self) -> usize {
        match self {
            Self::Bytes => 8,
            Self::Words { bits } => bits,
        }
    }
}

/// What stands beside integers.
#[derive(Debug, Clone)]
pub(super) struct Integers {
    pub group: usize,
    pub layout: Layout,
    pub scales: StoredTensor,
    pub zeros: Option<StoredTensor>,
}

/// Integers, with their scales.
#[derive(Clone, Copy)]
struct Weight<'a> {
    codes: &'a Bytes,
    sides: [usize; 2],
    of: &'a Integers,
}

impl Integers {
    pub fn floats(&self, codes: &Bytes, sides: [usize; 2], rows: Range<usize>) -> Vec<f32> {
        let of = self;
        Weight { codes, sides, of }.floats(rows)
    }

    pub fn rows(&self, codes: &Bytes, sides: [usize; 2], rows: Range<usize>) -> Option<PackedRows> {
        let of = self;
        Weight { codes, sides, of }.rows(rows)
    }
}

impl Weight<'_> {
    /// Groups of a row.
    fn groups(&self) -> usize {
        self.sides[1].div_ceil(self.of.group)
    }

    /// Bytes of the integers of a row.
    fn row_bytes(&self) -> usize {
        match self.of.layout {
            Layout::Bytes => self.sides[1],
            Layout::Words { bits } => 4 * words(self.sides[1], bits),
        }
    }

    /// The number `at` of row `row`.
    fn integer(&self, row: usize, at: usize) -> i32 {
        let bytes = &self.codes[row * self.row_bytes()..];
        match self.of.layout {
            Layout::Bytes => i32::from(bytes[at] as i8),
            Layout::Words { bits: 8 } => i32::from(bytes[at]) - 128,
            Layout::Words { .. } => i32::from(bytes[at / 2] >> (4 * (at % 2)) & 15) - 8,
        }
    }

    /// The zero point of a group of row `row`.
    fn zero(&self, row: usize, group: usize) -> i32 {
        let Some(zeros) = &self.of.zeros else {
            return 0;
        };
        let byte = |at: usize| zeros.bytes[at];
        match (zeros.dtype, self.of.layout.bits()) {
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
        let size = self.of.scales.dtype.size();
        let groups = self.groups();
        let floats = |range: Range<usize>| {
            let bytes = &self.of.scales.bytes[range.start * size..range.end * size];
            convert::to_f32(bytes, self.of.scales.dtype).expect("scales are floats")
        };
        match self.has_one_scale() {
            true => vec![floats(0..1)[0]; rows.len() * groups],
            false => floats(rows.start * groups..rows.end * groups),
        }
    }

    /// Whether all rows share a scale.
    fn has_one_scale(&self) -> bool {
        self.of.scales.shape.iter().product::<usize>() == 1
    }

    /// Some rows as floats: what they stand for, each product rounded once.
    fn floats(&self, rows: Range<usize>) -> Vec<f32> {
        let ([_, inner], groups) = (self.sides, self.groups());
        let scales = self.scales(&rows);
        let mut floats = vec![0f32; rows.len() * inner];
        let lines = floats.par_chunks_mut(inner.max(1)).enumerate();
        lines.for_each(|(at, floats)| {
            let row = rows.start + at;
            for (group, floats) in floats.chunks_mut(self.of.group).enumerate() {
                let (scale, zero) = (scales[at * groups + group], self.zero(row, group));
                for (place, float) in floats.iter_mut().enumerate() {
                    let integer = self.integer(row, group * self.of.group + place) - zero;
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
    fn rows(&self, rows: Range<usize>) -> Option<PackedRows> {
        let [_, inner] = self.sides;
        if self.of.group < inner && !self.of.group.is_multiple_of(GRAIN) {
            return None;
        }
        let scales = self.half_scales(&rows)?;
        let stored = rows.start * self.row_bytes()..rows.end * self.row_bytes();
        let stored = self.codes.slice(stored);
        let (bits, codes) = match (&self.of.zeros, self.of.layout) {
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
            bytes
                .chunks_mut(self.of.group)
                .enumerate()
                .all(|(group, to)| {
                    let zero = self.zero(row, group);
                    to.iter_mut().enumerate().all(|(place, byte)| {
                        let number = self.integer(row, group * self.of.group + place) - zero;
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
        if self.of.scales.dtype == StoredDtype::F16
            && self.of.scales.is_aligned()
            && !self.has_one_scale()
        {
            let size = StoredDtype::F16.size();
            let part = rows.start * groups * size..rows.end * groups * size;
            return Some(self.of.scales.bytes.slice(part));
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
