//! The matrix next to a given one whose singular values are alike, as Muon needs it.

use crate::linear::{backward_input, backward_weight, forward};
use crate::parallel;
use crate::scratch::Shared;
use crate::simd::{Kernel, Simd, dispatch};

/// An iteration that makes the singular values of a matrix alike: of each `x`, at most 1,
/// `x (a + b x² + c x⁴)` time and again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NewtonSchulz {
    /// How often.
    pub iterations: usize,
    /// `a`, `b` and `c`.
    pub coefficients: [f64; 3],
    /// The matrix is divided by its norm, or by this where that is smaller.
    pub smallest_norm: f64,
}

impl NewtonSchulz {
    /// Jordan's, of Muon, who gave up an exact 1 for speed: all from 0.01 to 1 ends between 0.68 and
    /// 1.14. A matrix of zeros has no direction.
    pub const JORDAN: Self = Self {
        iterations: 5,
        coefficients: [3.4445, -4.7750, 2.0315],
        smallest_norm: 1e-7,
    };
}

/// Numbers a task takes.
const TASK_FLOATS: usize = 32 << 10;

/// Applies the iterations of `steps` to `x [rows, columns]`, divided by its norm. With `rounds` the
/// factors of all products are rounded to `bf16`.
///
/// # Panics
/// When `x` has another length.
pub fn orthogonal(
    x: &mut Vec<f32>,
    rows: usize,
    columns: usize,
    steps: NewtonSchulz,
    rounds: bool,
) {
    assert_eq!(x.len(), rows * columns, "orthogonal: {rows} x {columns}");
    let norm = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    scale(x, norm.max(steps.smallest_norm).recip() as f32);
    match rounds {
        true => iterate::<true>(x, rows, columns, steps),
        false => iterate::<false>(x, rows, columns, steps),
    }
}

fn iterate<const PAIRS: bool>(x: &mut Vec<f32>, rows: usize, columns: usize, steps: NewtonSchulz) {
    let tall = rows > columns;
    let short = rows.min(columns);
    let [mut gram, mut square] = [(); 2].map(|()| vec![0.0; short * short]);
    let mut product = vec![0.0; x.len()];
    let [a, b, c] = steps.coefficients.map(|one| one as f32);
    for _ in 0..steps.iterations {
        match tall {
            true => backward_weight(x, x, rows, columns, columns, false),
            false => forward(x, x, None, rows, columns, rows),
        }
        .compute::<PAIRS>(&mut gram);
        // It is symmetric, and so is its square.
        forward(&gram, &gram, None, short, short, short).compute::<PAIRS>(&mut square);
        scale_and_add(&mut square, c, &gram, b);
        match tall {
            true => forward(x, &square, None, rows, columns, columns),
            false => backward_input(&square, x, rows, columns, rows),
        }
        .compute::<PAIRS>(&mut product);
        scale_and_add(&mut product, 1.0, x, a);
        std::mem::swap(x, &mut product);
    }
}

/// `x = factor x`.
fn scale(x: &mut [f32], factor: f32) {
    x.iter_mut().for_each(|x| *x *= factor);
}

/// `x = p x + q y`.
fn scale_and_add(x: &mut [f32], p: f32, y: &[f32], q: f32) {
    let len = x.len();
    let all = Shared::new(x);
    parallel::for_each(len.div_ceil(TASK_FLOATS), |task| {
        let at = task * TASK_FLOATS;
        let n = TASK_FLOATS.min(len - at);
        // SAFETY: a part of its own.
        let x = unsafe { all.part(at, n) };
        dispatch(Blend {
            x,
            p,
            y: &y[at..at + n],
            q,
        });
    });
}

struct Blend<'a> {
    x: &'a mut [f32],
    p: f32,
    y: &'a [f32],
    q: f32,
}

impl Kernel for Blend<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (p, q) = (s.splat(self.p), s.splat(self.q));
        for at in (0..self.x.len()).step_by(S::LANES) {
            let x = s.mul(p, s.get(self.x, at));
            s.set(self.x, at, s.mul_add(q, s.get(self.y, at), x));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::testing::at_every_level;
    use crate::testing::{assert_close, noise};

    /// The same in f64, by the definition.
    fn plainly(x: &[f32], rows: usize, columns: usize) -> Vec<f64> {
        let mut x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt();
        x.iter_mut().for_each(|x| *x /= norm);
        let product = |a: &[f64], b: &[f64], m: usize, k: usize, n: usize| -> Vec<f64> {
            let at = |at: usize| (0..k).map(|p| a[at / n * k + p] * b[p * n + at % n]).sum();
            (0..m * n).map(at).collect()
        };
        for _ in 0..5 {
            let turned: Vec<f64> = (0..rows * columns)
                .map(|at| x[at % rows * columns + at / rows])
                .collect();
            let gram = product(&x, &turned, rows, columns, rows);
            let once = product(&gram, &x, rows, rows, columns);
            let twice = product(&gram, &once, rows, rows, columns);
            for ((x, once), twice) in x.iter_mut().zip(once).zip(twice) {
                *x = 3.4445 * *x - 4.7750 * once + 2.0315 * twice;
            }
        }
        x
    }

    #[test]
    fn matrices_of_every_form_are_those_of_the_definition() {
        at_every_level(2, || {
            for (rows, columns) in [(1, 1), (40, 17), (17, 40), (33, 33), (1, 50)] {
                let x = noise(rows * columns, 1);
                let expected = plainly(&x, rows, columns);
                let name = format!("{rows} x {columns}");
                let mut found = x.clone();
                orthogonal(&mut found, rows, columns, NewtonSchulz::JORDAN, false);
                // A slope of 3.4 at zero, five times over, makes 3e-5 of a rounding of 6e-8.
                assert_close(&found, &expected, 1e-4, &name);
                let mut found = x;
                orthogonal(&mut found, rows, columns, NewtonSchulz::JORDAN, true);
                // In the mean: torch's own steps, in bf16, are off by nearly as much (tests/reference/muon.py).
                let off: f64 = found
                    .iter()
                    .zip(&expected)
                    .map(|(a, b)| (f64::from(*a) - b).abs())
                    .sum();
                let size: f64 = expected.iter().map(|x| x.abs()).sum();
                // A number alone has nothing to be a mean with: near 1 the terms are 3.8 - 6.5 + 3.4, and
                // three and six roundings of 2^-9 are up to 0.08 of 0.7, in each of five iterations.
                let allowed = if expected.len() == 1 { 0.55 } else { 0.03 };
                assert!(off < allowed * size, "{name} rounded: {off} of {size}");
            }
        });
    }

    #[test]
    fn nothing_has_no_direction() {
        let mut x = vec![0.0; 6];
        orthogonal(&mut x, 2, 3, NewtonSchulz::JORDAN, false);
        assert_eq!(x, [0.0; 6]);
    }
}
