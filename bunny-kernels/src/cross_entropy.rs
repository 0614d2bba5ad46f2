//! Softmax and cross-entropy over rows of logits.

use crate::math::exp;
use crate::parallel;
use crate::scratch::Shared;
use crate::simd::{Kernel, Simd, dispatch};

/// A row without a target: no loss, no gradient. Any negative target is one.
pub const IGNORED: i64 = -100;

/// `losses[row] = ln Σ e^logits - logits[target]`, zero for a row without a target.
///
/// # Panics
/// When lengths disagree, or a target is not a column.
pub fn cross_entropy(logits: &[f32], targets: &[i64], losses: &mut [f32]) {
    let width = check(logits.len(), targets, losses.len());
    let out = Shared::new(losses);
    parallel::for_each(targets.len(), |row| {
        let logits = &logits[row * width..(row + 1) * width];
        // SAFETY: an element of its own.
        let loss = unsafe { &mut out.part(row, 1)[0] };
        *loss = match usize::try_from(targets[row]) {
            Ok(target) => dispatch(LogSum { logits }) - logits[target],
            Err(_) => 0.0,
        };
    });
}

/// [`cross_entropy`], and its gradient times `scale` in place of the logits: `(softmax - one at the target) · scale`.
///
/// # Panics
/// When lengths disagree, or a target is not a column.
pub fn cross_entropy_with_gradient(
    logits: &mut [f32],
    targets: &[i64],
    scale: f32,
    losses: &mut [f32],
) {
    let width = check(logits.len(), targets, losses.len());
    let (rows, out) = (Shared::new(logits), Shared::new(losses));
    parallel::for_each(targets.len(), |row| {
        // SAFETY: a row and an element of its own.
        let (logits, loss) = unsafe { (rows.part(row * width, width), &mut out.part(row, 1)[0]) };
        *loss = match usize::try_from(targets[row]) {
            Ok(target) => {
                let logit = logits[target];
                let log_sum = dispatch(Softmax { logits, scale });
                logits[target] -= scale;
                log_sum - logit
            }
            Err(_) => {
                logits.fill(0.0);
                0.0
            }
        };
    });
}

/// The width of a row.
fn check(len: usize, targets: &[i64], losses: usize) -> usize {
    assert_eq!(targets.len(), losses, "one loss a row");
    let width = len.checked_div(targets.len()).unwrap_or(0);
    assert_eq!(width * targets.len(), len, "one target a row");
    let fits = |target: &i64| usize::try_from(*target).map_or(true, |target| target < width);
    assert!(targets.iter().all(fits), "a target beyond the columns");
    width
}

#[inline(always)]
fn greatest<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut maximum = s.splat(f32::NEG_INFINITY);
    let whole = x.len() / S::LANES * S::LANES;
    for p in (0..whole).step_by(S::LANES) {
        maximum = s.max(s.get(x, p), maximum);
    }
    x[whole..]
        .iter()
        .copied()
        .fold(s.greatest(maximum), f32::max)
}

/// `ln Σ e^x`.
struct LogSum<'a> {
    logits: &'a [f32],
}

impl Kernel for LogSum<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let maximum = greatest(s, self.logits);
        let mut sum = s.zero();
        let whole = self.logits.len() / S::LANES * S::LANES;
        for p in (0..whole).step_by(S::LANES) {
            sum = s.add(sum, exp(s, s.sub(s.get(self.logits, p), s.splat(maximum))));
        }
        let rest: f32 = self.logits[whole..]
            .iter()
            .map(|x| (x - maximum).exp())
            .sum();
        maximum + (s.sum(sum) + rest).ln()
    }
}

/// Replaces logits by their softmax times `scale`; gives `ln Σ e^x`.
struct Softmax<'a> {
    logits: &'a mut [f32],
    scale: f32,
}

impl Kernel for Softmax<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let maximum = greatest(s, self.logits);
        let mut sum = s.zero();
        let whole = self.logits.len() / S::LANES * S::LANES;
        for p in (0..whole).step_by(S::LANES) {
            let e = exp(s, s.sub(s.get(self.logits, p), s.splat(maximum)));
            s.set(self.logits, p, e);
            sum = s.add(sum, e);
        }
        let mut sum = s.sum(sum);
        for x in &mut self.logits[whole..] {
            *x = (*x - maximum).exp();
            sum += *x;
        }
        let factor = s.splat(self.scale / sum);
        for p in (0..self.logits.len()).step_by(S::LANES) {
            let softmax = s.mul(s.get(self.logits, p), factor);
            s.set(self.logits, p, softmax);
        }
        maximum + sum.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::testing::at_every_level;
    use crate::testing::{assert_close, noise};

    #[test]
    fn losses_and_gradients_equal_their_definition() {
        at_every_level(2, || {
            for (rows, width) in [(1, 1), (2, 3), (5, 16), (7, 1003), (2, 50_295)] {
                let logits: Vec<f32> = noise(rows * width, 1).iter().map(|x| x * 20.0).collect();
                let targets: Vec<i64> = (0..rows)
                    .map(|i| {
                        if i % 3 == 1 {
                            IGNORED
                        } else {
                            (i * 31 % width) as i64
                        }
                    })
                    .collect();
                let scale = 0.3;
                let (mut losses, mut gradients) = (Vec::new(), Vec::new());
                for (row, target) in logits.chunks_exact(width).zip(&targets) {
                    let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
                    let loss = |target: i64| sum.ln() - f64::from(row[target as usize]);
                    losses.push(if *target < 0 { 0.0 } else { loss(*target) });
                    gradients.extend((0..width).map(|i| {
                        let one = if i as i64 == *target { 1.0 } else { 0.0 };
                        if *target < 0 {
                            0.0
                        } else {
                            (f64::from(row[i]).exp() / sum - one) * scale
                        }
                    }));
                }
                let mut got = vec![f32::NAN; rows];
                cross_entropy(&logits, &targets, &mut got);
                assert_close(&got, &losses, 1e-6, "loss");
                let mut in_place = logits.clone();
                got.fill(f32::NAN);
                cross_entropy_with_gradient(&mut in_place, &targets, scale as f32, &mut got);
                assert_close(&got, &losses, 1e-6, "loss with gradient");
                assert_close(&in_place, &gradients, 1e-6, "gradient");
            }
        });
    }

    #[test]
    fn great_logits_do_not_overflow() {
        let mut loss = [f32::NAN];
        cross_entropy(&[1e30, 0.0, -1e30], &[0], &mut loss);
        assert_eq!(loss, [0.0]);
    }
}
