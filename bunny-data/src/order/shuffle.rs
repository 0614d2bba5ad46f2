//! A shuffle without a table: where each position goes is computed from a key.

use bunny_base::random::mix;

/// Where a keyed shuffle of `0..len` puts `position`: a Feistel network over the next even power of
/// two, walked until it lands inside (Black and Rogaway 2002). No table is kept.
pub(crate) fn shuffled(position: u64, len: u64, key: u64) -> u64 {
    const ROUNDS: u64 = 6;
    debug_assert!(position < len);
    // Halves of at least 4 bits: fewer would leave short shuffles visibly uneven.
    let half = (u64::BITS - (len - 1).leading_zeros()).div_ceil(2).max(4);
    let mask = (1_u64 << half) - 1;
    let mut word = position;
    loop {
        let (mut left, mut right) = (word >> half, word & mask);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ (mix(key ^ mix((round << 56) ^ right)) & mask));
        }
        word = (left << half) | right;
        if word < len {
            return word;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_shuffle_is_a_permutation_of_every_length() {
        for len in (1..300).chain([1023, 1024, 1025, 4097, 70_000]) {
            let mut seen = vec![false; len as usize];
            for position in 0..len {
                let to = shuffled(position, len, len) as usize;
                assert!(!std::mem::replace(&mut seen[to], true), "{len}: {to} twice");
            }
        }
    }

    #[test]
    fn all_shuffles_of_four_are_about_as_likely() {
        let mut seen = HashMap::new();
        let draws = 24_000;
        for key in 0..draws {
            let shuffle: Vec<u64> = (0..4).map(|at| shuffled(at, 4, mix(key))).collect();
            *seen.entry(shuffle).or_insert(0_u32) += 1;
        }
        assert_eq!(seen.len(), 24);
        let expected = f64::from(draws as u32) / 24.0;
        let chi: f64 = seen
            .values()
            .map(|n| (f64::from(*n) - expected).powi(2) / expected)
            .sum();
        // 23 degrees of freedom: above 49.7 happens once in a thousand.
        assert!(chi < 49.7, "chi square {chi}");
    }

    #[test]
    fn neighbours_do_not_stay_neighbours() {
        // In a random permutation of n the expected count of i, i + 1 kept adjacent is about 1.
        let len = 100_000;
        let kept = (1..len)
            .filter(|at| shuffled(*at, len, 5) == shuffled(at - 1, len, 5) + 1)
            .count();
        assert!(kept < 8, "{kept} neighbours kept");
    }
}
