//! Products with few rows, as in decoding: the weight streams through once, at the speed of memory.

use crate::parallel;
use crate::scratch::Shared;
use crate::simd::{Element, Kernel, Simd, dispatch};

/// Bytes of weight that one task streams.
const TASK_BYTES: usize = 256 << 10;
/// Rows of the weight that stream side by side, for one row of input or two: enough to keep the prefetchers of a core
/// busy. More rows leave registers for [`FEW_STREAMS`].
const STREAMS: usize = 8;
const FEW_STREAMS: usize = 4;

/// `y [rows, out] = x [rows, in] · Wᵀ + bias` for `W [out, in]`.
pub(crate) fn stream<E: Element>(
    x: &[f32],
    w: &[E],
    bias: Option<&[f32]>,
    y: &mut [f32],
    rows: usize,
    inner: usize,
    out: usize,
) {
    assert_eq!(x.len(), rows * inner, "input");
    assert_eq!(w.len(), out * inner, "weight");
    assert_eq!(y.len(), rows * out, "result");
    assert!(bias.is_none_or(|bias| bias.len() == out), "bias");
    let columns = (TASK_BYTES / size_of::<E>() / inner.max(1)).next_multiple_of(STREAMS);
    let result = Shared::new(y);
    parallel::for_each(out.div_ceil(columns), |task| {
        let columns = task * columns..out.min((task + 1) * columns);
        dispatch(Stream {
            x,
            w,
            bias,
            y: result,
            rows,
            inner,
            out,
            columns,
        });
    });
}

struct Stream<'a, E> {
    x: &'a [f32],
    w: &'a [E],
    bias: Option<&'a [f32]>,
    y: Shared<'a, f32>,
    rows: usize,
    inner: usize,
    out: usize,
    columns: std::ops::Range<usize>,
}

impl<E: Element> Kernel for Stream<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut column = self.columns.start;
        if self.rows <= 2 {
            while column + STREAMS <= self.columns.end {
                self.all_rows::<S, STREAMS>(s, column);
                column += STREAMS;
            }
        }
        while column + FEW_STREAMS <= self.columns.end {
            self.all_rows::<S, FEW_STREAMS>(s, column);
            column += FEW_STREAMS;
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
        let mut sums = [[s.zero(); R]; C];
        // SAFETY: `C` whole rows of W and `R` of x, `inner` long each.
        unsafe {
            let w = self.w.as_ptr().add(column * inner);
            let x = self.x.as_ptr().add(row * inner);
            let mut k = 0;
            while k + S::LANES <= inner {
                let mut input = [s.zero(); R];
                for r in 0..R {
                    input[r] = s.load(x.add(r * inner + k));
                }
                for c in 0..C {
                    let weight = E::load(s, w.add(c * inner + k));
                    for r in 0..R {
                        sums[c][r] = s.mul_add(weight, input[r], sums[c][r]);
                    }
                }
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
}
