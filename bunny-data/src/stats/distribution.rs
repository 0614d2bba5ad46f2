//! How a number is spread over the records.

use serde::Serialize;

/// How a number is spread over the records.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Distribution {
    /// How many numbers there are.
    pub count: usize,
    /// The smallest.
    pub min: u32,
    /// The mean.
    pub mean: f64,
    /// The median: at least half of the numbers are no larger. The others likewise.
    pub p50: u32,
    /// Nine in ten are no larger.
    pub p90: u32,
    /// 99 in 100 are no larger.
    pub p99: u32,
    /// The largest.
    pub max: u32,
    /// How many fall between round bounds.
    pub histogram: Vec<Bin>,
}

/// One bar of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bin {
    /// The smallest number that counts.
    pub from: u32,
    /// The largest number that counts.
    pub to: u32,
    /// How many there are.
    pub count: usize,
}

/// Bars of a histogram, about.
const BINS: u64 = 20;

impl Distribution {
    /// Of these numbers, in any order.
    pub fn of(mut numbers: Vec<u32>) -> Self {
        numbers.sort_unstable();
        let (Some(min), Some(max)) = (numbers.first().copied(), numbers.last().copied()) else {
            return Self::default();
        };
        let count = numbers.len();
        let at = |percent: usize| numbers[(count * percent).div_ceil(100).max(1) - 1];
        Self {
            count,
            min,
            mean: numbers.iter().map(|number| f64::from(*number)).sum::<f64>() / count as f64,
            p50: at(50),
            p90: at(90),
            p99: at(99),
            max,
            histogram: histogram(&numbers, min, at(99), max),
        }
    }
}

/// Bars of a round width up to about the 99th percentile, and one for all that lies beyond.
fn histogram(sorted: &[u32], min: u32, high: u32, max: u32) -> Vec<Bin> {
    let span = u64::from(high - min) + 1;
    let width = (0..10)
        .flat_map(|power| [1, 2, 5].map(|digit| digit * 10_u64.pow(power)))
        .find(|width| span.div_ceil(*width) <= BINS)
        .unwrap_or(span);
    let mut bins = Vec::new();
    let mut rest = sorted;
    let mut from = u64::from(min) / width * width;
    while !rest.is_empty() {
        let last = from > u64::from(high);
        let to = if last {
            u64::from(max)
        } else {
            from + width - 1
        };
        let (inside, after) =
            rest.split_at(rest.partition_point(|number| u64::from(*number) <= to));
        bins.push(Bin {
            from: from as u32,
            to: to.min(u64::from(u32::MAX)) as u32,
            count: inside.len(),
        });
        rest = after;
        from = to + 1;
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let distribution = Distribution::of((1..=1000).rev().collect());
        assert_eq!(
            (distribution.p50, distribution.p90, distribution.p99),
            (500, 900, 990)
        );
        assert_eq!(
            (distribution.min, distribution.max, distribution.mean),
            (1, 1000, 500.5)
        );
        let one = Distribution::of(vec![7]);
        assert_eq!((one.p50, one.p99, one.max), (7, 7, 7));
        assert_eq!(Distribution::of(vec![]), Distribution::default());
    }

    #[test]
    fn every_number_is_in_one_bar() {
        for numbers in [
            vec![0, u32::MAX],
            (0..3000).map(|n| n * n).collect(),
            vec![5; 9],
            vec![u32::MAX; 2],
        ] {
            let bins = Distribution::of(numbers.clone()).histogram;
            assert!(bins.len() <= 22, "{}", bins.len());
            for bin in &bins {
                let inside = numbers
                    .iter()
                    .filter(|n| (bin.from..=bin.to).contains(n))
                    .count();
                assert_eq!(inside, bin.count);
            }
            assert_eq!(
                bins.iter().map(|bin| bin.count).sum::<usize>(),
                numbers.len()
            );
        }
    }
}
