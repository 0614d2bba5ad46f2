//! Products with a weight stored as published: `[out, in]`, in `f32`, `f16` or `bf16`.

use crate::lines::Floats;
use crate::parallel;
use crate::product::stream::{self, Streamed, stream};
use crate::product::{Layout, Product, Start};
use crate::rough::Arithmetic;
use crate::scratch::Shared;
use crate::simd::{Kernel, Simd, dispatch};
use crate::weight::{WeightRef, with_elements};

/// Up to this many rows the weight is streamed as it is; beyond, packing it pays.
pub(crate) const STREAMED_ROWS: usize = 12;

/// `y [rows, out] = x [rows, in] · Wᵀ + bias` for `w [out, in]`, summed in `f32`.
///
/// # Panics
/// When the lengths do not agree with `rows`, `inner` (in) and `out`.
pub fn linear(
    x: &[f32],
    w: WeightRef<'_>,
    bias: Option<&[f32]>,
    y: &mut [f32],
    rows: usize,
    inner: usize,
    out: usize,
) {
    if rows <= STREAMED_ROWS {
        return linear_streamed(x, w, bias, y, rows, inner, out);
    }
    with_elements!(w, w => forward(x, w, bias, rows, inner, out).compute::<false>(y));
}

/// [`linear`] in the order of its sums that a single row has, however many rows there are: a row's
/// result is the same to the bit, whatever stands beside it.
///
/// # Panics
/// When the lengths do not agree with `rows`, `inner` (in) and `out`.
pub fn linear_streamed(
    x: &[f32],
    w: WeightRef<'_>,
    bias: Option<&[f32]>,
    y: &mut [f32],
    rows: usize,
    inner: usize,
    out: usize,
) {
    let product = Linear {
        x,
        w,
        bias,
        y,
        inner,
        out,
    };
    stream_many(rows, &mut [product]);
}

/// One of several products with as many rows each: `y = x · Wᵀ + bias`.
#[derive(Debug)]
pub struct Linear<'a> {
    /// `[rows, inner]`.
    pub x: &'a [f32],
    /// `[out, inner]`.
    pub w: WeightRef<'a>,
    /// `[out]`.
    pub bias: Option<&'a [f32]>,
    /// `[rows, out]`.
    pub y: &'a mut [f32],
    /// Numbers in a row of the input.
    pub inner: usize,
    /// Numbers in a row of the result.
    pub out: usize,
}

/// [`linear_streamed`] for several products: the same numbers sooner, as threads meet once for all of
/// them instead of once for each.
///
/// # Panics
/// When the lengths of a product do not agree with `rows`, and its `inner` and `out`.
pub fn stream_many(rows: usize, products: &mut [Linear<'_>]) {
    let streamed = products.iter_mut().map(|product| {
        let Linear {
            x,
            w,
            bias,
            y,
            inner,
            out,
        } = product;
        assert_eq!(x.len(), rows * *inner, "input");
        assert_eq!(w.len(), *out * *inner, "weight");
        assert_eq!(y.len(), rows * *out, "result");
        assert!(bias.is_none_or(|bias| bias.len() == *out), "bias");
        Streamed {
            weight: stream::Floats { x, w: *w },
            bias: *bias,
            y: Shared::new(y),
            inner: *inner,
            out: *out,
        }
    });
    let streamed: Vec<Streamed<'_, stream::Floats<'_>>> = streamed.collect();
    // SAFETY: the lengths were looked at, and results are held exclusively.
    unsafe { stream(rows, &streamed) };
}

/// [`linear`] in the order of its sums that many rows have, however few there are: a row's result is
/// the same to the bit, whatever stands beside it. `rounds` as in [`linear_bf16_dot`].
///
/// # Panics
/// When the lengths do not agree with `rows`, `inner` (in) and `out`.
pub fn linear_packed(
    x: &[f32],
    w: WeightRef<'_>,
    bias: Option<&[f32]>,
    y: &mut [f32],
    (rows, inner, out): (usize, usize, usize),
    rounds: bool,
) {
    with_elements!(w, w => {
        let product = forward(x, w, bias, rows, inner, out);
        match rounds {
            true => product.compute::<true>(y),
            false => product.compute::<false>(y),
        }
    });
}

pub(crate) fn forward<'a, E>(
    x: &'a [f32],
    w: &'a [E],
    bias: Option<&'a [f32]>,
    rows: usize,
    inner: usize,
    out: usize,
) -> Product<'a, Floats<'a, E>> {
    Product {
        m: rows,
        n: out,
        k: inner,
        a: x,
        a_layout: Layout::AlongDepth,
        b: Floats {
            data: w,
            stride: inner,
        },
        b_layout: Layout::AlongDepth,
        start: bias.map_or(Start::Zero, Start::Bias),
    }
}

/// Whether [`linear_bf16_dot`] and its gradients pay on this processor: see
/// [`Arithmetic::fastest`](crate::rough::Arithmetic::fastest).
pub fn has_bf16_dot() -> bool {
    Arithmetic::fastest() != Arithmetic::Float32
}

/// [`linear`] with input and weight rounded to `bf16` and sums in `f32`. Where [`has_bf16_dot`], it is
/// faster, most of all with AMX; without, it is slow. Few rows, which are a matter of memory, are
/// computed as [`linear`] does, without rounding the input.
///
/// # Panics
/// When the lengths do not agree with `rows`, `inner` (in) and `out`.
pub fn linear_bf16_dot(
    x: &[f32],
    w: WeightRef<'_>,
    bias: Option<&[f32]>,
    y: &mut [f32],
    rows: usize,
    inner: usize,
    out: usize,
) {
    if rows <= STREAMED_ROWS {
        return linear(x, w, bias, y, rows, inner, out);
    }
    with_elements!(w, w => forward(x, w, bias, rows, inner, out).compute::<true>(y));
}

/// The gradient of [`linear`] for its input: `dx [rows, in] = dy [rows, out] · W`.
///
/// # Panics
/// When the lengths do not agree with `rows`, `inner` (in) and `out`.
pub fn linear_backward_input(
    dy: &[f32],
    w: WeightRef<'_>,
    dx: &mut [f32],
    rows: usize,
    inner: usize,
    out: usize,
) {
    with_elements!(w, w => backward_input(dy, w, rows, inner, out).compute::<false>(dx));
}

/// [`linear_backward_input`] with `dy` and weight rounded to `bf16`, as [`linear_bf16_dot`].
///
/// # Panics
/// When the lengths do not agree with `rows`, `inner` (in) and `out`.
pub fn linear_backward_input_bf16_dot(
    dy: &[f32],
    w: WeightRef<'_>,
    dx: &mut [f32],
    rows: usize,
    inner: usize,
    out: usize,
) {
    with_elements!(w, w => backward_input(dy, w, rows, inner, out).compute::<true>(dx));
}

pub(crate) fn backward_input<'a, E>(
    dy: &'a [f32],
    w: &'a [E],
    rows: usize,
    inner: usize,
    out: usize,
) -> Product<'a, Floats<'a, E>> {
    Product {
        m: rows,
        n: inner,
        k: out,
        a: dy,
        a_layout: Layout::AlongDepth,
        b: Floats {
            data: w,
            stride: inner,
        },
        b_layout: Layout::AcrossDepth,
        start: Start::Zero,
    }
}

/// The gradient of [`linear`] for its weight: `dw [out, in] = dyᵀ · x`, added to what `dw` holds when `accumulate`.
///
/// # Panics
/// When the lengths do not agree with `rows`, `inner` (in) and `out`.
pub fn linear_backward_weight(
    dy: &[f32],
    x: &[f32],
    dw: &mut [f32],
    rows: usize,
    inner: usize,
    out: usize,
    accumulate: bool,
) {
    backward_weight(dy, x, rows, inner, out, accumulate).compute::<false>(dw);
}

/// [`linear_backward_weight`] with `dy` and `x` rounded to `bf16`, as [`linear_bf16_dot`].
///
/// # Panics
/// When the lengths do not agree with `rows`, `inner` (in) and `out`.
pub fn linear_backward_weight_bf16_dot(
    dy: &[f32],
    x: &[f32],
    dw: &mut [f32],
    rows: usize,
    inner: usize,
    out: usize,
    accumulate: bool,
) {
    backward_weight(dy, x, rows, inner, out, accumulate).compute::<true>(dw);
}

pub(crate) fn backward_weight<'a>(
    dy: &'a [f32],
    x: &'a [f32],
    rows: usize,
    inner: usize,
    out: usize,
    accumulate: bool,
) -> Product<'a, Floats<'a, f32>> {
    Product {
        m: out,
        n: inner,
        k: rows,
        a: dy,
        a_layout: Layout::AcrossDepth,
        b: Floats {
            data: x,
            stride: inner,
        },
        b_layout: Layout::AcrossDepth,
        start: if accumulate {
            Start::Present
        } else {
            Start::Zero
        },
    }
}

/// Adds `a [rows, inner] · b [inner, out]` to `y [rows, out]`, in `f32`.
///
/// # Panics
/// When the lengths do not agree with `rows`, `inner` and `out`.
pub fn add_product(a: &[f32], b: &[f32], y: &mut [f32], rows: usize, inner: usize, out: usize) {
    let product = Product {
        m: rows,
        n: out,
        k: inner,
        a,
        a_layout: Layout::AlongDepth,
        b: Floats {
            data: b,
            stride: out,
        },
        b_layout: Layout::AcrossDepth,
        start: Start::Present,
    };
    product.compute::<false>(y);
}

/// Rows that one task of [`linear_backward_bias`] sums. Fixed, for the order of the sum.
const BIAS_ROWS: usize = 256;

/// The gradient of [`linear`] for its bias: `db [out]`, the sum of the rows of `dy [rows, out]`.
///
/// # Panics
/// When `dy` is no rows of `db.len()`.
pub fn linear_backward_bias(dy: &[f32], db: &mut [f32]) {
    let out = db.len().max(1);
    assert!(dy.len().is_multiple_of(out), "linear: gradient of a bias");
    let stride = BIAS_ROWS * out;
    let tasks = dy.len().div_ceil(stride);
    let mut partial = vec![0.0; tasks * out];
    let sums = Shared::new(&mut partial);
    parallel::for_each(tasks, |task| {
        let rows = &dy[task * stride..dy.len().min((task + 1) * stride)];
        // SAFETY: partial sums of its own.
        let sums = unsafe { sums.part(task * out, out) };
        dispatch(RowSums { rows, sums });
    });
    db.fill(0.0);
    dispatch(RowSums {
        rows: &partial,
        sums: db,
    });
}

/// Adds rows to `sums`, one after another.
struct RowSums<'a> {
    rows: &'a [f32],
    sums: &'a mut [f32],
}

impl Kernel for RowSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.sums.len();
        for row in self.rows.chunks_exact(width.max(1)) {
            for p in (0..width).step_by(S::LANES) {
                let sum = s.add(s.get(self.sums, p), s.get(row, p));
                s.set(self.sums, p, sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::testing::at_every_level;
    use crate::testing::{assert_close, noise};
    use half::{bf16, f16};

    /// `rows`, `inner`, `out`: single rows, tails of every kind, more than one block, panel and chunk.
    const SHAPES: [(usize, usize, usize); 15] = [
        (1, 1, 1),
        (1, 130, 7),
        (1, 512, 64),
        (1, 5000, 6),
        (2, 33, 5),
        (3, 100, 130),
        (5, 16, 4),
        (6, 47, 9),
        (7, 64, 33),
        (12, 70, 50),
        (13, 5, 3),
        (17, 300, 49),
        (40, 257, 97),
        (65, 519, 200),
        (100, 31, 145),
    ];

    /// Sums of `k` products of numbers below one, each rounded to 2^-24: far below 2e-5 for these shapes.
    const TOLERANCE: f64 = 2e-5;

    fn product(
        (m, k, n): (usize, usize, usize),
        a: impl Fn(usize, usize) -> f32,
        b: impl Fn(usize, usize) -> f32,
    ) -> Vec<f64> {
        let mut y = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                y[i * n + j] = (0..k)
                    .map(|p| f64::from(a(i, p)) * f64::from(b(p, j)))
                    .sum();
            }
        }
        y
    }

    /// The weight in each of its types, with what each rounds to.
    fn for_each_type(w: &[f32], mut check: impl FnMut(WeightRef<'_>, &[f32], &str)) {
        let half: Vec<f16> = w.iter().map(|w| f16::from_f32(*w)).collect();
        let brain: Vec<bf16> = w.iter().map(|w| bf16::from_f32(*w)).collect();
        check(WeightRef::F32(w), w, "f32");
        check(
            WeightRef::F16(&half),
            &half.iter().map(|w| w.to_f32()).collect::<Vec<_>>(),
            "f16",
        );
        check(
            WeightRef::Bf16(&brain),
            &brain.iter().map(|w| w.to_f32()).collect::<Vec<_>>(),
            "bf16",
        );
    }

    #[test]
    fn a_rows_product_is_the_same_bits_in_any_company() {
        at_every_level(2, || {
            for (rows, inner, out) in SHAPES {
                let (x, w, bias) = (noise(rows * inner, 1), noise(out * inner, 2), noise(out, 3));
                for_each_type(&w, |w, rounded, kind| {
                    let place = format!("{rows} {inner} {out} {kind}");
                    let expected = product(
                        (rows, inner, out),
                        |i, p| x[i * inner + p],
                        |p, j| rounded[j * inner + p],
                    );
                    let expected: Vec<f64> = expected
                        .iter()
                        .enumerate()
                        .map(|(at, sum)| sum + f64::from(bias[at % out]))
                        .collect();
                    let of_rows = |x: &[f32], packed: bool| {
                        let (rows, bias) = (x.len() / inner, Some(&bias[..]));
                        let mut y = vec![f32::NAN; rows * out];
                        match packed {
                            true => linear_packed(x, w, bias, &mut y, (rows, inner, out), false),
                            false => linear_streamed(x, w, bias, &mut y, rows, inner, out),
                        }
                        y
                    };
                    for packed in [false, true] {
                        let together = of_rows(&x, packed);
                        assert_close(&together, &expected, TOLERANCE, &place);
                        for some in [1, 13] {
                            let apart = x.chunks(some * inner).flat_map(|x| of_rows(x, packed));
                            assert!(together.iter().copied().eq(apart), "{place} {some}");
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn the_gradient_of_a_bias_is_the_sum_of_rows() {
        at_every_level(2, || {
            for (rows, out) in [(1, 1), (3, 16), (255, 5), (256, 33), (1000, 130)] {
                let dy = noise(rows * out, 1);
                let mut db = vec![f32::NAN; out];
                linear_backward_bias(&dy, &mut db);
                let expected: Vec<f64> = (0..out)
                    .map(|column| dy.iter().skip(column).step_by(out))
                    .map(|column| column.map(|value| f64::from(*value)).sum())
                    .collect();
                assert_close(&db, &expected, TOLERANCE, "db");
            }
        });
    }

    #[test]
    fn linear_equals_the_plain_product_at_every_level() {
        at_every_level(2, || {
            for (rows, inner, out) in SHAPES {
                let (x, w, bias) = (noise(rows * inner, 1), noise(out * inner, 2), noise(out, 3));
                for_each_type(&w, |weight, rounded, name| {
                    let expected = product(
                        (rows, inner, out),
                        |i, p| x[i * inner + p],
                        |p, j| rounded[j * inner + p],
                    );
                    let mut y = vec![f32::NAN; rows * out];
                    linear(&x, weight, None, &mut y, rows, inner, out);
                    assert_close(
                        &y,
                        &expected,
                        TOLERANCE,
                        &format!("{name} {rows} {inner} {out}"),
                    );
                    let expected: Vec<f64> = expected
                        .iter()
                        .enumerate()
                        .map(|(i, y)| y + f64::from(bias[i % out]))
                        .collect();
                    linear(&x, weight, Some(&bias), &mut y, rows, inner, out);
                    assert_close(
                        &y,
                        &expected,
                        TOLERANCE,
                        &format!("{name} with bias {rows} {inner} {out}"),
                    );
                });
            }
        });
    }

    #[test]
    fn the_gradient_for_the_input_is_dy_times_w() {
        at_every_level(2, || {
            for (rows, inner, out) in SHAPES {
                let (dy, w) = (noise(rows * out, 4), noise(out * inner, 5));
                for_each_type(&w, |weight, rounded, name| {
                    let expected = product(
                        (rows, out, inner),
                        |i, p| dy[i * out + p],
                        |p, j| rounded[p * inner + j],
                    );
                    let mut dx = vec![f32::NAN; rows * inner];
                    linear_backward_input(&dy, weight, &mut dx, rows, inner, out);
                    assert_close(
                        &dx,
                        &expected,
                        TOLERANCE,
                        &format!("{name} {rows} {inner} {out}"),
                    );
                });
            }
        });
    }

    #[test]
    fn the_gradient_for_the_weight_is_dy_transposed_times_x_and_accumulates() {
        at_every_level(2, || {
            for (rows, inner, out) in SHAPES {
                let (dy, x) = (noise(rows * out, 6), noise(rows * inner, 7));
                let expected = product(
                    (out, rows, inner),
                    |i, p| dy[p * out + i],
                    |p, j| x[p * inner + j],
                );
                let mut dw = vec![f32::NAN; out * inner];
                linear_backward_weight(&dy, &x, &mut dw, rows, inner, out, false);
                assert_close(&dw, &expected, TOLERANCE, &format!("{rows} {inner} {out}"));
                linear_backward_weight(&dy, &x, &mut dw, rows, inner, out, true);
                let twice: Vec<f64> = expected.iter().map(|dw| 2.0 * dw).collect();
                assert_close(
                    &dw,
                    &twice,
                    TOLERANCE,
                    &format!("twice {rows} {inner} {out}"),
                );
            }
        });
    }

    #[test]
    fn a_product_is_added_to_what_is_there() {
        at_every_level(2, || {
            for (rows, inner, out) in SHAPES {
                let (a, b) = (noise(rows * inner, 1), noise(inner * out, 2));
                let mut y = noise(rows * out, 3);
                let products = product(
                    (rows, inner, out),
                    |i, p| a[i * inner + p],
                    |p, j| b[p * out + j],
                );
                let expected: Vec<f64> = products
                    .iter()
                    .zip(&y)
                    .map(|(product, y)| product + f64::from(*y))
                    .collect();
                add_product(&a, &b, &mut y, rows, inner, out);
                assert_close(&y, &expected, TOLERANCE, &format!("{rows} {inner} {out}"));
            }
        });
    }

    #[test]
    fn the_bf16_products_equal_plain_products_of_rounded_numbers() {
        let rounded =
            |x: &[f32]| -> Vec<f32> { x.iter().map(|x| bf16::from_f32(*x).to_f32()).collect() };
        at_every_level(2, || {
            for (rows, inner, out) in SHAPES.into_iter().filter(|shape| shape.0 > STREAMED_ROWS) {
                let (x, w, bias) = (noise(rows * inner, 1), noise(out * inner, 2), noise(out, 3));
                let dy = noise(rows * out, 4);
                let (x_rounded, dy_rounded) = (rounded(&x), rounded(&dy));
                for_each_type(&w, |weight, w, name| {
                    let w = rounded(w);
                    let expected = product(
                        (rows, inner, out),
                        |i, p| x_rounded[i * inner + p],
                        |p, j| w[j * inner + p],
                    );
                    let expected: Vec<f64> = expected
                        .iter()
                        .enumerate()
                        .map(|(i, y)| y + f64::from(bias[i % out]))
                        .collect();
                    let mut y = vec![f32::NAN; rows * out];
                    linear_bf16_dot(&x, weight, Some(&bias), &mut y, rows, inner, out);
                    assert_close(
                        &y,
                        &expected,
                        TOLERANCE,
                        &format!("{name} {rows} {inner} {out}"),
                    );
                    let expected = product(
                        (rows, out, inner),
                        |i, p| dy_rounded[i * out + p],
                        |p, j| w[p * inner + j],
                    );
                    let mut dx = vec![f32::NAN; rows * inner];
                    linear_backward_input_bf16_dot(&dy, weight, &mut dx, rows, inner, out);
                    assert_close(
                        &dx,
                        &expected,
                        TOLERANCE,
                        &format!("{name} {rows} {inner} {out} backward"),
                    );
                });
                let expected = product(
                    (out, rows, inner),
                    |i, p| dy_rounded[p * out + i],
                    |p, j| x_rounded[p * inner + j],
                );
                let mut dw = vec![f32::NAN; out * inner];
                linear_backward_weight_bf16_dot(&dy, &x, &mut dw, rows, inner, out, false);
                let name = format!("{rows} {inner} {out} weight");
                assert_close(&dw, &expected, TOLERANCE, &name);
                linear_backward_weight_bf16_dot(&dy, &x, &mut dw, rows, inner, out, true);
                let twice: Vec<f64> = expected.iter().map(|dw| 2.0 * dw).collect();
                assert_close(&dw, &twice, TOLERANCE, &name);
            }
        });
    }

    #[test]
    fn few_rows_of_the_bf16_product_keep_their_precision() {
        let (x, w) = (noise(2 * 40, 1), noise(5 * 40, 2));
        let (mut exact, mut y) = ([0.0; 10], [0.0; 10]);
        linear(&x, WeightRef::F32(&w), None, &mut exact, 2, 40, 5);
        linear_bf16_dot(&x, WeightRef::F32(&w), None, &mut y, 2, 40, 5);
        assert_eq!(y, exact);
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let run = |threads| {
            at_every_level(threads, || {
                SHAPES.map(|(rows, inner, out)| {
                    let (x, w) = (noise(rows * inner, 1), noise(out * inner, 2));
                    let mut y = vec![0.0; rows * out];
                    linear(&x, WeightRef::F32(&w), None, &mut y, rows, inner, out);
                    let mut rounded = vec![0.0; rows * out];
                    linear_bf16_dot(&x, WeightRef::F32(&w), None, &mut rounded, rows, inner, out);
                    (y, rounded)
                })
            })
        };
        assert_eq!(run(1), run(5));
    }

    #[test]
    fn a_streamed_row_is_the_same_alone_and_among_others() {
        at_every_level(2, || {
            // Long and short rows of the weight: with as many side by side as there can be, and fewer.
            for (inner, out) in [(77, 21), (4200, 19), (30_000, 9)] {
                const ROWS: usize = STREAMED_ROWS + 3;
                let (x, w) = (noise(ROWS * inner, 1), noise(out * inner, 2));
                for_each_type(&w, |w, _, name| {
                    let mut alone = vec![0.0; ROWS * out];
                    for (x, y) in x.chunks_exact(inner).zip(alone.chunks_exact_mut(out)) {
                        linear(x, w, None, y, 1, inner, out);
                    }
                    for rows in 2..=ROWS {
                        let mut y = vec![0.0; rows * out];
                        let x = &x[..rows * inner];
                        if rows <= STREAMED_ROWS {
                            linear(x, w, None, &mut y, rows, inner, out);
                        } else {
                            linear_streamed(x, w, None, &mut y, rows, inner, out);
                        }
                        assert_eq!(y, alone[..rows * out], "{name} {rows} {inner}");
                    }
                });
            }
        });
    }

    #[test]
    fn several_products_at_once_are_the_products_one_by_one() {
        at_every_level(2, || {
            for rows in [1, 2, 7, STREAMED_ROWS] {
                // Two share their input; the third has another.
                let (x, z) = (noise(rows * 300, 1), noise(rows * 70, 2));
                let (a, c) = (noise(900 * 300, 3), noise(33 * 70, 4));
                let b: Vec<bf16> = noise(5 * 300, 5).into_iter().map(bf16::from_f32).collect();
                let bias = noise(5, 6);
                let cases = [
                    (&x, WeightRef::F32(&a), None, 300, 900),
                    (&x, WeightRef::Bf16(&b), Some(&bias[..]), 300, 5),
                    (&z, WeightRef::F32(&c), None, 70, 33),
                ];
                let one_by_one = cases.map(|(x, w, bias, inner, out)| {
                    let mut y = vec![f32::NAN; rows * out];
                    linear(x, w, bias, &mut y, rows, inner, out);
                    y
                });
                let mut at_once = cases.map(|(.., out)| vec![f32::NAN; rows * out]);
                let mut products: Vec<Linear<'_>> = cases
                    .iter()
                    .zip(&mut at_once)
                    .map(|(&(x, w, bias, inner, out), y)| Linear {
                        x,
                        w,
                        bias,
                        y,
                        inner,
                        out,
                    })
                    .collect();
                stream_many(rows, &mut products);
                assert_eq!(at_once, one_by_one, "{rows}");
            }
        });
    }

    #[test]
    fn a_product_over_nothing_is_the_bias() {
        let mut y = vec![f32::NAN; 2 * 3];
        linear(
            &[],
            WeightRef::F32(&[]),
            Some(&[1.0, 2.0, 3.0]),
            &mut y,
            2,
            0,
            3,
        );
        assert_eq!(y, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
        let mut y = vec![f32::NAN; 20];
        linear(&[], WeightRef::F32(&[]), None, &mut y, 20, 0, 1);
        assert_eq!(y, [0.0; 20]);
    }
}
