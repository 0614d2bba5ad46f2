//! Random weights as a function of seed, name and place.

/// `count` numbers, uniform within `±bound`: the same for the same seed and name anywhere.
pub fn uniform(seed: u64, name: &str, count: usize, bound: f32) -> Vec<f32> {
    let key = name
        .bytes()
        .fold(mix(seed), |key, byte| mix(key ^ u64::from(byte)));
    (0..count as u64)
        .map(|at| {
            // 24 bits, which an f32 holds exactly, on [-1, 1).
            let bits = mix(key ^ mix(at)) >> 40;
            (bits as f32 / (1 << 23) as f32 - 1.0) * bound
        })
        .collect()
}

/// SplitMix64 (Steele, Lea and Flood 2014): a bijection on 64 bits whose outputs look random.
pub fn mix(key: u64) -> u64 {
    let key = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let key = (key ^ (key >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let key = (key ^ (key >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    key ^ (key >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_fill_their_bounds_evenly_and_differ_by_name() {
        let draws = uniform(1, "a", 100_000, 0.5);
        assert!(draws.iter().all(|draw| (-0.5..0.5).contains(draw)));
        let count = draws.len() as f64;
        let mean = draws.iter().map(|draw| f64::from(*draw)).sum::<f64>() / count;
        let square = draws
            .iter()
            .map(|draw| f64::from(*draw).powi(2))
            .sum::<f64>()
            / count;
        // Five deviations of the mean of so many draws; the variance is 0.5² / 3.
        assert!(mean.abs() < 5.0 * (0.25 / 3.0 / count).sqrt(), "{mean}");
        assert!((square - 0.25 / 3.0).abs() < 1e-3, "{square}");
        assert_ne!(draws[..10], uniform(1, "b", 10, 0.5)[..]);
        assert_ne!(draws[..10], uniform(2, "a", 10, 0.5)[..]);
    }
}
