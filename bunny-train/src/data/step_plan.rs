//! Which records each step and each micro-batch of a run holds.

use std::sync::{Arc, Mutex, PoisonError};

use bunny_data::{
    order::{Arrangement, Order, OrderConfig, Share},
    record::RecordFile,
};

use super::BatchPlan;
use crate::{draw::mix, error::TrainError, recipe::TrainingArguments};

/// The steps of a run: a pure function of the recipe, the records and the number of ranks.
#[derive(Debug, Clone)]
pub struct StepPlan {
    order: Arc<RecordOrder>,
    micro_batch: usize,
    /// Micro-batches of a full step on one rank.
    accumulation: usize,
    world: usize,
    rank: usize,
    /// Steps of one epoch.
    per_epoch: u64,
    total: u64,
}

#[derive(Debug)]
enum RecordOrder {
    /// As the data crate orders them.
    Plain(Order),
    /// Records of one modality and similar length side by side.
    Grouped(Grouped),
}

impl StepPlan {
    /// The steps that a stage takes over `records` records, as rank `rank` of `world` sees them.
    ///
    /// # Errors
    /// When there are no records.
    pub fn new(
        training: &TrainingArguments,
        records: usize,
        world: usize,
        rank: usize,
    ) -> Result<Self, TrainError> {
        let order = RecordOrder::Plain(Order::new(OrderConfig {
            seed: training.seed,
            batch_size: training.step_records() * world,
            arrangement: match training.shuffle {
                true => Arrangement::Shuffled,
                false => Arrangement::Sequential,
            },
            sources: vec![Share::once(records)],
        })?);
        Ok(Self::along(order, training, records, world, rank))
    }

    /// As [`StepPlan::new`], with records of one modality and similar length side by side.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn grouped(
        training: &TrainingArguments,
        records: &RecordFile,
        world: usize,
        rank: usize,
    ) -> Result<Self, TrainError> {
        let batch = training.step_records() * world;
        let order = RecordOrder::Grouped(Grouped::new(training.seed, batch, records)?);
        Ok(Self::along(order, training, records.len(), world, rank))
    }

    fn along(
        order: RecordOrder,
        training: &TrainingArguments,
        records: usize,
        world: usize,
        rank: usize,
    ) -> Self {
        let per_epoch = records.div_ceil(training.step_records() * world) as u64;
        let wanted = (training.num_train_epochs * per_epoch as f64).ceil() as u64;
        Self {
            order: Arc::new(order),
            micro_batch: training.per_device_train_batch_size,
            accumulation: training.gradient_accumulation_steps,
            world,
            rank,
            per_epoch,
            total: training.max_steps.unwrap_or(wanted),
        }
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How many make an epoch.
    pub fn per_epoch(&self) -> u64 {
        self.per_epoch
    }

    /// Micro-batches of each step on this rank; some of the last step of an epoch may be empty.
    pub fn accumulation(&self) -> usize {
        self.accumulation
    }

    /// Which micro-batch of a step, counted over all ranks, is the `at`th of this one.
    ///
    /// Ranks take turns, there and back: where a step goes by length, none has all the long ones,
    /// for which the others would wait.
    ///
    /// ```text
    /// rank 0   0 3 4 7
    /// rank 1   1 2 5 6
    /// ```
    pub fn micro(&self, at: usize) -> u32 {
        let turn = match at.is_multiple_of(2) {
            true => self.rank,
            false => self.world - 1 - self.rank,
        };
        (at * self.world + turn) as u32
    }

    /// The records of a step over all ranks.
    pub fn step(&self, step: u64) -> Vec<usize> {
        let (epoch, within) = (step / self.per_epoch, step % self.per_epoch);
        match &*self.order {
            RecordOrder::Plain(order) => order
                .step(epoch, within, 1, 0)
                .map(|picks| picks.into_iter().map(|pick| pick.record).collect())
                .unwrap_or_default(),
            RecordOrder::Grouped(order) => order.step(epoch, within),
        }
    }

    /// How many ranks share a step.
    pub fn world(&self) -> usize {
        self.world
    }
}

impl BatchPlan for StepPlan {
    fn len(&self) -> usize {
        self.total as usize * self.accumulation
    }

    fn records(&self, batch: usize) -> Vec<usize> {
        let (step, at) = (batch / self.accumulation, batch % self.accumulation);
        let records = self.step(step as u64);
        let start = self.micro(at) as usize * self.micro_batch;
        let end = (start + self.micro_batch).min(records.len());
        records.get(start..end).unwrap_or_default().to_vec()
    }
}

/// Grouping by modality and length: as in the reference, a step's records are of one modality and
/// drawn at random, steps come in random order, and what is left of both modalities comes last.
/// Within a step they go by length, so that a micro-batch holds similar ones and pads little; the
/// reference gives micro-batches of mixed lengths instead, with sums near each other.
#[derive(Debug)]
struct Grouped {
    seed: u64,
    batch: usize,
    /// Words of each record.
    lengths: Vec<u32>,
    /// Whether it has a picture.
    pictured: Vec<bool>,
    /// The order of the epoch asked for last.
    latest: Mutex<Option<(u64, Arc<Vec<usize>>)>>,
}

impl Grouped {
    fn new(seed: u64, batch: usize, records: &RecordFile) -> Result<Self, TrainError> {
        let mut lengths = Vec::with_capacity(records.len());
        let mut pictured = Vec::with_capacity(records.len());
        for index in 0..records.len() {
            let record = records.get(index)?;
            lengths.push(record.words() as u32);
            pictured.push(record.image.is_some());
        }
        Ok(Self {
            seed,
            batch,
            lengths,
            pictured,
            latest: Mutex::default(),
        })
    }

    fn step(&self, epoch: u64, step: u64) -> Vec<usize> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let order = match &*latest {
            Some((at, order)) if *at == epoch => order.clone(),
            _ => latest
                .insert((epoch, Arc::new(self.epoch(epoch))))
                .1
                .clone(),
        };
        let start = step as usize * self.batch;
        let end = (start + self.batch).min(order.len());
        order.get(start..end).unwrap_or_default().to_vec()
    }

    fn epoch(&self, epoch: u64) -> Vec<usize> {
        let key = mix(self.seed ^ mix(epoch));
        let shuffle = |places: &mut [usize], key: u64| {
            places.sort_by_key(|place| mix(key ^ mix(*place as u64)));
        };
        let mut batches: Vec<Vec<usize>> = Vec::new();
        let mut rest = Vec::new();
        for with_picture in [true, false] {
            let records = 0..self.lengths.len();
            let mut records: Vec<usize> = records
                .filter(|at| self.pictured[*at] == with_picture)
                .collect();
            shuffle(&mut records, key);
            for batch in records.chunks(self.batch) {
                let mut batch = batch.to_vec();
                // Longest first: a batch too large for the memory shows itself at once.
                batch.sort_by_key(|at| std::cmp::Reverse(self.lengths[*at]));
                match batch.len() == self.batch {
                    true => batches.push(batch),
                    false => rest.extend(batch),
                }
            }
        }
        let mut places: Vec<usize> = (0..batches.len()).collect();
        shuffle(&mut places, mix(key));
        let full = places.into_iter().flat_map(|at| batches[at].clone());
        full.chain(rest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_micro_batch_is_one_ranks_and_none_has_all_the_long_ones() {
        for (world, accumulation) in [(1, 3), (2, 1), (2, 4), (3, 2), (4, 4)] {
            let training = TrainingArguments {
                per_device_train_batch_size: 2,
                gradient_accumulation_steps: accumulation,
                ..TrainingArguments::default()
            };
            let ranks = (0..world).map(|rank| StepPlan::new(&training, 100, world, rank).unwrap());
            let micros = ranks.map(|steps| (0..accumulation).map(|at| steps.micro(at)).collect());
            let micros: Vec<Vec<u32>> = micros.collect();
            let mut all = micros.concat();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..(world * accumulation) as u32));
            // Lengths that fall evenly through a step are the same sum for every rank.
            if accumulation % 2 == 0 {
                let sums: Vec<u32> = micros.iter().map(|micros| micros.iter().sum()).collect();
                assert!(sums.iter().all(|sum| *sum == sums[0]), "{micros:?}");
            }
        }
    }
}
