//! Which records a step sees: a pure function of (seed, epoch, step, world size, rank).
//!
//! Nothing is kept between steps, so a run resumes exactly, and on another number of workers: the
//! batch of a step is the same whatever the world size, and the ranks' parts, laid end to end in
//! rank order, are that batch.
//!
//! ```text
//! position in the epoch ── shuffle ──► slot ── share of a source ──► its nth draw ── its own shuffle ──► record
//! ```
//!
//! A source of weight `w` gives `round(w · records)` records an epoch. Its draws run on over the
//! epochs through one shuffle of the source after another, so a weight of 0.5 shows every record
//! once in two epochs, and no record is ever shown twice more often than another.

mod interleave;
mod shuffle;

use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};
use crate::hash::mix_all;

use interleave::interleaved;
pub(crate) use shuffle::shuffled;

/// How an [`Order`] is to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderConfig {
    /// The seed of every shuffle.
    pub seed: u64,
    /// Records in one step over all workers. The last batch of an epoch may be smaller.
    pub batch_size: usize,
    /// How the sources follow each other.
    #[serde(default)]
    pub arrangement: Arrangement,
    /// What is drawn from.
    pub sources: Vec<Share>,
}

/// One source of records.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// How many records it has.
    pub records: usize,
    /// How often each is seen in an epoch, on average: 1 is once, 0.5 is half of them, 0 is none.
    #[serde(default = "once")]
    pub weight: f64,
}

fn once() -> f64 {
    1.0
}

impl Share {
    /// A source whose every record is seen once in an epoch.
    pub fn once(records: usize) -> Self {
        Self {
            records,
            weight: once(),
        }
    }

    /// How many records an epoch draws from it.
    pub fn draws(&self) -> u64 {
        (self.records as f64 * self.weight).round() as u64
    }
}

/// How the sources of an order follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrangement {
    /// All sources shuffled together, anew in each epoch.
    #[default]
    Shuffled,
    /// Each source in its own order, spread evenly among the others.
    Interleaved,
    /// One source after another, each in its own order.
    Sequential,
}

/// One record of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pick {
    /// Which source, from 0.
    pub source: usize,
    /// Which of its records, from 0.
    pub record: usize,
}

/// Which records each step sees.
///
/// ```
/// use bunny_data::order::{Arrangement, Order, OrderConfig, Share};
///
/// let order = Order::new(OrderConfig {
///     seed: 42,
///     batch_size: 128,
///     arrangement: Arrangement::Shuffled,
///     sources: vec![Share::once(624_610), Share { records: 70_000, weight: 0.5 }],
/// })?;
/// assert_eq!(order.steps(), 5154); // ceil((624,610 + 35,000) / 128)
///
/// // Two workers or one: the same batch.
/// let mut batch = order.step(0, 17, 2, 0)?;
/// batch.extend(order.step(0, 17, 2, 1)?);
/// assert_eq!(batch, order.step(0, 17, 1, 0)?);
/// # Ok::<(), bunny_data::DataError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    config: OrderConfig,
    /// Where each source's slots end; the last is the length of an epoch.
    ends: Vec<u64>,
}

impl Order {
    /// The order that `config` describes.
    ///
    /// # Errors
    /// [`DataError::Order`] when the batch is empty, a weight is negative or not a number, or no
    /// record would be drawn.
    pub fn new(config: OrderConfig) -> Result<Self> {
        let wrong = |field, what| Err(DataError::Order { field, what });
        if config.batch_size == 0 {
            return wrong("batch_size", "has to be at least 1");
        }
        // Up to 2^40 draws an epoch keep every product below in range, and f64 exact.
        let mut ends = Vec::with_capacity(config.sources.len());
        let mut end = 0_u64;
        for share in &config.sources {
            if !(share.weight >= 0.0 && share.records as f64 * share.weight < (1_u64 << 40) as f64)
            {
                return wrong(
                    "weight",
                    "has to be a number from 0 up, with below 2^40 draws an epoch",
                );
            }
            end += share.draws();
            ends.push(end);
        }
        if end == 0 {
            return wrong(
                "sources",
                "give no record: every one is empty or has weight 0",
            );
        }
        Ok(Self { config, ends })
    }

    /// What the order was made from; equal configurations give equal orders.
    pub fn config(&self) -> &OrderConfig {
        &self.config
    }

    /// Records in an epoch.
    pub fn epoch_len(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Steps in an epoch, a smaller last one included.
    pub fn steps(&self) -> u64 {
        self.epoch_len().div_ceil(self.config.batch_size as u64)
    }

    /// What worker `rank` of `world` sees in a step: its part of the batch, in order. The parts
    /// differ by at most one record; a part of the last, smaller batch may be empty.
    ///
    /// # Errors
    /// [`DataError::Order`] when the epoch has no such step or the world no such rank.
    pub fn step(&self, epoch: u64, step: u64, world: usize, rank: usize) -> Result<Vec<Pick>> {
        if step >= self.steps() {
            return Err(DataError::Order {
                field: "step",
                what: "lies beyond the end of the epoch",
            });
        }
        if rank >= world {
            return Err(DataError::Order {
                field: "rank",
                what: "has to be below the world size",
            });
        }
        let batch = self.config.batch_size as u64;
        let start = step * batch;
        let len = u128::from(batch.min(self.epoch_len() - start));
        let part = |rank: usize| start + (len * rank as u128 / world as u128) as u64;
        Ok((part(rank)..part(rank + 1))
            .map(|position| self.at(epoch, position))
            .collect())
    }

    /// All picks of an epoch, in order.
    pub fn epoch(&self, epoch: u64) -> impl Iterator<Item = Pick> {
        (0..self.epoch_len()).map(move |position| self.at(epoch, position))
    }

    /// The record at one position of an epoch.
    fn at(&self, epoch: u64, position: u64) -> Pick {
        let (source, nth) = match self.config.arrangement {
            Arrangement::Shuffled => {
                let keys = mix_all(&[self.config.seed, EPOCHS, epoch]);
                self.slot(shuffled(position, self.epoch_len(), keys))
            }
            Arrangement::Sequential => self.slot(position),
            Arrangement::Interleaved => interleaved(&self.ends, position),
        };
        let share = &self.config.sources[source];
        let draw = u128::from(epoch) * u128::from(share.draws()) + u128::from(nth);
        let records = share.records as u64;
        let round = (draw / u128::from(records)) as u64;
        let within = (draw % u128::from(records)) as u64;
        let record = match self.config.arrangement {
            Arrangement::Shuffled => {
                let key = mix_all(&[self.config.seed, SOURCES, source as u64, round]);
                shuffled(within, records, key)
            }
            _ => within,
        };
        Pick {
            source,
            record: record as usize,
        }
    }

    /// The source a slot belongs to, and which of the source's slots it is.
    fn slot(&self, slot: u64) -> (usize, u64) {
        let source = self.ends.partition_point(|end| *end <= slot);
        (source, slot - self.start(source))
    }

    fn start(&self, source: usize) -> u64 {
        source.checked_sub(1).map_or(0, |before| self.ends[before])
    }
}

/// Keeps the shuffle of an epoch apart from those of the sources.
const EPOCHS: u64 = 1;
const SOURCES: u64 = 2;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn order(arrangement: Arrangement, batch_size: usize, sources: &[(usize, f64)]) -> Order {
        let sources = sources
            .iter()
            .map(|&(records, weight)| Share { records, weight })
            .collect();
        Order::new(OrderConfig {
            seed: 7,
            batch_size,
            arrangement,
            sources,
        })
        .unwrap()
    }

    const ALL: [Arrangement; 3] = [
        Arrangement::Shuffled,
        Arrangement::Interleaved,
        Arrangement::Sequential,
    ];

    #[test]
    fn the_ranks_of_any_world_share_one_batch() {
        for arrangement in ALL {
            let order = order(arrangement, 12, &[(40, 1.0), (9, 2.0), (10, 0.3)]);
            assert_eq!(order.epoch_len(), 61);
            assert_eq!(order.steps(), 6);
            for epoch in 0..3 {
                let whole: Vec<Pick> = order.epoch(epoch).collect();
                for world in [1, 2, 3, 5, 12, 16] {
                    let parts: Vec<Pick> = (0..order.steps())
                        .flat_map(|step| (0..world).map(move |rank| (step, rank)))
                        .flat_map(|(step, rank)| order.step(epoch, step, world, rank).unwrap())
                        .collect();
                    assert_eq!(parts, whole, "world of {world}");
                }
            }
        }
    }

    #[test]
    fn an_epoch_of_weight_one_sees_every_record_once() {
        for arrangement in ALL {
            let order = order(arrangement, 8, &[(33, 1.0), (0, 1.0), (50, 1.0)]);
            for epoch in 0..3 {
                let mut picks: Vec<_> = order
                    .epoch(epoch)
                    .map(|pick| (pick.source, pick.record))
                    .collect();
                picks.sort_unstable();
                let expected: Vec<_> = (0..33)
                    .map(|i| (0, i))
                    .chain((0..50).map(|i| (2, i)))
                    .collect();
                assert_eq!(picks, expected);
            }
        }
    }

    #[test]
    fn weights_hold_in_each_epoch_and_even_out_over_them() {
        for arrangement in ALL {
            let order = order(arrangement, 8, &[(20, 1.0), (10, 0.25), (4, 2.5), (6, 0.0)]);
            let mut seen: HashMap<Pick, usize> = HashMap::new();
            for epoch in 0..10 {
                let mut by_source = [0; 4];
                for pick in order.epoch(epoch) {
                    by_source[pick.source] += 1;
                    *seen.entry(pick).or_default() += 1;
                }
                assert_eq!(by_source, [20, 3, 10, 0]);
            }
            let times = |source| {
                seen.iter()
                    .filter(|(pick, _)| pick.source == source)
                    .map(|(_, n)| *n)
                    .collect::<Vec<_>>()
            };
            assert_eq!(times(1), [3; 10], "30 draws over 10 records");
            assert_eq!(times(2), [25; 4]);
        }
    }

    #[test]
    fn epochs_and_seeds_differ_when_shuffled() {
        let first = order(Arrangement::Shuffled, 8, &[(500, 1.0)]);
        let second = Order::new(OrderConfig {
            seed: 8,
            ..first.config().clone()
        })
        .unwrap();
        let same = |a: Vec<Pick>, b: Vec<Pick>| a.iter().zip(&b).filter(|(a, b)| a == b).count();
        assert!(same(first.epoch(0).collect(), first.epoch(1).collect()) < 10);
        assert!(same(first.epoch(0).collect(), second.epoch(0).collect()) < 10);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let config = |batch_size, records, weight| OrderConfig {
            seed: 0,
            batch_size,
            arrangement: Arrangement::Shuffled,
            sources: vec![Share { records, weight }],
        };
        for (config, wrong) in [
            (config(0, 1, 1.0), "batch_size"),
            (config(1, 1, -1.0), "weight"),
            (config(1, 1, f64::NAN), "weight"),
            (config(1, 1, f64::INFINITY), "weight"),
            (config(1, 0, 1.0), "sources"),
        ] {
            let error = Order::new(config).unwrap_err();
            assert!(
                matches!(error, DataError::Order { field, .. } if field == wrong),
                "{error}"
            );
        }
        let order = order(Arrangement::Shuffled, 4, &[(10, 1.0)]);
        assert!(order.step(0, 3, 1, 0).is_err());
        assert!(order.step(0, 0, 2, 2).is_err());
    }
}
