//! Draws that depend on their key alone: not on the thread, the platform or the version of a crate.

use bunny_base::random::{mix, mix_all};

/// A stream of draws. Two streams of different keys have nothing in common.
#[derive(Clone, Debug)]
pub(crate) struct Dice {
    key: u64,
    drawn: u64,
}

impl Dice {
    /// The stream of a key, given as words whose order counts.
    pub fn new(key: &[u64]) -> Self {
        Self {
            key: mix_all(key),
            drawn: 0,
        }
    }

    /// A stream of its own for a part of the work, whatever this one has drawn so far.
    pub fn part(&self, part: u64) -> Self {
        Self::new(&[self.key, part])
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.drawn += 1;
        mix(self.key ^ mix(self.drawn))
    }

    /// A number below `n`; 0 for an `n` of 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// A number from `low` up to `high`, both possible.
    pub fn whole(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// A real number from `low` up to `high`.
    pub fn real(&mut self, low: f32, high: f32) -> f32 {
        // 24 bits: every value is a float of its own, and 1 is never reached.
        let unit = (self.bits() >> 40) as f32 / (1 << 24) as f32;
        low + (high - low) * unit
    }

    /// True in `percent` of a hundred draws.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of them.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// One of them, if there is any.
    pub fn any<T: Copy>(&mut self, of: impl IntoIterator<Item = T>) -> Option<T> {
        let all: Vec<T> = of.into_iter().collect();
        (!all.is_empty()).then(|| *self.pick(&all))
    }

    /// Which of several weights: the place of the one that was drawn.
    pub fn weighted(&mut self, weights: &[usize]) -> usize {
        let mut left = self.below(weights.iter().sum());
        weights
            .iter()
            .position(|weight| match left.checked_sub(*weight) {
                Some(rest) => {
                    left = rest;
                    false
                }
                None => true,
            })
            .unwrap_or(0)
    }

    /// Puts them in random order.
    pub fn shuffle<T>(&mut self, of: &mut [T]) {
        for last in (1..of.len()).rev() {
            of.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_kept() {
        let mut dice = Dice::new(&[1]);
        let mut seen = [0_usize; 4];
        (0..10_000).for_each(|_| seen[dice.weighted(&[1, 0, 3, 6])] += 1);
        assert_eq!(seen[1], 0);
        // Four standard deviations of a binomial count are below 200.
        for (seen, expected) in seen.into_iter().zip([1000_usize, 0, 3000, 6000]) {
            assert!(seen.abs_diff(expected) < 200, "{seen} of {expected}");
        }
    }

    #[test]
    fn a_part_does_not_hang_on_what_was_drawn() {
        let mut dice = Dice::new(&[7]);
        let mut before = dice.part(3);
        dice.bits();
        assert_eq!(before.bits(), dice.part(3).bits());
        assert_ne!(dice.part(3).bits(), dice.part(4).bits());
    }

    #[test]
    fn real_numbers_stay_in_their_range() {
        let mut dice = Dice::new(&[2]);
        let drawn: Vec<f32> = (0..10_000).map(|_| dice.real(-2.0, 6.0)).collect();
        assert!(drawn.iter().all(|number| (-2.0..6.0).contains(number)));
        let mean = drawn.iter().sum::<f32>() / drawn.len() as f32;
        assert!((mean - 2.0).abs() < 0.1, "{mean}");
    }
}
