//! The float64 numbers that decide where a rough score is too close, and how far a product summed in
//! float32 can be from them.
//!
//! These functions sum in one written-down order without fused multiply-adds: the same bits on every
//! machine.

use crate::simd::{Kernel, Simd, dispatch};

/// Half a unit in the last place of float32.
const UNIT: f64 = 1.0 / (1 << 24) as f64;

/// Sums kept side by side: four AVX-512 registers of float64, enough to hide an addition's latency.
pub(crate) const LANES: usize = 32;

/// Joins the lanes: always the same tree.
#[inline(always)]
pub(crate) fn join(mut lanes: [f64; LANES]) -> f64 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Sums the products of the pairs of two slices, or with `DISTANCE` the squares of their differences,
/// lane by lane. The compiler makes of it what each instruction set offers; lanes are summed apart and
/// joined in a fixed order, so that all give the same bits.
struct SumPairs<'a, const DISTANCE: bool> {
    a: &'a [f32],
    b: &'a [f32],
}

impl<const DISTANCE: bool> SumPairs<'_, DISTANCE> {
    #[inline(always)]
    fn term(a: f32, b: f32) -> f64 {
        let (a, b) = (f64::from(a), f64::from(b));
        if DISTANCE { (a - b) * (a - b) } else { a * b }
    }
}

impl<const DISTANCE: bool> Kernel for SumPairs<'_, DISTANCE> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f64 {
        debug_assert_eq!(self.a.len(), self.b.len(), "vectors of one width");
        let mut lanes = [0.0; LANES];
        let (a_blocks, a_rest) = self.a.as_chunks::<LANES>();
        let (b_blocks, b_rest) = self.b.as_chunks::<LANES>();
        for (a, b) in a_blocks.iter().zip(b_blocks) {
            for i in 0..LANES {
                lanes[i] += Self::term(a[i], b[i]);
            }
        }
        for (i, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
            lanes[i] += Self::term(*a, *b);
        }
        join(lanes)
    }
}

/// `a · b`. Exact for float16 vectors of about unit length: their products are multiples of 2⁻⁴⁸ and
/// the sum stays below 2⁵.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    dispatch(SumPairs::<false> { a, b })
}

/// `‖a − b‖²`.
pub fn distance_squared(a: &[f32], b: &[f32]) -> f64 {
    dispatch(SumPairs::<true> { a, b })
}

/// How far a float32 product of `dims` terms, summed in any order, fused or not, can be from the
/// exact one, for vectors of these lengths whose numbers carry one rounding each.
///
/// Higham, Accuracy and Stability of Numerical Algorithms, §3.1: `|error| ≤ γₙ |a|·|b|` with
/// `γₙ = n u / (1 − n u)`, and `|a|·|b| ≤ ‖a‖ ‖b‖`. Eight more units pay for the rounding of the
/// operands and of what is added afterwards.
pub fn product_error(dims: usize, a_norm: f64, b_norm: f64) -> f64 {
    let n = (dims + 8) as f64 * UNIT;
    n / (1.0 - n) * a_norm * b_norm
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::testing::at_every_level;
    use crate::testing::noise;
    use half::f16;

    #[test]
    fn every_width_of_registers_gives_the_same_bits() {
        for dims in [1, 15, 16, 17, 512, 771] {
            let (a, b) = (noise(dims, 1), noise(dims, 2));
            // The order as it is written down: 32 sums side by side, joined by halves.
            let in_order = |term: fn(f64, f64) -> f64| {
                let mut lanes = [0.0; 32];
                for i in 0..dims {
                    lanes[i % 32] += term(f64::from(a[i]), f64::from(b[i]));
                }
                for half in [16, 8, 4, 2, 1] {
                    for i in 0..half {
                        lanes[i] += lanes[i + half];
                    }
                }
                lanes[0].to_bits()
            };
            let (product, distance) = (in_order(|a, b| a * b), in_order(|a, b| (a - b) * (a - b)));
            for bits in at_every_level(1, || dot(&a, &b).to_bits()) {
                assert_eq!(bits, product, "{dims}");
            }
            for bits in at_every_level(1, || distance_squared(&a, &b).to_bits()) {
                assert_eq!(bits, distance, "{dims}");
            }
        }
    }

    #[test]
    fn a_product_of_halves_is_exact() {
        let to_half = |v: Vec<f32>| -> Vec<f32> {
            let norm = dot(&v, &v).sqrt() as f32;
            v.iter().map(|x| f16::from_f32(x / norm).to_f32()).collect()
        };
        let (a, b) = (to_half(noise(768, 3)), to_half(noise(768, 4)));
        let quanta = |x: f32| (f64::from(x) * f64::from(1 << 24)) as i128;
        let exact: i128 = a.iter().zip(&b).map(|(a, b)| quanta(*a) * quanta(*b)).sum();
        assert_eq!(dot(&a, &b), exact as f64 / 2f64.powi(48));
    }

    #[test]
    fn the_error_bound_holds_for_sums_in_any_order() {
        for seed in 0..50 {
            let (a, b) = (noise(768, seed), noise(768, seed + 100));
            let forward: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
            let backward: f32 = a.iter().zip(&b).rev().map(|(a, b)| a * b).sum();
            let bound = product_error(768, dot(&a, &a).sqrt(), dot(&b, &b).sqrt());
            for sum in [forward, backward] {
                assert!((f64::from(sum) - dot(&a, &b)).abs() <= bound);
            }
        }
    }
}
