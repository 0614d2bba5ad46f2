//! Products with few rows, as in decoding: weights stream through once, at the speed of memory.

use std::ops::Range;

use crate::parallel;
use crate::scratch::Shared;
use crate::simd::{Element, Kernel, Simd, dispatch, prefetch};
use crate::weight::{WeightRef, with_elements};

/// Bytes of weight that one task streams.
const TASK_BYTES: usize = 256 << 10;
/// Rows of the weight that are multiplied side by side, for one row of input or two: their sums are
/// apart, so that none waits for another. More rows leave registers for [`FEW_SIDE_BY_SIDE`].
const SIDE_BY_SIDE: usize = 8;
const FEW_SIDE_BY_SIDE: usize = 4;
/// Bytes of weight that are fetched ahead, at most: the rows after those at hand. Prefetchers of the
/// processor end at pages; rows side by side lie in several, each of which they find out anew.
const AHEAD: usize = 96 << 10;
/// Bytes that memory gives at a time.
pub(crate) const LINE: usize = 64;

/// One of the products that are computed together: `y [rows, out] = x [rows, inner] · Wᵀ + bias`.
#[derive(Clone, Copy)]
pub(crate) struct Streamed<'a, W> {
    pub(crate) weight: W,
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) y: Shared<'a, f32>,
    pub(crate) inner: usize,
    pub(crate) out: usize,
}

/// A weight that streams by, and the input that it is multiplied with.
pub(crate) trait Weight: Copy + Send + Sync {
    /// Bytes of a row.
    fn row_bytes(&self, inner: usize) -> usize;

    /// Computes some columns of the result for all rows.
    ///
    /// # Safety
    /// As [`stream`]; the columns are this call's alone.
    unsafe fn columns(product: &Streamed<'_, Self>, rows: usize, columns: Range<usize>);
}

impl<W: Weight> Streamed<'_, W> {
    /// Rows of the weight that a task streams.
    fn columns(&self) -> usize {
        let row = self.weight.row_bytes(self.inner).max(1);
        (TASK_BYTES / row).next_multiple_of(SIDE_BY_SIDE)
    }

    fn tasks(&self) -> usize {
        self.out.div_ceil(self.columns())
    }
}

/// Computes all products, for so many rows of input each, whose slices have been looked at.
///
/// # Safety
/// Every `y` holds `[rows, out]`, which nobody else reads or writes meanwhile.
pub(crate) unsafe fn stream<W: Weight>(rows: usize, products: &[Streamed<'_, W>]) {
    let tasks = products.iter().map(Streamed::tasks).sum();
    parallel::for_each(tasks, |mut task| {
        for product in products {
            if task >= product.tasks() {
                task -= product.tasks();
                continue;
            }
            let columns = product.columns();
            let columns = task * columns..product.out.min((task + 1) * columns);
            // SAFETY: the caller's promise; tasks have columns of their own.
            return unsafe { W::columns(product, rows, columns) };
        }
    });
}

/// A weight of floats `[out, inner]`, and an input `[rows, inner]`.
#[derive(Clone, Copy)]
pub(crate) struct Floats<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) w: WeightRef<'a>,
}

impl Weight for Floats<'_> {
    fn row_bytes(&self, inner: usize) -> usize {
        self.w.element_bytes() * inner
    }

    unsafe fn columns(product: &Streamed<'_, Self>, rows: usize, columns: Range<usize>) {
        let Streamed {
            weight: Self { x, w },
            bias,
            y,
            inner,
            out,
        } = *product;
        with_elements!(w, w => dispatch(Stream {
            x,
            w,
            bias,
            y,
            rows,
            inner,
            out,
            columns,
        }))
    }
}

struct Stream<'a, E> {
    x: &'a [f32],
    w: &'a [E],
    bias: Option<&'a [f32]>,
    y: Shared<'a, f32>,
    rows: usize,
    inner: usize,
    out: usize,
    columns: Range<usize>,
}

impl<E: Element> Kernel for Stream<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let row = size_of::<E>() * self.inner;
        let mut column = self.columns.start;
        if self.rows <= 2 && SIDE_BY_SIDE * row <= AHEAD {
            while column + SIDE_BY_SIDE <= self.columns.end {
                self.all_rows::<S, SIDE_BY_SIDE>(s, column);
                column += SIDE_BY_SIDE;
            }
        }
        while column + FEW_SIDE_BY_SIDE <= self.columns.end {
            self.all_rows::<S, FEW_SIDE_BY_SIDE>(s, column);
            column += FEW_SIDE_BY_SIDE;
        }
        while column < self.columns.end {
            self.all_rows::<S, 1>(s, column);
            column += 1;
        }
    }
}

impl<E: Element> Stream<'_, E> {
    /// `C` columns of the result. Rows go together as far as registers allow.
    #[inline(always)]
    fn all_rows<S: Simd, const C: usize>(&self, s: S, column: usize) {
        let most = if S::LANES == 16 { 6 } else { 2 };
        let mut row = 0;
        while row < self.rows {
            let here = most.min(self.rows - row);
            // SAFETY: `row + here <= rows`, `column + C <= out`, and tasks have columns of their own.
            unsafe {
                match here {
                    1 => self.tile::<S, C, 1>(s, column, row),
                    2 => self.tile::<S, C, 2>(s, column, row),
                    3 => self.tile::<S, C, 3>(s, column, row),
                    4 => self.tile::<S, C, 4>(s, column, row),
                    5 => self.tile::<S, C, 5>(s, column, row),
                    _ => self.tile::<S, C, 6>(s, column, row),
                }
            }
            row += here;
        }
    }

    /// `C` columns by `R` rows. The order of each sum is the same for any `C` and `R`.
    ///
    /// While the first rows go by, the `C` rows of the weight after these are fetched, in the order of
    /// memory.
    ///
    /// # Safety
    /// Columns `column..column + C` and rows `row..row + R` exist, and nobody else writes them.
    #[inline(always)]
    unsafe fn tile<S: Simd, const C: usize, const R: usize>(
        &self,
        s: S,
        column: usize,
        row: usize,
    ) {
        let inner = self.inner;
        let of_a_line = LINE / size_of::<E>();
        let mut sums = [[s.zero(); R]; C];
        // SAFETY: `C` whole rows of W and `R` of x, `inner` long each.
        unsafe {
            let w = self.w.as_ptr().add(column * inner);
            let x = self.x.as_ptr().add(row * inner);
            let ahead = w.wrapping_add(C * inner);
            let mut k = 0;
            while k + of_a_line <= inner {
                if row == 0 {
                    for line in 0..C {
                        prefetch(ahead.wrapping_add(C * k + line * of_a_line));
                    }
                }
                for step in (0..of_a_line).step_by(S::LANES) {
                    sums = self.step(s, w.add(k + step), x.add(k + step), sums);
                }
                k += of_a_line;
            }
            while k + S::LANES <= inner {
                sums = self.step(s, w.add(k), x.add(k), sums);
                k += S::LANES;
            }
            if k < inner {
                for r in 0..R {
                    let input = s.load_head(x.add(r * inner + k), inner - k);
                    for c in 0..C {
                        let weight = E::load_head(s, w.add(c * inner + k), inner - k);
                        sums[c][r] = s.mul_add(weight, input, sums[c][r]);
                    }
                }
            }
            for c in 0..C {
                let bias = self.bias.map_or(0.0, |bias| bias[column + c]);
                for r in 0..R {
                    *self.y.get().add((row + r) * self.out + column + c) = s.sum(sums[c][r]) + bias;
                }
            }
        }
    }

    /// Adds the products of a register of each row of the weight with one of each row of the input.
    ///
    /// # Safety
    /// As many numbers at `w`, `C` times with steps of a row, and `R` times at `x`.
    #[inline(always)]
    unsafe fn step<S: Simd, const C: usize, const R: usize>(
        &self,
        s: S,
        w: *const E,
        x: *const f32,
        mut sums: [[S::V; R]; C],
    ) -> [[S::V; R]; C] {
        // SAFETY: as the caller promises.
        unsafe {
            let mut input = [s.zero(); R];
            for r in 0..R {
                input[r] = s.load(x.add(r * self.inner));
            }
            for c in 0..C {
                let weight = E::load(s, w.add(c * self.inner));
                for r in 0..R {
                    sums[c][r] = s.mul_add(weight, input[r], sums[c][r]);
                }
            }
        }
        sums
    }
}
