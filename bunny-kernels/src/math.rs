//! Exponentials and what is made of them, a register at a time.

use crate::simd::Simd;

/// `a[0] + a[1] x + a[2] x² + …`
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, x: S::V, a: [f32; N]) -> S::V {
    let mut y = s.splat(a[N - 1]);
    for i in (0..N - 1).rev() {
        y = s.mul_add(y, x, s.splat(a[i]));
    }
    y
}

/// `e^x` within two units in the last place; zero where that is subnormal, NaN for NaN.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    let y = exp_normal(s, x);
    let y = s.select_lt(x, s.splat(-87.336_54), s.zero(), y);
    s.select_lt(s.splat(88.722_84), x, s.splat(f32::INFINITY), y)
}

/// [`exp`] for `x` up to some 80, `-inf` included.
#[inline(always)]
pub(crate) fn exp_bounded<S: Simd>(s: S, x: S::V) -> S::V {
    s.select_lt(x, s.splat(-87.336_54), s.zero(), exp_normal(s, x))
}

/// `e^x = 2^n e^r` with `|r| <= ln 2 / 2`, where the result is a normal number.
#[inline(always)]
fn exp_normal<S: Simd>(s: S, x: S::V) -> S::V {
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let n = s.min(n, s.splat(127.0));
    // ln 2 in two parts: the first has few enough bits that its product with `n` is exact.
    let r = s.mul_add(n, s.splat(-0.693_359_4), x);
    let r = s.mul_add(n, s.splat(2.121_944_4e-4), r);
    // Minimax of degree 6, 8e-9 off at most.
    let p = [
        1.0,
        1.0,
        0.5,
        0.166_665_77,
        0.041_666_555,
        0.008_363_173,
        0.001_392_617_6,
    ];
    s.mul(polynomial(s, r, p), s.pow2(n))
}

/// `2^x` for `x` up to 127, `-inf` included; zero where it is subnormal.
#[inline(always)]
pub(crate) fn exp2_bounded<S: Simd>(s: S, x: S::V) -> S::V {
    let n = s.round(x);
    // The coefficients of `exp_normal` times powers of ln 2.
    let p = [
        1.0,
        std::f32::consts::LN_2,
        0.240_226_5,
        0.055_503_81,
        0.009_618_103,
        0.001_338_130_2,
        1.544_488_4e-4,
    ];
    let y = s.mul(polynomial(s, s.sub(x, n), p), s.pow2(n));
    s.select_lt(x, s.splat(-126.0), s.zero(), y)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.sub(s.zero(), x))))
}

/// `σ(x)` and `1 - σ(x)`, each to its own relative precision.
#[inline(always)]
pub(crate) fn sigmoid_pair<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let one = s.splat(1.0);
    // Below -80, where the first is 1e-35, it stays: its inverse is to be finite.
    let e = exp_bounded(s, s.sub(s.zero(), s.max(s.splat(-80.0), x)));
    let sigma = s.div(one, s.add(one, e));
    (sigma, s.mul(e, sigma))
}

/// The normal distribution's cumulative function, `(1 + erf(x / √2)) / 2`, within 1e-7; in the lower tail the error is
/// relative, down to zero below -8.5.
#[inline(always)]
pub(crate) fn normal_cdf<S: Simd>(s: S, x: S::V) -> S::V {
    // -ln erfc(z / √2) = z P(z) for 0 <= z <= 8.5.
    let p = [
        0.797_884_5,
        0.318_310_45,
        0.036_331_24,
        -0.004_767_413_2,
        -6.444_456e-5,
        2.439_945_5e-4,
        -7.690_234e-5,
        1.478_415e-5,
        -1.959_153_7e-6,
        1.799_546e-7,
        -1.096_679_9e-8,
        3.989_363e-10,
        -6.552_183e-12,
    ];
    let z = s.min(s.splat(8.5), s.max(s.sub(s.zero(), x), x));
    let exponent = s.mul(s.sub(s.zero(), z), polynomial(s, z, p));
    let tail = s.mul(s.splat(0.5), exp_bounded(s, exponent));
    let tail = s.select_lt(x, s.splat(-8.5), s.zero(), tail);
    s.select_lt(x, s.zero(), tail, s.sub(s.splat(1.0), tail))
}

/// The normal distribution's density, `e^(-x²/2) / √(2π)`.
#[inline(always)]
pub(crate) fn normal_density<S: Simd>(s: S, x: S::V) -> S::V {
    let e = exp_bounded(s, s.mul(s.mul(x, x), s.splat(-0.5)));
    s.mul(e, s.splat(0.398_942_3))
}
