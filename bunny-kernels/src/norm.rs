//! Layer norm and RMS norm over rows, with their gradients.

use crate::parallel;
use crate::scratch::Shared;
use crate::simd::{Kernel, Simd, dispatch};

/// Elements a task of the forward pass takes, about.
const TASK_FLOATS: usize = 32 << 10;
/// Rows whose part of the parameters' gradients is summed by one task. Fixed, for the order of the sum.
const GRADIENT_ROWS: usize = 32;

/// `y = (x - mean) / √(variance + ε) · weight + bias`, row by row of `weight.len()`.
///
/// # Panics
/// When lengths disagree.
pub fn layer_norm(x: &[f32], weight: &[f32], bias: Option<&[f32]>, epsilon: f32, y: &mut [f32]) {
    forward::<true>(x, weight, bias, epsilon, y);
}

/// `y = x / √(mean of x² + ε) · weight`, row by row of `weight.len()`.
///
/// # Panics
/// When lengths disagree.
pub fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32]) {
    forward::<false>(x, weight, None, epsilon, y);
}

/// The gradients of [`layer_norm`]: `dx`, and where asked for those of weight and bias, summed over rows.
///
/// # Panics
/// When lengths disagree.
pub fn layer_norm_backward(
    x: &[f32],
    weight: &[f32],
    epsilon: f32,
    dy: &[f32],
    dx: &mut [f32],
    dweight: Option<&mut [f32]>,
    dbias: Option<&mut [f32]>,
) {
    backward::<true>(x, weight, epsilon, dy, dx, dweight, dbias);
}

/// The gradients of [`rms_norm`]: `dx`, and where asked for that of the weight, summed over rows.
///
/// # Panics
/// When lengths disagree.
pub fn rms_norm_backward(
    x: &[f32],
    weight: &[f32],
    epsilon: f32,
    dy: &[f32],
    dx: &mut [f32],
    dweight: Option<&mut [f32]>,
) {
    backward::<false>(x, weight, epsilon, dy, dx, dweight, None);
}

/// `CENTRED`: less the mean, as layer norm does and RMS norm does not.
fn forward<const CENTRED: bool>(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    epsilon: f32,
    y: &mut [f32],
) {
    let width = weight.len();
    assert!(
        x.len() == y.len() && x.len().is_multiple_of(width.max(1)),
        "norm: rows of {width}"
    );
    assert!(bias.is_none_or(|bias| bias.len() == width), "norm: bias");
    let rows = (TASK_FLOATS / width.max(1)).max(1) * width;
    let (len, out) = (x.len(), Shared::new(y));
    parallel::for_each(len.div_ceil(rows.max(1)), |task| {
        let (at, n) = (task * rows, rows.min(len - task * rows));
        // SAFETY: rows of its own.
        let y = unsafe { out.part(at, n) };
        dispatch(Forward::<CENTRED> {
            x: &x[at..at + n],
            weight,
            bias,
            epsilon,
            y,
        });
    });
}

fn backward<const CENTRED: bool>(
    x: &[f32],
    weight: &[f32],
    epsilon: f32,
    dy: &[f32],
    dx: &mut [f32],
    dweight: Option<&mut [f32]>,
    dbias: Option<&mut [f32]>,
) {
    let width = weight.len();
    let len = x.len();
    assert!(
        len == dy.len() && len == dx.len() && len.is_multiple_of(width.max(1)),
        "norm: rows of {width}"
    );
    let wanted = [dweight.is_some(), dbias.is_some()];
    let stride = GRADIENT_ROWS * width;
    let tasks = len.div_ceil(stride.max(1));
    let mut partial = vec![
        0.0;
        if wanted == [false; 2] {
            0
        } else {
            tasks * 2 * width
        }
    ];
    let (out, sums) = (Shared::new(dx), Shared::new(&mut partial));
    parallel::for_each(tasks, |task| {
        let (at, n) = (task * stride, stride.min(len - task * stride));
        // SAFETY: rows, and partial sums, of its own.
        let (dx, sums) = unsafe {
            let sums = (wanted != [false; 2])
                .then(|| sums.part(task * 2 * width, 2 * width).split_at_mut(width));
            (out.part(at, n), sums)
        };
        dispatch(Backward::<CENTRED> {
            x: &x[at..at + n],
            weight,
            epsilon,
            dy: &dy[at..at + n],
            dx,
            sums,
        });
    });
    for (gradient, offset) in [(dweight, 0), (dbias, width)] {
        let Some(gradient) = gradient else { continue };
        assert_eq!(gradient.len(), width, "norm: gradient of a parameter");
        gradient.fill(0.0);
        for part in partial.chunks_exact(2 * width.max(1)) {
            for (sum, part) in gradient.iter_mut().zip(&part[offset..]) {
                *sum += part;
            }
        }
    }
}

/// The mean of a row, zero unless `CENTRED`, and what to multiply by.
#[inline(always)]
fn statistics<S: Simd, const CENTRED: bool>(s: S, x: &[f32], epsilon: f32) -> (S::V, S::V) {
    let n = x.len() as f32;
    let mut mean = s.zero();
    if CENTRED {
        for p in (0..x.len()).step_by(S::LANES) {
            mean = s.add(mean, s.get(x, p));
        }
        mean = s.splat(s.sum(mean) / n);
    }
    let mut squares = s.zero();
    let whole = x.len() / S::LANES * S::LANES;
    for p in (0..whole).step_by(S::LANES) {
        let x = s.sub(s.get(x, p), mean);
        squares = s.mul_add(x, x, squares);
    }
    let mut squares = s.sum(squares);
    for x in &x[whole..] {
        let x = x - s.first(mean);
        squares += x * x;
    }
    (mean, s.splat(1.0 / (squares / n + epsilon).sqrt()))
}

struct Forward<'a, const CENTRED: bool> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    epsilon: f32,
    y: &'a mut [f32],
}

impl<const CENTRED: bool> Kernel for Forward<'_, CENTRED> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.weight.len();
        for (x, y) in self
            .x
            .chunks_exact(width)
            .zip(self.y.chunks_exact_mut(width))
        {
            let (mean, factor) = statistics::<S, CENTRED>(s, x, self.epsilon);
            for p in (0..width).step_by(S::LANES) {
                let normal = s.mul(s.sub(s.get(x, p), mean), factor);
                let bias = self.bias.map_or(s.zero(), |bias| s.get(bias, p));
                s.set(y, p, s.mul_add(normal, s.get(self.weight, p), bias));
            }
        }
    }
}

struct Backward<'a, const CENTRED: bool> {
    x: &'a [f32],
    weight: &'a [f32],
    epsilon: f32,
    dy: &'a [f32],
    dx: &'a mut [f32],
    /// Where the gradients of weight and bias are summed.
    sums: Option<(&'a mut [f32], &'a mut [f32])>,
}

impl<const CENTRED: bool> Kernel for Backward<'_, CENTRED> {
    type Output = ();

    /// With `n` the normalised row and `g = dy · weight`: `dx = factor (g - mean(g) - n mean(g n))`.
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let width = self.weight.len();
        let rows = self.x.chunks_exact(width).zip(self.dy.chunks_exact(width));
        for ((x, dy), dx) in rows.zip(self.dx.chunks_exact_mut(width)) {
            let (mean, factor) = statistics::<S, CENTRED>(s, x, self.epsilon);
            let (mut along, mut total) = (s.zero(), s.zero());
            for p in (0..width).step_by(S::LANES) {
                // Beyond the row's end `dy` is zero, and so is what it adds.
                let normal = s.mul(s.sub(s.get(x, p), mean), factor);
                let g = s.mul(s.get(dy, p), s.get(self.weight, p));
                along = s.mul_add(g, normal, along);
                total = s.add(total, g);
            }
            let along = s.splat(s.sum(along) / width as f32);
            let total = s.splat(if CENTRED {
                s.sum(total) / width as f32
            } else {
                0.0
            });
            for p in (0..width).step_by(S::LANES) {
                let normal = s.mul(s.sub(s.get(x, p), mean), factor);
                let dy = s.get(dy, p);
                let g = s.mul(dy, s.get(self.weight, p));
                let g = s.sub(s.sub(g, total), s.mul(normal, along));
                s.set(dx, p, s.mul(g, factor));
                if let Some((dweight, dbias)) = &mut self.sums {
                    let sum = s.mul_add(dy, normal, s.get(dweight, p));
                    s.set(dweight, p, sum);
                    let sum = s.add(dy, s.get(dbias, p));
                    s.set(dbias, p, sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::testing::at_every_level;
    use crate::testing::{assert_close, noise};

    const EPSILON: f32 = 1e-5;
    const SHAPES: [(usize, usize); 6] = [(1, 1), (1, 7), (3, 16), (5, 37), (70, 100), (33, 2560)];

    fn oracle(x: &[f64], weight: &[f64], bias: &[f64], centred: bool) -> Vec<f64> {
        let n = weight.len();
        let mut y = Vec::new();
        for row in x.chunks_exact(n) {
            let mean = if centred {
                row.iter().sum::<f64>() / n as f64
            } else {
                0.0
            };
            let square = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
            let factor = 1.0 / (square + f64::from(EPSILON)).sqrt();
            y.extend((0..n).map(|i| (row[i] - mean) * factor * weight[i] + bias[i]));
        }
        y
    }

    fn wide(x: &[f32]) -> Vec<f64> {
        x.iter().map(|x| f64::from(*x)).collect()
    }

    /// Rows with a mean of five: what a variance as difference of squares would lose digits on.
    fn input(rows: usize, width: usize) -> Vec<f32> {
        noise(rows * width, 1)
            .iter()
            .map(|x| 2.0 * x + 5.0)
            .collect()
    }

    #[test]
    fn norms_equal_their_definition() {
        at_every_level(2, || {
            for (rows, width) in SHAPES {
                let (x, weight, bias) = (input(rows, width), noise(width, 2), noise(width, 3));
                let mut y = vec![f32::NAN; rows * width];
                layer_norm(&x, &weight, Some(&bias), EPSILON, &mut y);
                let expected = oracle(&wide(&x), &wide(&weight), &wide(&bias), true);
                // The mean is 2^-23 off in a five, which a row of one value magnifies by 1 / sqrt(epsilon).
                let tolerance = if width == 1 { 1e-3 } else { 1e-5 };
                assert_close(&y, &expected, tolerance, "layer norm");
                rms_norm(&x, &weight, EPSILON, &mut y);
                let expected = oracle(&wide(&x), &wide(&weight), &vec![0.0; width], false);
                assert_close(&y, &expected, 1e-5, "rms norm");
            }
        });
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        at_every_level(2, || {
            for (rows, width) in [(1, 5), (3, 16), (40, 19)] {
                let (x, weight, bias) = (input(rows, width), noise(width, 2), noise(width, 3));
                let dy = noise(rows * width, 4);
                for centred in [true, false] {
                    let mut dx = vec![f32::NAN; rows * width];
                    let (mut dweight, mut dbias) = (vec![f32::NAN; width], vec![f32::NAN; width]);
                    if centred {
                        let (dweight, dbias) = (Some(&mut dweight[..]), Some(&mut dbias[..]));
                        layer_norm_backward(&x, &weight, EPSILON, &dy, &mut dx, dweight, dbias);
                    } else {
                        rms_norm_backward(&x, &weight, EPSILON, &dy, &mut dx, Some(&mut dweight));
                    }
                    let loss = |x: &[f64], weight: &[f64], bias: &[f64]| -> f64 {
                        oracle(x, weight, bias, centred)
                            .iter()
                            .zip(&dy)
                            .map(|(y, dy)| y * f64::from(*dy))
                            .sum()
                    };
                    let inputs = [wide(&x), wide(&weight), wide(&bias)];
                    let difference = |which: usize, i: usize| {
                        let at = |h: f64| {
                            let mut inputs = inputs.clone();
                            inputs[which][i] += h;
                            loss(&inputs[0], &inputs[1], &inputs[2])
                        };
                        (at(1e-5) - at(-1e-5)) / 2e-5
                    };
                    let gradients: Vec<f64> = (0..dx.len()).map(|i| difference(0, i)).collect();
                    assert_close(&dx, &gradients, 1e-4, "dx");
                    let gradients: Vec<f64> = (0..width).map(|i| difference(1, i)).collect();
                    assert_close(&dweight, &gradients, 1e-4, "dweight");
                    if centred {
                        let gradients: Vec<f64> = (0..width).map(|i| difference(2, i)).collect();
                        assert_close(&dbias, &gradients, 1e-4, "dbias");
                    }
                }
            }
        });
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let run = |threads| {
            at_every_level(threads, || {
                let (x, weight, dy) = (input(170, 300), noise(300, 2), noise(170 * 300, 4));
                let (mut dx, mut dweight) = (vec![0.0; x.len()], vec![0.0; 300]);
                rms_norm_backward(&x, &weight, EPSILON, &dy, &mut dx, Some(&mut dweight));
                (dx, dweight)
            })
        };
        assert_eq!(run(1), run(5));
    }
}
