//! The operands of a product, repacked in the order in which the register tile takes them.
//!
//! What is packed are words of 32 bits: a float, or with `PAIRS` two `bf16` that follow each other along the sum, the
//! first in the lower half, as AVX512-BF16 multiplies them.

use crate::lines::Lines;
use crate::product::Layout;
use crate::simd::{MAX_LANES, Simd};

/// Numbers along the sum that make a word.
pub(crate) const fn grain(pairs: bool) -> usize {
    if pairs { 2 } else { 1 }
}

/// The word of two numbers, each rounded to `bf16`.
#[inline(always)]
pub(crate) fn word(low: f32, high: f32) -> f32 {
    f32::from_bits(rounded(low) >> 16 | rounded(high) & 0xFFFF_0000)
}

/// The bits of `x` rounded to the nearest `bf16`, ties to even, in the upper half. NaN stays so.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    if x.is_nan() {
        bits | 0x40_0000
    } else {
        bits + (0x7FFF + (bits >> 16 & 1))
    }
}

/// An operand of a product: `lines` rows of the left one, or columns of the right one, with sums over
/// `depth`.
#[derive(Clone, Copy)]
pub(crate) struct Source<L> {
    pub(crate) data: L,
    pub(crate) layout: Layout,
    pub(crate) lines: usize,
    pub(crate) depth: usize,
}

impl<L: Lines> Source<L> {
    /// # Panics
    /// Unless the operand lies in memory as it says.
    pub(crate) fn assert_sides(&self, what: &str) {
        match self.layout {
            Layout::AlongDepth => self.data.assert_sides(self.lines, self.depth, what),
            Layout::AcrossDepth => self.data.assert_sides(self.depth, self.lines, what),
        }
    }

    /// Packs `count` lines from `line` on, from word `word` on, as `[words][width]` with zeros beyond
    /// `count`; as many words as `to` holds.
    #[inline(always)]
    pub(crate) fn pack<S: Simd, const PAIRS: bool>(
        &self,
        s: S,
        line: usize,
        count: usize,
        word: usize,
        width: usize,
        to: &mut [f32],
    ) {
        assert!(line + count <= self.lines && count <= width);
        let words = to.len() / width;
        for group in (0..width).step_by(S::LANES) {
            let part = Part {
                line: line + group,
                count: count.saturating_sub(group).min(S::LANES),
                group,
                kept: S::LANES.min(width - group),
                width,
            };
            match self.layout {
                Layout::AlongDepth => self.turn::<S, PAIRS>(s, part, word, words, to),
                Layout::AcrossDepth => self.gather::<S, PAIRS>(s, part, word, words, to),
            }
        }
    }

    /// Lines that run along the sum: a register a line, as many words as it has lanes, turned.
    #[inline(always)]
    fn turn<S: Simd, const PAIRS: bool>(
        &self,
        s: S,
        part: Part,
        first: usize,
        words: usize,
        to: &mut [f32],
    ) {
        let lanes = S::LANES;
        for word in (0..words).step_by(lanes) {
            let from = (first + word) * grain(PAIRS);
            let mut square = [s.zero(); MAX_LANES];
            let square = &mut square[..lanes];
            for (i, row) in square.iter_mut().enumerate().take(part.count) {
                let numbers = |from: usize| {
                    let left = self.depth.saturating_sub(from).min(lanes);
                    self.data.load(s, part.line + i, from, left)
                };
                *row = match PAIRS {
                    true => s.words(numbers(from), numbers(from + lanes)),
                    false => numbers(from),
                };
            }
            s.transpose(square);
            for (i, row) in square.iter().enumerate().take(words - word) {
                part.store(s, *row, word + i, to);
            }
        }
    }

    /// Lines that run across the sum: a register of all lines a number.
    #[inline(always)]
    fn gather<S: Simd, const PAIRS: bool>(
        &self,
        s: S,
        part: Part,
        first: usize,
        words: usize,
        to: &mut [f32],
    ) {
        let numbers = |at: usize| match at < self.depth {
            true => self.data.load(s, at, part.line, part.count),
            false => s.zero(),
        };
        for word in 0..words {
            let at = (first + word) * grain(PAIRS);
            let row = match PAIRS {
                true => s.pair(numbers(at), numbers(at + 1)),
                false => numbers(at),
            };
            part.store(s, row, word, to);
        }
    }
}

/// As many lines as a register has lanes.
#[derive(Clone, Copy)]
struct Part {
    /// The first of them in the operand, and how many it has.
    line: usize,
    count: usize,
    /// Where they lie among the lines that are packed side by side, and how many places there are.
    group: usize,
    kept: usize,
    width: usize,
}

impl Part {
    #[inline(always)]
    fn store<S: Simd>(self, s: S, row: S::V, word: usize, to: &mut [f32]) {
        let at = word * self.width + self.group;
        s.set(&mut to[at..at + self.kept], 0, row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    #[test]
    fn words_round_as_bf16_does() {
        let numbers = [
            0.0,
            -0.0,
            1.0,
            1.003_906_3,
            1.011_718_8,
            -1.5e-40,
            3.4e38,
            f32::MAX,
            f32::INFINITY,
            f32::NAN,
        ];
        for low in numbers {
            for high in numbers {
                let bits = word(low, high).to_bits();
                assert_eq!(
                    (bits & 0xFFFF) as u16,
                    bf16::from_f32(low).to_bits(),
                    "{low}"
                );
                assert_eq!(
                    (bits >> 16) as u16,
                    bf16::from_f32(high).to_bits(),
                    "{high}"
                );
            }
        }
    }
}
