//! Weights in GGUF's blocks.

use std::ops::Range;

use bytes::Bytes;
use half::f16;
use rayon::prelude::*;

use super::{Form, GRAIN, Halves, PackedRows, PackedTensor};
use crate::{
    StoredDtype, StoredTensor,
    gguf::{GgufTensor, TensorType},
};

/// In which order the rows of a weight lie in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RowOrder {
    /// In that of the published files.
    #[default]
    Same,
    /// Of each of so many heads, the two halves that rotary angles turn against each other are laced
    /// into one another:
    ///
    /// ```text
    /// published   0 1 2 3 4 5 6 7        in the file   0 4 1 5 2 6 3 7
    /// ```
    Laced {
        /// Heads, which the rows are divided among.
        heads: usize,
    },
}

impl RowOrder {
    /// Where published row `row` of `rows` lies in the file.
    pub fn in_file(self, row: usize, rows: usize) -> usize {
        match self {
            Self::Same => row,
            Self::Laced { heads } => {
                let width = rows / heads;
                let (head, place) = (row / width, row % width);
                let half = width / 2;
                head * width + 2 * (place % half) + place / half
            }
        }
    }

    /// Which published row lies at row `row` of `rows` in the file.
    pub fn published(self, row: usize, rows: usize) -> usize {
        match self {
            Self::Same => row,
            Self::Laced { heads } => {
                let width = rows / heads;
                let (head, place) = (row / width, row % width);
                head * width + place % 2 * (width / 2) + place / 2
            }
        }
    }

    /// Whether so many rows can lie in this order.
    pub fn fits(self, rows: usize) -> bool {
        match self {
            Self::Same => true,
            Self::Laced { heads } => heads > 0 && rows.is_multiple_of(2 * heads),
        }
    }
}

/// How a weight lies in blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blocks {
    kind: TensorType,
    order: RowOrder,
}

impl PackedTensor {
    /// The weight `[out, in]` that a tensor of a GGUF file is, called `name`, its rows in `order`. None
    /// where it has other dimensions, or rows that cannot lie so.
    pub fn of_blocks(
        name: impl Into<String>,
        tensor: &GgufTensor,
        order: RowOrder,
    ) -> Option<Self> {
        // A bias is one number a row.
        let sides = match tensor.shape[..] {
            [out, inner] => [out, inner],
            [out] if tensor.kind.block() == 1 => [out, 1],
            _ => return None,
        };
        if !order.fits(sides[0]) {
            return None;
        }
        let name = name.into();
        let kind = tensor.kind;
        Some(Self {
            codes: StoredTensor {
                name: name.clone(),
                dtype: StoredDtype::U8,
                shape: tensor.shape.clone(),
                bytes: tensor.bytes.clone(),
                file: tensor.file.clone(),
            },
            name,
            sides,
            form: Form::Blocks(Blocks { kind, order }),
        })
    }
}

impl Blocks {
    /// Numbers that share a scale.
    pub fn group(self) -> usize {
        GRAIN
    }

    /// Bits of a number, where it is one of those that products take.
    pub fn bits(self) -> usize {
        match self.kind {
            TensorType::Q4_0 => 4,
            _ => 8,
        }
    }

    /// Whether these are integers with one scale of each 32, and nothing else.
    pub fn is_integers(self) -> bool {
        matches!(
            self.kind,
            TensorType::Q4_0 | TensorType::Q5_0 | TensorType::Q8_0
        )
    }

    /// The float type that comes closest.
    pub fn float_type(self) -> StoredDtype {
        self.kind.float().unwrap_or(StoredDtype::F16)
    }

    /// The blocks of some rows, one row after another, with what is made of them.
    fn of_rows(
        self,
        bytes: &Bytes,
        [out, inner]: [usize; 2],
        rows: Range<usize>,
    ) -> impl IndexedParallelIterator<Item = &[u8]> {
        let row_bytes = self.kind.bytes(inner);
        rows.into_par_iter()
            .map(move |row| &bytes[self.order.in_file(row, out) * row_bytes..][..row_bytes])
    }

    pub fn floats(self, bytes: &Bytes, sides: [usize; 2], rows: Range<usize>) -> Vec<f32> {
        let inner = sides[1];
        let mut floats = vec![0f32; rows.len() * inner];
        let blocks = self.of_rows(bytes, sides, rows);
        let lines = floats.par_chunks_mut(inner).zip(blocks);
        lines.for_each(|(floats, blocks)| self.kind.open(blocks, floats));
        floats
    }

    pub fn rows(self, bytes: &Bytes, sides: [usize; 2], rows: Range<usize>) -> Option<PackedRows> {
        if !self.is_integers() {
            return None;
        }
        let inner = sides[1];
        let groups = inner / self.kind.block();
        let bits = self.bits();
        let row_bytes = inner * bits / 8;
        let mut codes = vec![0u8; rows.len() * row_bytes];
        let mut scales = vec![f16::ZERO; rows.len() * groups];
        let lines = codes.par_chunks_mut(row_bytes);
        let lines = lines.zip(scales.par_chunks_mut(groups));
        let lines = lines.zip(self.of_rows(bytes, sides, rows));
        lines.for_each(|((codes, scales), blocks)| {
            let blocks = blocks.chunks_exact(self.kind.block_bytes());
            let parts = codes.chunks_exact_mut(self.kind.block() * bits / 8);
            for ((block, codes), scale) in blocks.zip(parts).zip(scales) {
                *scale = f16::from_le_bytes([block[0], block[1]]);
                self.put_codes(block, codes);
            }
        });
        Some(PackedRows {
            bits,
            codes: codes.into(),
            scales: Bytes::from_owner(Halves(scales)),
        })
    }

    /// The integers of a block in the order of the numbers.
    fn put_codes(self, block: &[u8], codes: &mut [u8]) {
        match self.kind {
            // Two to a byte: numbers 0 to 15 are the lower halves, 16 to 31 the upper ones.
            TensorType::Q4_0 => {
                let (pairs, _) = block[2..].as_chunks::<2>();
                let (low, high) = codes.split_at_mut(8);
                for ((pair, low), high) in pairs.iter().zip(low).zip(high) {
                    *low = pair[0] & 15 | pair[1] << 4;
                    *high = pair[0] >> 4 | pair[1] & 0xf0;
                }
            }
            TensorType::Q5_0 => {
                let mut fifth = [0; 4];
                fifth.copy_from_slice(&block[2..6]);
                let fifth = u32::from_le_bytes(fifth);
                for (at, byte) in block[6..].iter().enumerate() {
                    let upper = |at: usize| (fifth >> at & 1) as u8 * 16;
                    codes[at] = (byte & 15 | upper(at)).wrapping_sub(16);
                    codes[at + 16] = (byte >> 4 | upper(at + 16)).wrapping_sub(16);
                }
            }
            _ => codes.copy_from_slice(&block[2..]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::GgufFile;

    /// What a tensor's blocks are opened into.
    fn numbers(tensor: &GgufTensor) -> Vec<f32> {
        let mut numbers = vec![0.0; tensor.shape.iter().product()];
        tensor.kind.open(&tensor.bytes, &mut numbers);
        numbers
    }

    #[test]
    fn integers_in_blocks_are_the_same_in_rows_that_products_take() {
        let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/gguf");
        let file = GgufFile::open(format!("{fixtures}/every-type.gguf")).unwrap();
        let orders = [RowOrder::Same, RowOrder::Laced { heads: 1 }];
        for name in file.names() {
            let tensor = file.get(name).unwrap().some_rows(1..3);
            for order in orders {
                let packed = PackedTensor::of_blocks("a.weight", &tensor, order).unwrap();
                assert_eq!((packed.sides(), packed.group()), ([2, 512], 32));
                assert_eq!(packed.floats(0..2), numbers(&tensor), "{name}");
                assert_eq!(packed.floats(1..2), numbers(&tensor.some_rows(1..2)));
                let Some(rows) = packed.rows(0..2) else {
                    assert!(!packed.is_integers());
                    continue;
                };
                assert_eq!(rows.bits, packed.bits());
                let opened = (0..1024).map(|at| {
                    let code = match rows.bits {
                        8 => i32::from(rows.codes[at] as i8),
                        _ => i32::from(rows.codes[at / 2] >> (4 * (at % 2)) & 15) - 8,
                    };
                    let half = [rows.scales[at / 32 * 2], rows.scales[at / 32 * 2 + 1]];
                    half::f16::from_le_bytes(half).to_f32() * code as f32
                });
                assert_eq!(opened.collect::<Vec<_>>(), numbers(&tensor), "{name}");
            }
        }
    }

    #[test]
    fn laced_rows_are_put_in_order() {
        let order = RowOrder::Laced { heads: 2 };
        let found: Vec<usize> = (0..8).map(|row| order.published(row, 8)).collect();
        assert_eq!(found, [0, 2, 1, 3, 4, 6, 5, 7]);
        for rows in [8, 12, 40] {
            for row in 0..rows {
                assert_eq!(order.published(order.in_file(row, rows), rows), row);
            }
        }
        assert!(order.fits(8) && !order.fits(6) && !order.fits(7));
    }
}
