//! Products with few rows, as in decoding: the weight streams through once, at the speed of memory.

use super::parallel;
use super::scratch::Shared;
use super::simd::{Element, Kernel, Simd, dispatch};

/// Bytes of weight that one task streams.
const TASK_BYTES: usize = 256 << 10;
/// Rows of the weight that stream side by side.
const STREAMS: usize = 4;
/// `y [rows, out] = x [rows, in] · Wᵀ + bias` for `W [out, in]`.
pub(super) fn stream<E: Element>(
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
    y: Shared<f32>,
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
        // One row: one stream in the order of memory, which prefetchers follow best; several sums hide the latency.
        // More rows: several streams share each load of the input.
        if self.rows > 1 {
            while column + STREAMS <= self.columns.end {
                self.all_rows::<S, STREAMS>(s, column);
                column += STREAMS;
            }
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
                    1 if C == 1 => self.tile::<S, C, 1, 8>(s, column, row),
                    1 => self.tile::<S, C, 1, 1>(s, column, row),
                    2 => self.tile::<S, C, 2, 1>(s, column, row),
                    3 => self.tile::<S, C, 3, 1>(s, column, row),
                    4 => self.tile::<S, C, 4, 1>(s, column, row),
                    5 => self.tile::<S, C, 5, 1>(s, column, row),
                    _ => self.tile::<S, C, 6, 1>(s, column, row),
                }
            }
            row += here;
        }
    }

    /// `C` columns by `R` rows, each summed in `U` parts.
    ///
    /// # Safety
    /// Columns `column..column + C` and rows `row..row + R` exist, and nobody else writes them.
    #[inline(always)]
    unsafe fn tile<S: Simd, const C: usize, const R: usize, const U: usize>(
        &self,
        s: S,
        column: usize,
        row: usize,
    ) {
        let inner = self.inner;
        let mut sums = [[[s.zero(); R]; C]; U];
        // SAFETY: `C` whole rows of W and `R` of x, `inner` long each.
        unsafe {
            let w = self.w.as_ptr().add(column * inner);
            let x = self.x.as_ptr().add(row * inner);
            let mut k = 0;
            while k + U * S::LANES <= inner {
                for u in 0..U {
                    let at = k + u * S::LANES;
                    let mut input = [s.zero(); R];
                    for r in 0..R {
                        input[r] = s.load(x.add(r * inner + at));
                    }
                    for c in 0..C {
                        let weight = E::load(s, w.add(c * inner + at));
                        for r in 0..R {
                            sums[u][c][r] = s.mul_add(weight, input[r], sums[u][c][r]);
                        }
                    }
                }
                k += U * S::LANES;
            }
            while k < inner {
                let n = S::LANES.min(inner - k);
                for r in 0..R {
                    let from = x.add(r * inner + k);
                    let input = if n == S::LANES {
                        s.load(from)
                    } else {
                        s.load_head(from, n)
                    };
                    for c in 0..C {
                        let from = w.add(c * inner + k);
                        let weight = if n == S::LANES {
                            E::load(s, from)
                        } else {
                            E::load_head(s, from, n)
                        };
                        sums[0][c][r] = s.mul_add(weight, input, sums[0][c][r]);
                    }
                }
                k += n;
            }
            for c in 0..C {
                let bias = self.bias.map_or(0.0, |bias| bias[column + c]);
                for r in 0..R {
                    let mut sum = sums[0][c][r];
                    for part in &sums[1..] {
                        sum = s.add(sum, part[c][r]);
                    }
                    *self.y.get().add((row + r) * self.out + column + c) = s.sum(sum) + bias;
                }
            }
        }
    }
}
