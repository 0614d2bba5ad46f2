//! Products of numbers rounded to `bf16` on tile registers (AMX).
//!
//! Both operands are packed into [`squares`](crate::amx::squares). Sums are `f32`; their order depends on
//! [`DEPTH`] alone.

use core::ops::Range;

use crate::amx::squares::Order;
use crate::amx::{SIDE, SQUARE, Tiles};
use crate::lines::{Floats, Lines};
use crate::parallel;
use crate::product::pack::Source;
use crate::product::{Product, Start, write};
use crate::scratch::{Scratch, Shared, Unset};
use crate::simd::{Kernel, Simd, dispatch_pairs};

/// Squares along the sum that are multiplied at a time: 16 KiB of either operand, so that the first
/// cache has both.
const DEPTH: usize = 8;
/// Rows and columns of the result that are computed at a time.
const BLOCK: usize = 2 * SIDE;
/// Blocks of columns that a task owns at most: enough that what it reads of the left operand, over and
/// over, is worth having in the second cache.
const ACROSS: usize = 8;
/// Blocks of rows that a task owns at most. Its sums, 32 KiB for every one of them, and 16 KiB of the
/// left operand are to fit the second cache.
const DOWN: usize = 24;
/// Floats of the packed left operand at a time.
const LEFT_FLOATS: usize = 8 << 20;

/// Computes `product` into `y`, whose sizes have been looked at.
///
/// # Safety
/// The processor has tiles, and this process may use them.
pub(crate) unsafe fn compute<L: Lines>(product: Product<'_, L>, y: &mut [f32]) {
    let Product { m, n, k, .. } = product;
    let left = product.left();
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
        // Tasks as large as there are caches for, but several for every thread.
        let several = 4 * rayon::current_num_threads();
        let across = n.div_ceil(BLOCK);
        let wide = (across / several).clamp(1, ACROSS);
        let tasks_across = across.div_ceil(wide);
        let tasks_down = blocks
            .div_ceil(DOWN)
            .max(several.div_ceil(tasks_across))
            .min(blocks);
        let high = blocks.div_ceil(tasks_down);
        parallel::for_each(tasks_across * tasks_down, |task| {
            let (column, block) = (task / tasks_down * wide, task % tasks_down * high);
            dispatch_pairs(Task {
                product,
                left: packed.as_slice(),
                blocks,
                down: block..(block + high).min(blocks),
                across: column..(column + wide).min(across),
                first,
                rows,
                out,
            });
        });
    }
}

/// [`Source::pack_squares`] of the left operand.
struct Pack<'a> {
    source: Source<Floats<'a, f32>>,
    line: usize,
    square: usize,
    to: &'a mut [f32],
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        assert_eq!(S::LANES, SIDE, "tiles come with AVX-512");
        self.source
            .pack_squares(s, Order::Lines, self.line, self.square, self.to);
    }
}

/// Some blocks of rows of the result by some of columns.
struct Task<'a, L> {
    product: Product<'a, L>,
    /// The packed left operand, and its blocks of rows.
    left: &'a [f32],
    blocks: usize,
    down: Range<usize>,
    across: Range<usize>,
    /// The first row of the result of those that are packed, and how many are.
    first: usize,
    rows: usize,
    out: Shared<'a, f32>,
}

impl<L: Lines> Kernel for Task<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        assert_eq!(S::LANES, SIDE, "tiles come with AVX-512");
        let source = self.product.right();
        let squares = self.product.k.div_ceil(2 * SIDE);
        let mut right = Scratch::new(2 * DEPTH.min(squares) * SQUARE);
        let mut edge = Scratch::new(BLOCK * BLOCK);
        // Where a sum goes on, a block after another: strides of the result's rows suit no cache.
        let carried = if squares > DEPTH {
            self.down.len() * self.across.len() * BLOCK * BLOCK
        } else {
            0
        };
        let mut sums = Unset::new(carried);
        // SAFETY: whoever calls `compute` knows that there are tiles.
        let tiles = unsafe { Tiles::take() };
        for square in (0..squares).step_by(DEPTH) {
            let deep = DEPTH.min(squares - square);
            let mut carry = sums.as_mut_ptr();
            for column in self.across.clone() {
                let packed = &mut right.as_mut_slice()[..2 * deep * SQUARE];
                let (low, high) = packed.split_at_mut(deep * SQUARE);
                source.pack_squares(s, Order::Words, column * BLOCK, square, low);
                source.pack_squares(s, Order::Words, column * BLOCK + SIDE, square, high);
                for row in self.down.clone() {
                    let at = 2 * (self.blocks * square + row * deep) * SQUARE;
                    let packed = &self.left[at..at + 2 * deep * SQUARE];
                    let (upper, lower) = packed.split_at(deep * SQUARE);
                    let step = Step {
                        left: [upper.as_ptr(), lower.as_ptr()],
                        right: [low.as_ptr(), high.as_ptr()],
                        deep,
                        carry,
                        is_first: square == 0,
                        is_last: square + deep == squares,
                    };
                    // SAFETY: operands have `deep` squares. The block is this task's own, and so are the sums
                    // that are carried to it, unless its first step is its last.
                    unsafe { self.block(s, &tiles, row, column, step, edge.as_mut_slice()) };
                    carry = carry.wrapping_add(BLOCK * BLOCK);
                }
            }
        }
    }
}

/// What is added to a block at a time.
struct Step {
    /// The packed operands, an upper and a lower one, one to the left and one to the right.
    left: [*const f32; 2],
    right: [*const f32; 2],
    /// The squares of each.
    deep: usize,
    /// The block's sum between its steps.
    carry: *mut f32,
    is_first: bool,
    is_last: bool,
}

impl<L: Lines> Task<'_, L> {
    /// Adds a step to a block: the first to what the result starts from, the last into the result.
    ///
    /// # Safety
    /// The operands have `deep` squares; the block is this task's own, and its `carry` has room for it,
    /// unless the first step is the last.
    #[inline(always)]
    unsafe fn block<S: Simd>(
        &self,
        s: S,
        tiles: &Tiles,
        row: usize,
        column: usize,
        step: Step,
        edge: &mut [f32],
    ) {
        static ZEROS: [f32; BLOCK] = [0.0; BLOCK];
        let zeros = (ZEROS.as_ptr(), 0);
        let Product { n, start, .. } = self.product;
        let (row, column) = (row * BLOCK, column * BLOCK);
        let (rows, width) = (BLOCK.min(self.rows - row), BLOCK.min(n - column));
        let is_whole = (rows, width) == (BLOCK, BLOCK);
        // SAFETY: within the result, and the bias, which has a value a column. What the tiles read and write
        // is whole; of a block at the edge it is `edge`, and only what is there goes to the result.
        unsafe {
            let to = self.out.get().add((self.first + row) * n + column);
            let begin = match start {
                Start::Zero => zeros,
                Start::Bias(bias) => (bias.as_ptr().add(column), 0),
                Start::Present => (to.cast_const(), n),
            };
            let from = match (step.is_first, is_whole) {
                (true, true) => begin,
                (true, false) => zeros,
                (false, _) => (step.carry.cast_const(), BLOCK),
            };
            let into = match (step.is_last, is_whole) {
                (true, true) => (to, n),
                (true, false) => (edge.as_mut_ptr(), BLOCK),
                (false, _) => (step.carry, BLOCK),
            };
            tiles.multiply(step.deep, step.left, step.right, from, into);
            if step.is_last && !is_whole {
                for i in 0..rows {
                    let at = i * BLOCK;
                    let line = [[s.get(edge, at), s.get(edge, at + SIDE)]];
                    // A row of zeros is as long as a block, of which `write` reads `width`.
                    let plus = Some((begin.0.add(i * begin.1), n));
                    write::<S, 1, 2>(s, &line, plus, to.add(i * n), n, 1, width);
                }
            }
        }
    }
}
