//! One step of AdamW over a parameter's numbers, in one pass over the memory.

use crate::parallel;
use crate::scratch::Shared;
use crate::simd::{Kernel, Simd, dispatch};

/// The constants of one step: with `g` the gradient times `scale`,
///
/// ```text
/// m = beta1 m + (1 - beta1) g        v = beta2 v + (1 - beta2) g²
/// w = decay w - rate m / (root √v + epsilon)
/// ```
///
/// `rate` is the learning rate over `1 - beta1^t`, `root` one over `√(1 - beta2^t)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// What the gradient is multiplied with.
    pub scale: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// What the weight is multiplied with.
    pub decay: f64,
    /// How far the step goes.
    pub rate: f64,
    /// What the root of the second moment is multiplied with.
    pub root: f64,
    /// Added to that.
    pub epsilon: f64,
}

/// Numbers a task takes.
const TASK_FLOATS: usize = 32 << 10;

/// Takes one [`AdamStep`]: both moments change in place, the new weight goes to `updated`.
///
/// # Panics
/// When lengths disagree.
pub fn adamw(
    step: AdamStep,
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    weight: &[f32],
    updated: &mut [f32],
) {
    let len = gradient.len();
    let lens = [first.len(), second.len(), weight.len(), updated.len()];
    assert!(lens == [len; 4], "adamw: lengths {lens:?} beside {len}");
    let [first, second, updated] = [first, second, updated].map(Shared::new);
    parallel::for_each(len.div_ceil(TASK_FLOATS), |task| {
        let at = task * TASK_FLOATS;
        let n = TASK_FLOATS.min(len - at);
        // SAFETY: a part of its own.
        let [first, second, updated] =
            [first, second, updated].map(|all| unsafe { all.part(at, n) });
        dispatch(Part {
            step,
            gradient: &gradient[at..at + n],
            first,
            second,
            weight: &weight[at..at + n],
            updated,
        });
    });
}

struct Part<'a> {
    step: AdamStep,
    gradient: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    weight: &'a [f32],
    updated: &'a mut [f32],
}

impl Kernel for Part<'_> {
    type Output = ();

    /// Plain arithmetic, which the compiler makes vectors of: rounded alike at every level.
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let step = self.step;
        // Rounded as late as can be: 1 - 0.999 in single precision is off by 5e-5.
        let (beta1, rest1) = (step.beta1 as f32, (1.0 - step.beta1) as f32);
        let (beta2, rest2) = (step.beta2 as f32, (1.0 - step.beta2) as f32);
        let [scale, decay, rate, root, epsilon] =
            [step.scale, step.decay, step.rate, step.root, step.epsilon].map(|x| x as f32);
        let moments = self.first.iter_mut().zip(self.second);
        let weights = self.weight.iter().zip(self.updated);
        for ((gradient, (first, second)), (weight, updated)) in
            self.gradient.iter().zip(moments).zip(weights)
        {
            let g = gradient * scale;
            *first = beta1 * *first + rest1 * g;
            *second = beta2 * *second + rest2 * (g * g);
            *updated = decay * weight - rate * (*first / (root * second.sqrt() + epsilon));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::testing::at_every_level;
    use crate::testing::{assert_close, noise};

    #[test]
    fn steps_are_those_of_the_definition_at_every_level() {
        let len = TASK_FLOATS + 37;
        let step = |at: i32| AdamStep {
            scale: 0.5,
            beta1: 0.9,
            beta2: 0.99,
            decay: 0.999,
            rate: 0.01 / (1.0 - 0.9f64.powi(at)),
            root: 1.0 / (1.0 - 0.99f64.powi(at)).sqrt(),
            epsilon: 1e-8,
        };
        at_every_level(2, || {
            let (mut weight, mut expected) = (noise(len, 1), Vec::new());
            let (mut first, mut second) = (vec![0.0; len], vec![0.0; len]);
            let mut wide: Vec<[f64; 3]> =
                weight.iter().map(|w| [f64::from(*w), 0.0, 0.0]).collect();
            for at in 1..=3 {
                let gradient = noise(len, 10 + at as u64);
                let mut updated = vec![f32::NAN; len];
                adamw(
                    step(at),
                    &gradient,
                    &mut first,
                    &mut second,
                    &weight,
                    &mut updated,
                );
                weight = updated;
                for ([w, m, v], g) in wide.iter_mut().zip(&gradient) {
                    let g = 0.5 * f64::from(*g);
                    *m = 0.9 * *m + 0.1 * g;
                    *v = 0.99 * *v + 0.01 * g * g;
                    let m = *m / (1.0 - 0.9f64.powi(at));
                    let v = *v / (1.0 - 0.99f64.powi(at));
                    *w = 0.999 * *w - 0.01 * m / (v.sqrt() + 1e-8);
                }
                expected = wide.iter().map(|[w, _, _]| *w).collect();
            }
            // Each step is a hundredth, rounded as its quotient is.
            assert_close(&weight, &expected, 2e-6, "weights");
        });
    }
}
