//! The float64 numbers that decide, and how far a product summed in float32 can be from them.
//!
//! Every decision (nearest centroid, edge or no edge, order of distances and scores) is that of
//! these functions, which sum in one written-down order without fused multiply-adds: the same bits
//! on every machine. Products in float32 or `bf16` only find the few candidates that need them.

/// Half a unit in the last place of float32.
const UNIT: f64 = 1.0 / (1 << 24) as f64;

/// Sums kept side by side: four AVX-512 registers of float64, enough to hide an addition's latency.
pub(crate) const LANES: usize = 32;

/// Compiles the body three times and runs the widest version the machine has. Lanes are summed
/// apart and joined in a fixed order, so all versions give the same bits.
macro_rules! by_width {
    (
        $(#[$doc:meta])*
        $vis:vis fn $name:ident($($arg:ident: $kind:ty),*) -> $out:ty $body:block
    ) => {
        $(#[$doc])*
        $vis fn $name($($arg: $kind),*) -> $out {
            #[inline(always)]
            fn body($($arg: $kind),*) -> $out $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f")]
                fn avx512($($arg: $kind),*) -> $out { body($($arg),*) }
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $kind),*) -> $out { body($($arg),*) }
                if std::arch::is_x86_feature_detected!("avx512f") {
                    // SAFETY: the machine has AVX-512.
                    return unsafe { avx512($($arg),*) };
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the machine has AVX2.
                    return unsafe { avx2($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use by_width;

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

/// Sums `term` of the pairs of two slices, lane by lane.
#[inline(always)]
fn sum_pairs(a: &[f32], b: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    debug_assert_eq!(a.len(), b.len(), "vectors of one width");
    let mut lanes = [0.0; LANES];
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for i in 0..LANES {
            lanes[i] += term(f64::from(a[i]), f64::from(b[i]));
        }
    }
    for (i, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[i] += term(f64::from(*a), f64::from(*b));
    }
    join(lanes)
}

by_width! {
    /// `a · b`. Exact for float16 vectors of about unit length: their products are multiples of
    /// 2⁻⁴⁸ and the sum stays below 2⁵.
    pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 { sum_pairs(a, b, |a, b| a * b) }
}

by_width! {
    /// `‖a − b‖²`.
    pub(crate) fn distance_squared(a: &[f32], b: &[f32]) -> f64 {
        sum_pairs(a, b, |a, b| (a - b) * (a - b))
    }
}

/// Multiplies a row by a number, each product rounded once.
pub(crate) fn scale(row: &mut [f32], factor: f64) {
    for value in row {
        *value = (f64::from(*value) * factor) as f32;
    }
}

/// The cosine of two vectors; 0 where one has no direction.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let norms = dot(a, a).sqrt() * dot(b, b).sqrt();
    if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
}

/// How far a float32 product of `dims` terms, summed in any order, fused or not, can be from the
/// exact one, for vectors of these lengths whose numbers carry one rounding each.
///
/// Higham, Accuracy and Stability of Numerical Algorithms, §3.1: `|error| ≤ γₙ |a|·|b|` with
/// `γₙ = n u / (1 − n u)`, and `|a|·|b| ≤ ‖a‖ ‖b‖`. Eight more units pay for the rounding of the
/// operands and of what is added afterwards.
pub(crate) fn product_error(dims: usize, a_norm: f64, b_norm: f64) -> f64 {
    let n = (dims + 8) as f64 * UNIT;
    n / (1.0 - n) * a_norm * b_norm
}

/// The order of float64 as unsigned integers; NaN sorts last, −0 equals 0.
pub(crate) fn ordered(value: f64) -> u64 {
    if value.is_nan() {
        return u64::MAX;
    }
    let bits = (value + 0.0).to_bits();
    if bits >> 63 == 1 {
        !bits
    } else {
        bits | 1 << 63
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(seed: u64, dims: usize) -> Vec<f32> {
        (0..dims as u64)
            .map(|i| (crate::hash::mix_all(&[seed, i]) >> 40) as f32 / (1 << 23) as f32 - 1.0)
            .collect()
    }

    #[test]
    fn every_width_of_registers_gives_the_same_bits() {
        for dims in [1, 15, 16, 17, 512, 771] {
            let (a, b) = (vector(1, dims), vector(2, dims));
            assert_eq!(
                dot(&a, &b).to_bits(),
                sum_pairs(&a, &b, |a, b| a * b).to_bits()
            );
            assert_eq!(
                distance_squared(&a, &b).to_bits(),
                sum_pairs(&a, &b, |a, b| (a - b) * (a - b)).to_bits()
            );
        }
    }

    #[test]
    fn a_product_of_halves_is_exact() {
        let to_half = |v: Vec<f32>| -> Vec<f32> {
            let norm = dot(&v, &v).sqrt() as f32;
            v.iter()
                .map(|x| half::f16::from_f32(x / norm).to_f32())
                .collect()
        };
        let (a, b) = (to_half(vector(3, 768)), to_half(vector(4, 768)));
        let quanta = |x: f32| (f64::from(x) * f64::from(1 << 24)) as i128;
        let exact: i128 = a.iter().zip(&b).map(|(a, b)| quanta(*a) * quanta(*b)).sum();
        assert_eq!(dot(&a, &b), exact as f64 / 2f64.powi(48));
    }

    #[test]
    fn the_error_bound_holds_for_sums_in_any_order() {
        for seed in 0..50 {
            let (a, b) = (vector(seed, 768), vector(seed + 100, 768));
            let forward: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
            let backward: f32 = a.iter().zip(&b).rev().map(|(a, b)| a * b).sum();
            let bound = product_error(768, dot(&a, &a).sqrt(), dot(&b, &b).sqrt());
            for sum in [forward, backward] {
                assert!((f64::from(sum) - dot(&a, &b)).abs() <= bound);
            }
        }
    }

    #[test]
    fn integers_order_as_floats_do() {
        let values = [
            f64::NEG_INFINITY,
            -1.5,
            -1e-300,
            0.0,
            1e-300,
            0.3,
            f64::INFINITY,
            f64::NAN,
        ];
        assert!(
            values
                .windows(2)
                .all(|pair| ordered(pair[0]) < ordered(pair[1]))
        );
        assert_eq!(ordered(-0.0), ordered(0.0));
    }
}
