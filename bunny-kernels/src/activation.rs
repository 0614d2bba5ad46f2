//! Activations in place, and their gradients.

use crate::math::{normal_cdf, normal_density, sigmoid, sigmoid_pair};
use crate::parallel;
use crate::scratch::Shared;
use crate::simd::{Kernel, Simd, dispatch};

/// Elements a task takes: enough to be worth a task, few enough for the cache.
const CHUNK: usize = 16 << 10;

/// A function of one number and its derivative.
trait Function: Copy + Send + Sync {
    fn value<S: Simd>(s: S, x: S::V) -> S::V;
    fn derivative<S: Simd>(s: S, x: S::V) -> S::V;
}

/// `x Φ(x)`, with `Φ` the normal distribution's cumulative function.
#[derive(Clone, Copy)]
struct GeluErf;

impl Function for GeluErf {
    #[inline(always)]
    fn value<S: Simd>(s: S, x: S::V) -> S::V {
        s.mul(x, normal_cdf(s, x))
    }
    #[inline(always)]
    fn derivative<S: Simd>(s: S, x: S::V) -> S::V {
        s.mul_add(x, normal_density(s, x), normal_cdf(s, x))
    }
}

/// `x (1 + tanh u) / 2 = x σ(2u)` with `u = √(2/π) (x + 0.044715 x³)`.
#[derive(Clone, Copy)]
struct GeluTanh;

impl GeluTanh {
    /// `2 √(2/π)` and that times 0.044715: `2u = LINEAR x + CUBIC x³`.
    const LINEAR: f32 = 1.595_769;
    const CUBIC: f32 = 0.071_354_82;
}

impl Function for GeluTanh {
    #[inline(always)]
    fn value<S: Simd>(s: S, x: S::V) -> S::V {
        let slope = s.mul_add(s.mul(x, x), s.splat(Self::CUBIC), s.splat(Self::LINEAR));
        s.mul(x, sigmoid(s, s.mul(x, slope)))
    }
    #[inline(always)]
    fn derivative<S: Simd>(s: S, x: S::V) -> S::V {
        let square = s.mul(x, x);
        let slope = s.mul_add(square, s.splat(Self::CUBIC), s.splat(Self::LINEAR));
        let steepness = s.mul_add(square, s.splat(3.0 * Self::CUBIC), s.splat(Self::LINEAR));
        gated_derivative(s, sigmoid_pair(s, s.mul(x, slope)), s.mul(x, steepness))
    }
}

/// `x σ(x)`.
#[derive(Clone, Copy)]
struct Silu;

impl Function for Silu {
    #[inline(always)]
    fn value<S: Simd>(s: S, x: S::V) -> S::V {
        s.mul(x, sigmoid(s, x))
    }
    #[inline(always)]
    fn derivative<S: Simd>(s: S, x: S::V) -> S::V {
        gated_derivative(s, sigmoid_pair(s, x), x)
    }
}

/// The derivative of `x σ(f(x))`, `σ + σ (1 - σ) x f'(x)`, given `(σ, 1 - σ)` and `x f'(x)`. The last is bounded where
/// `σ (1 - σ)` has long vanished, or infinity times zero would make NaN.
#[inline(always)]
fn gated_derivative<S: Simd>(s: S, (sigma, rest): (S::V, S::V), slope: S::V) -> S::V {
    let slope = s.min(s.splat(1e6), s.max(s.splat(-1e6), slope));
    s.mul_add(s.mul(sigma, rest), slope, sigma)
}

/// GELU with the error function, in place.
pub fn gelu_erf(x: &mut [f32]) {
    apply::<GeluErf>(x);
}

/// The gradient of [`gelu_erf`]: `dx = dy · f'(x)`. Panics unless all are as long.
pub fn gelu_erf_backward(x: &[f32], dy: &[f32], dx: &mut [f32]) {
    apply_backward::<GeluErf>(x, dy, dx);
}

/// GELU with the tanh approximation, in place.
pub fn gelu_tanh(x: &mut [f32]) {
    apply::<GeluTanh>(x);
}

/// The gradient of [`gelu_tanh`]: `dx = dy · f'(x)`. Panics unless all are as long.
pub fn gelu_tanh_backward(x: &[f32], dy: &[f32], dx: &mut [f32]) {
    apply_backward::<GeluTanh>(x, dy, dx);
}

/// SiLU, `x σ(x)`, in place.
pub fn silu(x: &mut [f32]) {
    apply::<Silu>(x);
}

/// The gradient of [`silu`]: `dx = dy · f'(x)`. Panics unless all are as long.
pub fn silu_backward(x: &[f32], dy: &[f32], dx: &mut [f32]) {
    apply_backward::<Silu>(x, dy, dx);
}

/// `gate = silu(gate) · up`. Panics unless both are as long.
pub fn silu_mul(gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "gate and up");
    let out = Shared::new(gate);
    in_chunks(up.len(), |at, n| {
        // SAFETY: a chunk of its own.
        let gate = unsafe { out.part(at, n) };
        dispatch(SiluMul {
            gate,
            up: &up[at..at + n],
        });
    });
}

/// The gradients of [`silu_mul`]: `dgate = dy · up · silu'(gate)` and `dup = dy · silu(gate)`. Panics unless all are
/// as long.
pub fn silu_mul_backward(gate: &[f32], up: &[f32], dy: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
    let n = gate.len();
    assert!(
        [up.len(), dy.len(), dgate.len(), dup.len()] == [n; 4],
        "silu_mul_backward: lengths differ"
    );
    let (dgate, dup) = (Shared::new(dgate), Shared::new(dup));
    in_chunks(n, |at, n| {
        let (gate, up, dy) = (&gate[at..at + n], &up[at..at + n], &dy[at..at + n]);
        // SAFETY: a chunk of its own.
        let (dgate, dup) = unsafe { (dgate.part(at, n), dup.part(at, n)) };
        dispatch(SiluMulBackward {
            gate,
            up,
            dy,
            dgate,
            dup,
        });
    });
}

fn in_chunks(len: usize, task: impl Fn(usize, usize) + Send + Sync) {
    parallel::for_each(len.div_ceil(CHUNK), |i| {
        task(i * CHUNK, CHUNK.min(len - i * CHUNK))
    });
}

fn apply<F: Function>(x: &mut [f32]) {
    let len = x.len();
    let out = Shared::new(x);
    in_chunks(len, |at, n| {
        // SAFETY: a chunk of its own.
        let x = unsafe { out.part(at, n) };
        dispatch(Apply::<F> {
            x,
            function: std::marker::PhantomData,
        });
    });
}

fn apply_backward<F: Function>(x: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert!(
        x.len() == dy.len() && x.len() == dx.len(),
        "activation backward: lengths differ"
    );
    let out = Shared::new(dx);
    in_chunks(x.len(), |at, n| {
        // SAFETY: a chunk of its own.
        let dx = unsafe { out.part(at, n) };
        let (x, dy) = (&x[at..at + n], &dy[at..at + n]);
        dispatch(ApplyBackward::<F> {
            x,
            dy,
            dx,
            function: std::marker::PhantomData,
        });
    });
}

struct Apply<'a, F> {
    x: &'a mut [f32],
    function: std::marker::PhantomData<F>,
}

impl<F: Function> Kernel for Apply<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for at in (0..self.x.len()).step_by(S::LANES) {
            let y = F::value(s, s.get(self.x, at));
            s.set(self.x, at, y);
        }
    }
}

struct ApplyBackward<'a, F> {
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
    function: std::marker::PhantomData<F>,
}

impl<F: Function> Kernel for ApplyBackward<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for at in (0..self.x.len()).step_by(S::LANES) {
            let slope = F::derivative(s, s.get(self.x, at));
            s.set(self.dx, at, s.mul(slope, s.get(self.dy, at)));
        }
    }
}

struct SiluMul<'a> {
    gate: &'a mut [f32],
    up: &'a [f32],
}

impl Kernel for SiluMul<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for at in (0..self.up.len()).step_by(S::LANES) {
            let y = s.mul(Silu::value(s, s.get(self.gate, at)), s.get(self.up, at));
            s.set(self.gate, at, y);
        }
    }
}

struct SiluMulBackward<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    dy: &'a [f32],
    dgate: &'a mut [f32],
    dup: &'a mut [f32],
}

impl Kernel for SiluMulBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for at in (0..self.gate.len()).step_by(S::LANES) {
            let (gate, up, dy) = (s.get(self.gate, at), s.get(self.up, at), s.get(self.dy, at));
            let sigma = sigmoid_pair(s, gate);
            s.set(self.dup, at, s.mul(dy, s.mul(gate, sigma.0)));
            s.set(
                self.dgate,
                at,
                s.mul(s.mul(dy, up), gated_derivative(s, sigma, gate)),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::testing::at_every_level;
    use crate::testing::noise;

    fn sigma(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    /// `Φ(x)` by the series of erf near zero and the continued fraction of erfc far from it.
    fn cdf(x: f64) -> f64 {
        let z = x.abs();
        let density = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let upper = if z < 3.0 {
            let (mut term, mut sum) = (z, z);
            for n in 1..200 {
                term *= z * z / f64::from(2 * n + 1);
                sum += term;
            }
            0.5 - density * sum
        } else {
            let mut fraction = z;
            for n in (1..200).rev() {
                fraction = z + f64::from(n) / fraction;
            }
            density / fraction
        };
        if x < 0.0 { upper } else { 1.0 - upper }
    }

    fn gelu_tanh_f64(x: f64) -> f64 {
        0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
    }

    type InPlace = fn(&mut [f32]);
    type Backward = fn(&[f32], &[f32], &mut [f32]);
    type Oracle = fn(f64) -> f64;
    const FORMS: [(&str, InPlace, Backward, Oracle); 3] = [
        ("gelu_erf", gelu_erf, gelu_erf_backward, |x| x * cdf(x)),
        ("gelu_tanh", gelu_tanh, gelu_tanh_backward, gelu_tanh_f64),
        ("silu", silu, silu_backward, |x| x * sigma(x)),
    ];

    fn points() -> Vec<f32> {
        let mut x: Vec<f32> = (-120_000..=120_000).map(|i| i as f32 * 1e-4).collect();
        x.extend(noise(CHUNK, 1).iter().map(|x| x * 100.0));
        x.extend([0.0, -0.0, 1e-30, -1e-30, 1e4, -1e4, f32::MAX, f32::MIN]);
        x
    }

    #[test]
    fn activations_agree_with_double_precision_everywhere() {
        at_every_level(2, || {
            for (name, function, _, oracle) in FORMS {
                let x = points();
                let mut y = x.clone();
                function(&mut y);
                for (&x, &y) in x.iter().zip(&y) {
                    let expected = oracle(f64::from(x));
                    let error = (f64::from(y) - expected).abs();
                    assert!(
                        error <= 2e-7 * expected.abs().max(1.0),
                        "{name}({x}) = {y}, expected {expected}"
                    );
                }
            }
        });
    }

    #[test]
    fn gradients_agree_with_finite_differences_of_double_precision() {
        at_every_level(2, || {
            for (name, _, backward, oracle) in FORMS {
                let x: Vec<f32> = points().into_iter().filter(|x| x.abs() < 1e3).collect();
                let dy = noise(x.len(), 2);
                let mut dx = vec![f32::NAN; x.len()];
                backward(&x, &dy, &mut dx);
                for i in 0..x.len() {
                    let (x, h) = (f64::from(x[i]), 1e-5);
                    let expected = f64::from(dy[i]) * (oracle(x + h) - oracle(x - h)) / (2.0 * h);
                    let error = (f64::from(dx[i]) - expected).abs();
                    assert!(
                        error <= 1e-6,
                        "{name}'({x}) = {}, expected {expected}",
                        dx[i]
                    );
                }
            }
        });
    }

    #[test]
    fn gradients_stay_finite_far_out() {
        for (name, _, backward, _) in FORMS {
            let x = [1e30, -1e30, 1e4, -1e4];
            let mut dx = [f32::NAN; 4];
            backward(&x, &[1.0; 4], &mut dx);
            for (dx, expected) in dx.into_iter().zip([1.0, 0.0, 1.0, 0.0]) {
                assert!((dx - expected).abs() < 1e-20, "{name}: {dx}");
            }
        }
    }

    #[test]
    fn the_gated_form_is_silu_times_up_with_both_gradients() {
        at_every_level(2, || {
            for n in [1, 7, 16, 33, CHUNK + 5] {
                let gate: Vec<f32> = noise(n, 3).iter().map(|x| x * 8.0).collect();
                let (up, dy) = (noise(n, 4), noise(n, 5));
                let mut y = gate.clone();
                silu_mul(&mut y, &up);
                let (mut dgate, mut dup) = (vec![f32::NAN; n], vec![f32::NAN; n]);
                silu_mul_backward(&gate, &up, &dy, &mut dgate, &mut dup);
                for i in 0..n {
                    let (g, u, d) = (f64::from(gate[i]), f64::from(up[i]), f64::from(dy[i]));
                    let slope = sigma(g) * (1.0 + g * (1.0 - sigma(g)));
                    let expected = [g * sigma(g) * u, d * u * slope, d * g * sigma(g)];
                    for (got, expected) in [y[i], dgate[i], dup[i]].into_iter().zip(expected) {
                        assert!(
                            (f64::from(got) - expected).abs() <= 2e-6,
                            "{got} for {expected}"
                        );
                    }
                }
            }
        });
    }

    #[test]
    fn what_is_not_a_number_stays_so() {
        for (name, function, _, _) in FORMS {
            let mut x = [f32::NAN; 3];
            function(&mut x);
            assert!(x.iter().all(|x| x.is_nan()), "{name}");
        }
    }
}
