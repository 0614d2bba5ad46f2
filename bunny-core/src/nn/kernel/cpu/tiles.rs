//! Products of numbers rounded to `bf16` on tile registers (AMX).
//!
//! Both operands are packed into squares of sixteen lines by sixteen words, a word being two numbers
//! that follow each other along the sum. A square of the left operand lies line by line, one of the
//! right operand word by word. Sums are `f32`; their order depends on [`DEPTH`] alone.

use super::parallel;
use super::product::{Layout, Product, Start, write};
use super::scratch::{Scratch, Shared};
use super::simd::amx::{SIDE, SQUARE, Tiles};
use super::simd::{Element, Kernel, Simd, dispatch_pairs};

/// Squares along the sum that a task holds of its columns: 32 KiB, which the first cache has.
const DEPTH: usize = 16;
/// Columns of the result that a task owns, and rows that it computes at a time.
const BLOCK: usize = 2 * SIDE;
/// Floats of the packed left operand at a time.
const LEFT_FLOATS: usize = 8 << 20;

/// How the registers of a square lie.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// A register is a line.
    Lines,
    /// A register is a word of all lines.
    Words,
}

/// An operand: `lines` rows or columns with sums over `depth`.
#[derive(Clone, Copy)]
struct Source<'a, E> {
    data: &'a [E],
    layout: Layout,
    lines: usize,
    depth: usize,
}

impl<E: Element> Source<'_, E> {
    /// Packs the squares of sixteen lines from `line` on: as many as `to` holds, from `square` on along
    /// the sum. Beyond the operand there are zeros.
    #[inline(always)]
    fn pack<S: Simd>(&self, s: S, order: Order, line: usize, square: usize, to: &mut [f32]) {
        for (at, to) in to.chunks_exact_mut(SQUARE).enumerate() {
            let first = 2 * SIDE * (square + at);
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

    /// Sixteen lines from `line` on, 32 numbers of each from `first` on.
    #[inline(always)]
    fn load_lines<S: Simd>(&self, s: S, line: usize, first: usize) -> [S::V; SIDE] {
        let here = self.lines.saturating_sub(line);
        let deep = self.depth.saturating_sub(first);
        let mut lines = [s.zero(); SIDE];
        for (i, register) in lines.iter_mut().enumerate().take(here) {
            let at = (line + i) * self.depth + first;
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
            let low = self.load(s, depth * self.lines + line, here);
            let both = depth + 1 < self.depth;
            let next = (depth + 1) * self.lines + line;
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

/// Computes `product` into `y`, whose sizes have been looked at.
///
/// # Safety
/// The processor has tiles, and this process may use them.
pub(super) unsafe fn compute<E: Element>(product: Product<'_, E>, y: &mut [f32]) {
    let Product { m, n, k, .. } = product;
    let left = Source {
        data: product.a,
        layout: product.a_layout,
        lines: m,
        depth: k,
    };
    let squares = k.div_ceil(2 * SIDE);
    let rows_at_once = (LEFT_FLOATS / (squares * SIDE) / BLOCK).max(1) * BLOCK;
    let out = Shared::new(y);
    for first in (0..m).step_by(rows_at_once) {
        let rows = rows_at_once.min(m - first);
        let blocks = rows.div_ceil(BLOCK);
        // [depth block][row block][half][square]
        let mut packed = Scratch::new(2 * blocks * squares * SQUARE);
        let to = Shared::new(packed.as_mut_slice());
        parallel::for_each(2 * blocks, |panel| {
            for square in (0..squares).step_by(DEPTH) {
                let deep = DEPTH.min(squares - square);
                let at = (2 * blocks * square + panel * deep) * SQUARE;
                dispatch_pairs(Pack {
                    source: left,
                    line: first + panel * SIDE,
                    square,
                    // SAFETY: this task's own squares.
                    to: unsafe { to.part(at, deep * SQUARE) },
                });
            }
        });
        let chunks = n.div_ceil(BLOCK);
        let parts = (4 * rayon::current_num_threads())
            .div_ceil(chunks)
            .clamp(1, blocks.div_ceil(4));
        let part = blocks.div_ceil(parts);
        parallel::for_each(chunks * parts, |task| {
            let (column, start) = (task / parts * BLOCK, (task % parts * part).min(blocks));
            dispatch_pairs(Chunk {
                product,
                left: packed.as_slice(),
                blocks,
                block_range: start..(start + part).min(blocks),
                first,
                rows,
                column,
                out,
            });
        });
    }
}

/// [`Source::pack`] of the left operand.
struct Pack<'a, E> {
    source: Source<'a, E>,
    line: usize,
    square: usize,
    to: &'a mut [f32],
}

impl<E: Element> Kernel for Pack<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        assert_eq!(S::LANES, SIDE, "tiles come with AVX-512");
        self.source
            .pack(s, Order::Lines, self.line, self.square, self.to);
    }
}

/// A block of columns of the result, for some blocks of rows.
struct Chunk<'a, E> {
    product: Product<'a, E>,
    left: &'a [f32],
    blocks: usize,
    block_range: std::ops::Range<usize>,
    first: usize,
    rows: usize,
    column: usize,
    out: Shared<f32>,
}

impl<E: Element> Kernel for Chunk<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        assert_eq!(S::LANES, SIDE, "tiles come with AVX-512");
        let Product {
            n, k, b, b_layout, ..
        } = self.product;
        let source = Source {
            data: b,
            layout: b_layout,
            lines: n,
            depth: k,
        };
        let squares = k.div_ceil(2 * SIDE);
        let mut right = Scratch::new(2 * DEPTH.min(squares) * SQUARE);
        let mut sums = Scratch::new(BLOCK * BLOCK);
        // SAFETY: whoever calls `compute` knows that there are tiles.
        let tiles = unsafe { Tiles::take() };
        for square in (0..squares).step_by(DEPTH) {
            let deep = DEPTH.min(squares - square);
            let (low, high) = right.as_mut_slice()[..2 * deep * SQUARE].split_at_mut(deep * SQUARE);
            source.pack(s, Order::Words, self.column, square, low);
            source.pack(s, Order::Words, self.column + SIDE, square, high);
            for block in self.block_range.clone() {
                let at = 2 * (self.blocks * square + block * deep) * SQUARE;
                let (upper, lower) = self.left[at..at + 2 * deep * SQUARE].split_at(deep * SQUARE);
                let operands = (
                    [upper.as_ptr(), lower.as_ptr()],
                    [low.as_ptr(), high.as_ptr()],
                );
                // SAFETY: all four have `deep` squares.
                unsafe {
                    self.block(
                        s,
                        &tiles,
                        deep,
                        operands,
                        block,
                        square == 0,
                        sums.as_mut_slice(),
                    )
                };
            }
        }
    }
}

/// The packed operands of a block: two left ones, two right ones.
type Operands = ([*const f32; 2], [*const f32; 2]);

impl<E: Element> Chunk<'_, E> {
    /// Adds the product of `operands` to a block of the result; the first time, to what it starts from.
    ///
    /// # Safety
    /// The operands have `deep` squares; the block is this task's own.
    #[inline(always)]
    unsafe fn block<S: Simd>(
        &self,
        s: S,
        tiles: &Tiles,
        deep: usize,
        (left, right): Operands,
        block: usize,
        is_first: bool,
        sums: &mut [f32],
    ) {
        static ZEROS: [f32; BLOCK] = [0.0; BLOCK];
        let Product { n, start, .. } = self.product;
        let (row, column) = (block * BLOCK, self.column);
        let (rows, width) = (BLOCK.min(self.rows - row), BLOCK.min(n - column));
        // SAFETY: within the result, and the bias, which has a value a column.
        unsafe {
            let to = self.out.get().add((self.first + row) * n + column);
            let from = match start {
                Start::Bias(bias) if is_first => (bias.as_ptr().add(column), 0),
                Start::Zero if is_first => (ZEROS.as_ptr(), 0),
                _ => (to.cast_const(), n),
            };
            if (rows, width) == (BLOCK, BLOCK) {
                return tiles.multiply(deep, left, right, from, (to, n));
            }
            let zeros = (ZEROS.as_ptr(), 0);
            tiles.multiply(deep, left, right, zeros, (sums.as_mut_ptr(), BLOCK));
            for i in 0..rows {
                let at = i * BLOCK;
                let line = [[s.get(sums, at), s.get(sums, at + SIDE)]];
                let from = Some((from.0.add(i * from.1), n));
                write::<S, 1, 2>(s, &line, from, to.add(i * n), n, 1, width);
            }
        }
    }
}
