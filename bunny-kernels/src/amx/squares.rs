//! Operands of products on tile registers: squares of sixteen lines by sixteen words, a word being two
//! numbers, rounded to `bf16`, that follow each other along the sum. A square of a left operand lies
//! line by line, one of a right operand word by word.

use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use crate::amx::{SIDE, SQUARE};
use crate::lines::Lines;
use crate::product::{Layout, pack::Source};
use crate::simd::Simd;

/// Squares that packing is told of ahead.
const AHEAD: usize = 4;

/// How the registers of a square lie.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// A register is a line.
    Lines,
    /// A register is a word of all lines.
    Words,
}

impl<L: Lines> Source<L> {
    /// Packs the squares of sixteen lines from `line` on: as many as `to` holds, from `square` on along
    /// the sum. Beyond the operand there are zeros.
    #[inline(always)]
    pub(crate) fn pack_squares<S: Simd>(
        &self,
        s: S,
        order: Order,
        line: usize,
        square: usize,
        to: &mut [f32],
    ) {
        for (at, to) in to.chunks_exact_mut(SQUARE).enumerate() {
            let first = 2 * SIDE * (square + at);
            self.expect(line, first + AHEAD * 2 * SIDE);
            let (mut registers, loaded) = match self.layout {
                Layout::AlongDepth => (self.load_lines(s, line, first), Order::Lines),
                Layout::AcrossDepth => (self.load_words(s, line, first), Order::Words),
            };
            if loaded != order {
                s.transpose(&mut registers);
            }
            for (register, to) in registers.iter().zip(to.chunks_exact_mut(SIDE)) {
                s.set(to, 0, *register);
            }
        }
    }

    /// Packs all lines, sixteen at a time, `squares` of each.
    #[inline(always)]
    pub(crate) fn pack_all<S: Simd>(&self, s: S, order: Order, squares: usize, to: &mut [f32]) {
        for (panel, to) in to.chunks_exact_mut(squares * SQUARE).enumerate() {
            self.pack_squares(s, order, panel * SIDE, 0, to);
        }
    }

    /// Tells the processor that the square of sixteen lines from `line` on and depth `first` on will
    /// be read, which it does not see by itself: every line lies elsewhere.
    #[inline(always)]
    fn expect(&self, line: usize, first: usize) {
        for i in 0..SIDE {
            let at = match self.layout {
                Layout::AlongDepth => self.data.place(line + i, first),
                Layout::AcrossDepth => self.data.place(first + 2 * i, line),
            };
            // SAFETY: it is no access, and may point anywhere.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
        }
    }

    /// Sixteen lines from `line` on, 32 numbers of each from `first` on.
    #[inline(always)]
    fn load_lines<S: Simd>(&self, s: S, line: usize, first: usize) -> [S::V; SIDE] {
        let here = self.lines.saturating_sub(line);
        let deep = self.depth.saturating_sub(first);
        let mut lines = [s.zero(); SIDE];
        for (i, register) in lines.iter_mut().enumerate().take(here) {
            let rest = deep.saturating_sub(SIDE).min(SIDE);
            let low = self.data.load(s, line + i, first, deep.min(SIDE));
            let high = self.data.load(s, line + i, first + SIDE, rest);
            *register = s.words(low, high);
        }
        lines
    }

    /// Sixteen words from depth `first` on, each of sixteen lines from `line` on.
    #[inline(always)]
    fn load_words<S: Simd>(&self, s: S, line: usize, first: usize) -> [S::V; SIDE] {
        let here = self.lines.saturating_sub(line).min(SIDE);
        let mut words = [s.zero(); SIDE];
        for (i, register) in words.iter_mut().enumerate() {
            let depth = first + 2 * i;
            if depth >= self.depth {
                break;
            }
            let low = self.data.load(s, depth, line, here);
            let both = depth + 1 < self.depth;
            let high = self
                .data
                .load(s, depth + 1, line, if both { here } else { 0 });
            *register = s.pair(low, high);
        }
        words
    }
}
