//! Which records a step sees: a pure function of (seed, epoch, step).
//!
//! Nothing is kept between steps, so a run resumes exactly. A step is that of all workers together:
//! its batch is the same however many share it, and they divide it among themselves.
//!
//! ```text
//! position in the epoch ── shuffle of the epoch ──► place ── shuffle of the records ──► record
//! ```

mod shuffle;

use crate::error::{DataError, Result};
use bunny_base::random::mix_all;

pub(crate) use shuffle::shuffled;

/// How the records of an epoch follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Arrangement {
    /// Shuffled anew in each epoch.
    #[default]
    Shuffled,
    /// In their own order.
    Sequential,
}

/// Which records each step sees: each record once in an epoch.
///
/// ```
/// use bunny_data::order::{Arrangement, Order};
///
/// let order = Order::new(694_610, 128, Arrangement::Shuffled, 42)?;
/// assert_eq!(order.steps(), 5427); // ceil(694,610 / 128)
/// assert_eq!(order.step(0, 17)?.len(), 128);
/// # Ok::<(), bunny_data::DataError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    records: u64,
    batch_size: u64,
    arrangement: Arrangement,
    seed: u64,
}

impl Order {
    /// The order of so many records, in batches of so many; the last batch of an epoch may be
    /// smaller.
    ///
    /// # Errors
    /// [`DataError::Order`] when there is no record, or none in a batch.
    pub fn new(
        records: usize,
        batch_size: usize,
        arrangement: Arrangement,
        seed: u64,
    ) -> Result<Self> {
        for (field, number) in [("batch_size", batch_size), ("records", records)] {
            if number == 0 {
                return Err(DataError::Order {
                    field,
                    what: "has to be at least 1",
                });
            }
        }
        Ok(Self {
            records: records as u64,
            batch_size: batch_size as u64,
            arrangement,
            seed,
        })
    }

    /// Steps in an epoch, a smaller last one included.
    pub fn steps(&self) -> u64 {
        self.records.div_ceil(self.batch_size)
    }

    /// The records of a step, in order.
    ///
    /// # Errors
    /// [`DataError::Order`] when the epoch has no such step.
    pub fn step(&self, epoch: u64, step: u64) -> Result<Vec<usize>> {
        if step >= self.steps() {
            return Err(DataError::Order {
                field: "step",
                what: "lies beyond the end of the epoch",
            });
        }
        let start = step * self.batch_size;
        let end = self.records.min(start + self.batch_size);
        Ok((start..end)
            .map(|position| self.at(epoch, position))
            .collect())
    }

    /// All records of an epoch, in order.
    pub fn epoch(&self, epoch: u64) -> impl Iterator<Item = usize> {
        (0..self.records).map(move |position| self.at(epoch, position))
    }

    /// The record at one position of an epoch.
    fn at(&self, epoch: u64, position: u64) -> usize {
        let record = match self.arrangement {
            Arrangement::Sequential => position,
            Arrangement::Shuffled => {
                let place = mix_all(&[self.seed, EPOCHS, epoch]);
                let place = shuffled(position, self.records, place);
                shuffled(
                    place,
                    self.records,
                    mix_all(&[self.seed, RECORDS, 0, epoch]),
                )
            }
        };
        record as usize
    }
}

/// Keeps the shuffle of an epoch apart from that of its records.
const EPOCHS: u64 = 1;
const RECORDS: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn order(arrangement: Arrangement, batch_size: usize, records: usize) -> Order {
        Order::new(records, batch_size, arrangement, 7).unwrap()
    }

    const ALL: [Arrangement; 2] = [Arrangement::Shuffled, Arrangement::Sequential];

    #[test]
    fn the_steps_of_an_epoch_are_the_epoch() {
        for arrangement in ALL {
            let order = order(arrangement, 12, 61);
            assert_eq!(order.steps(), 6);
            for epoch in 0..3 {
                let whole: Vec<usize> = order.epoch(epoch).collect();
                let steps: Vec<Vec<usize>> = (0..order.steps())
                    .map(|step| order.step(epoch, step).unwrap())
                    .collect();
                assert_eq!(steps.concat(), whole);
                assert_eq!(steps[5].len(), 1);
            }
        }
    }

    #[test]
    fn an_epoch_sees_every_record_once() {
        for arrangement in ALL {
            let order = order(arrangement, 8, 83);
            for epoch in 0..3 {
                let mut records: Vec<usize> = order.epoch(epoch).collect();
                records.sort_unstable();
                assert!(records.into_iter().eq(0..83));
            }
        }
    }

    #[test]
    fn epochs_and_seeds_differ_when_shuffled() {
        let first = order(Arrangement::Shuffled, 8, 500);
        let second = Order::new(500, 8, Arrangement::Shuffled, 8).unwrap();
        let same = |a: Vec<usize>, b: Vec<usize>| a.iter().zip(&b).filter(|(a, b)| a == b).count();
        assert!(same(first.epoch(0).collect(), first.epoch(1).collect()) < 10);
        assert!(same(first.epoch(0).collect(), second.epoch(0).collect()) < 10);
        let plain = order(Arrangement::Sequential, 8, 500);
        assert!(plain.epoch(0).eq(plain.epoch(1)) && plain.epoch(0).eq(0..500));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (records, batch_size, wrong) in [(1, 0, "batch_size"), (0, 1, "records")] {
            let error = Order::new(records, batch_size, Arrangement::Shuffled, 0).unwrap_err();
            assert!(
                matches!(error, DataError::Order { field, .. } if field == wrong),
                "{error}"
            );
        }
        let order = order(Arrangement::Shuffled, 4, 10);
        assert!(order.step(0, 2).is_ok() && order.step(0, 3).is_err());
    }
}
