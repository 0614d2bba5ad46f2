//! A part of the questions for each of several machines.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// Which of how many parts, the first being 1: `2/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    number: usize,
    of: usize,
}

impl Shard {
    /// All of it.
    pub const WHOLE: Self = Self { number: 1, of: 1 };

    /// Its questions of `total`: parts are of one size, rounded up, and follow each other; the
    /// last may be smaller, and parts behind it empty.
    pub fn range(self, total: usize) -> Range<usize> {
        let size = total.div_ceil(self.of);
        let start = ((self.number - 1) * size).min(total);
        start..(start + size).min(total)
    }
}

/// What is no part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no part: take K/N, such as 1/4 to 4/4")]
pub struct ShardError(pub String);

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('/').and_then(|(number, of)| {
            let shard = Self {
                number: number.parse().ok()?,
                of: of.parse().ok()?,
            };
            (1..=shard.of).contains(&shard.number).then_some(shard)
        });
        parts.ok_or_else(|| ShardError(text.to_owned()))
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `get_chunk(list(range(N)), n, k)` of the reference.
    #[test]
    fn parts_are_the_references_and_may_be_fewer() {
        let sizes = |total: usize, of: usize| -> Vec<usize> {
            let part = |number| {
                format!("{number}/{of}")
                    .parse::<Shard>()
                    .unwrap()
                    .range(total)
                    .len()
            };
            (1..=of).map(part).collect()
        };
        assert_eq!(sizes(10, 4), [3, 3, 3, 1]);
        assert_eq!(sizes(9, 4), [3, 3, 3, 0]);
        assert_eq!(sizes(0, 2), [0, 0]);
        assert_eq!(Shard::WHOLE.range(7), 0..7);
        for text in ["", "0/2", "3/2", "1", "1/0", "-1/2", "1/2/3"] {
            assert_eq!(text.parse::<Shard>(), Err(ShardError(text.to_owned())));
        }
    }
}
