//! Sources spread evenly among each other, without a table.

/// Puts the `k`th of a source's `n` slots at `(2k + 1) / 2n` of the epoch and finds the slot at
/// `position` of all of them in that order; equal places go by source. `ends` says where each
/// source's slots end. Returns the source and `k`.
pub(super) fn interleaved(ends: &[u64], position: u64) -> (usize, u64) {
    let slots = |source: usize| {
        let start = source.checked_sub(1).map_or(0, |before| ends[before]);
        ends[source] - start
    };
    // How many slots of all sources stand before the kth of `source`: those of source j with
    // (2m + 1) / 2n' < (2k + 1) / 2n, or equal when j comes first.
    let before = |source: usize, k: u64| -> u64 {
        let (n, place) = (u128::from(slots(source)), u128::from(2 * k + 1));
        (0..ends.len())
            .filter(|other| *other != source)
            .map(|other| {
                let bound = place * u128::from(slots(other)); // (2m + 1) · n < bound
                let first = u128::from(other < source);
                ((bound + n + first).saturating_sub(1) / (2 * n)) as u64
            })
            .sum::<u64>()
            + k
    };
    for source in 0..ends.len() {
        let (mut low, mut high) = (0, slots(source));
        while low < high {
            let middle = low + (high - low) / 2;
            match before(source, middle).cmp(&position) {
                std::cmp::Ordering::Equal => return (source, middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
    }
    unreachable!("every position below the epoch's length belongs to one source")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaving_agrees_with_sorting_all_places() {
        for counts in [
            &[5_u64, 3][..],
            &[7, 7, 7],
            &[1, 0, 10, 4],
            &[100, 1],
            &[12, 18, 30],
        ] {
            let mut expected = Vec::new();
            for (source, n) in counts.iter().enumerate() {
                for k in 0..*n {
                    // Every 2n here divides 12,600, so the places are whole numbers.
                    expected.push(((2 * k + 1) * 12_600 / (2 * n), source, k));
                }
            }
            expected.sort_unstable();
            let mut end = 0;
            let ends: Vec<u64> = counts
                .iter()
                .map(|n| {
                    end += n;
                    end
                })
                .collect();
            let found: Vec<_> = (0..end).map(|at| interleaved(&ends, at)).collect();
            let expected: Vec<_> = expected.iter().map(|e| (e.1, e.2)).collect();
            assert_eq!(found, expected, "{counts:?}");
        }
    }
}
