//! Operands of products on tile registers: squares of sixteen lines by sixteen words, a word being two
//! numbers, rounded to `bf16`, that follow each other along the sum. A square of a left operand lies
//! line by line, one of a right operand word by word.

use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use crate::amx::{SIDE, SQUARE};
use crate::product::Layout;
use crate::simd::{Element, Simd};

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

/// An operand: `lines` rows or columns with sums over `depth`.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a, E> {
    pub data: &'a [E],
    pub layout: Layout,
    pub lines: usize,
    pub depth: usize,
    /// From a line to the next, or along the sum, whichever is not side by side.
    pub stride: usize,
}

impl<E: Element> Source<'_, E> {
    /// Packs the squares of sixteen lines from `line` on: as many as `to` holds, from `square` on along
    /// the sum. Beyond the operand there are zeros.
    #[inline(always)]
    pub(crate) fn pack<S: Simd>(
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
            self.pack(s, order, panel * SIDE, 0, to);
        }
    }

    /// Tells the processor that the square of sixteen lines from `line` on and depth `first` on will
    /// be read, which it does not see by itself: every line lies elsewhere.
    #[inline(always)]
    fn expect(&self, line: usize, first: usize) {
        for i in 0..SIDE {
            let at = match self.layout {
                Layout::AlongDepth => (line + i) * self.stride + first,
                Layout::AcrossDepth => (first + 2 * i) * self.stride + line,
            };
            let at = self.data.as_ptr().wrapping_add(at);
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
            let at = (line + i) * self.stride + first;
            let low = self.load(s, at, deep.min(SIDE));
            let high = self.load(s, at + SIDE, deep.saturating_sub(SIDE).min(SIDE));
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
            let low = self.load(s, depth * self.stride + line, here);
            let both = depth + 1 < self.depth;
            let next = (depth + 1) * self.stride + line;
            let high = self.load(s, next, if both { here } else { 0 });
            *register = s.pair(low, high);
        }
        words
    }

    /// `n` numbers from `at` on, zeros beyond.
    #[inline(always)]
    fn load<S: Simd>(&self, s: S, at: usize, n: usize) -> S::V {
        if n == 0 {
            return s.zero();
        }
        let from = &self.data[at..at + n];
        // SAFETY: `n` elements are readable.
        unsafe {
            if n == SIDE {
                E::load(s, from.as_ptr())
            } else {
                E::load_head(s, from.as_ptr(), n)
            }
        }
    }
}
