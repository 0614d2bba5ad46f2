//! The float64 numbers that decide.
//!
//! Every decision (nearest centroid, edge or no edge, order of distances and scores) is that of
//! these functions, whose sums are those of [`bunny_kernels::exact`]: the same bits on every machine.
//! Rough products only find the few candidates that need them.

pub(crate) use bunny_kernels::exact::{distance_squared, dot};

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
