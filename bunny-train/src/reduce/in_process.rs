//! Ranks that are threads of one process.

use std::sync::Arc;

use burn::tensor::{Tensor, backend::Backend};
use rayon::prelude::*;

use super::{Reduce, rendezvous::Rendezvous, sum_through_memory};
use crate::error::ReduceError;

/// A rank among threads of one process. Where all have one device, each adds up the tensors of all of
/// them there, and nothing is copied; else tensors go through main memory.
///
/// Dropping it aborts the others, so that a thread that panics or returns early leaves nobody
/// waiting; after the last sum there is nobody left to mind.
#[derive(Debug)]
pub struct InProcess<B: Backend> {
    meeting: Rendezvous<Brought<B>>,
    /// All ranks have the same one.
    one_device: bool,
}

/// What a rank brings to a sum.
#[derive(Debug, Default)]
pub(super) struct Brought<B: Backend> {
    /// On the device.
    pub tensors: Vec<Tensor<B, 1>>,
    /// In main memory.
    pub floats: Vec<f32>,
    /// A few.
    pub numbers: Vec<f64>,
}

impl<B: Backend> Brought<B> {
    /// How long its parts are: ranks have to agree on it.
    fn lengths(&self) -> impl Iterator<Item = usize> {
        let tensors = self.tensors.iter().map(|tensor| tensor.dims()[0]);
        tensors.chain([self.floats.len(), self.numbers.len()])
    }
}

impl<B: Backend> InProcess<B> {
    /// Ranks that are connected with each other, one for each of `devices`.
    pub fn group(devices: &[B::Device]) -> Vec<Self> {
        let one_device = devices.iter().all(|device| *device == devices[0]);
        let meetings = Rendezvous::group(devices.len()).into_iter();
        meetings
            .map(|meeting| Self {
                meeting,
                one_device,
            })
            .collect()
    }

    /// What all ranks have brought, which is equally long.
    pub(super) fn exchange(&self, own: Brought<B>) -> Result<Arc<Vec<Brought<B>>>, ReduceError> {
        let all = self.meeting.exchange(own)?;
        let own = &all[self.meeting.rank()];
        match all.iter().find(|other| !other.lengths().eq(own.lengths())) {
            None => Ok(all),
            Some(other) => Err(ReduceError::Length {
                ours: own.lengths().sum(),
                theirs: other.lengths().sum(),
            }),
        }
    }

    /// Whether a rank has stopped.
    #[cfg(feature = "cuda")]
    pub(super) fn is_aborted(&self) -> bool {
        self.meeting.is_aborted()
    }
}

/// The sum of what all ranks have brought of `numbers`.
pub(super) fn add_up<B: Backend>(all: &[Brought<B>], numbers: &mut [f64]) {
    for (at, number) in numbers.iter_mut().enumerate() {
        *number = all.iter().map(|brought| brought.numbers[at]).sum();
    }
}

impl<B: Backend> Reduce<B> for InProcess<B> {
    fn world(&self) -> usize {
        self.meeting.world()
    }

    fn rank(&self) -> usize {
        self.meeting.rank()
    }

    fn sum_in_memory(&self, floats: &mut Vec<f32>, numbers: &mut [f64]) -> Result<(), ReduceError> {
        /// Numbers that one thread adds up at a time.
        const CHUNK: usize = 1 << 16;

        let own = Brought {
            tensors: Vec::new(),
            floats: std::mem::take(floats),
            numbers: numbers.to_vec(),
        };
        let all = self.exchange(own)?;
        add_up(&all, numbers);
        floats.resize(all[0].floats.len(), 0.0);
        let chunks = floats.par_chunks_mut(CHUNK).enumerate();
        chunks.for_each(|(at, sum)| {
            let from = at * CHUNK;
            for (rank, brought) in all.iter().enumerate() {
                let theirs = &brought.floats[from..from + sum.len()];
                match rank {
                    0 => sum.copy_from_slice(theirs),
                    _ => sum
                        .iter_mut()
                        .zip(theirs)
                        .for_each(|(sum, own)| *sum += own),
                }
            }
        });
        Ok(())
    }

    fn sum(&self, tensors: &mut [Tensor<B, 1>], numbers: &mut [f64]) -> Result<(), ReduceError> {
        if !self.one_device {
            return sum_through_memory(self, tensors, numbers);
        }
        let all = self.exchange(Brought {
            tensors: tensors.to_vec(),
            floats: Vec::new(),
            numbers: numbers.to_vec(),
        })?;
        add_up(&all, numbers);
        for (at, tensor) in tensors.iter_mut().enumerate() {
            let of_ranks = all.iter().map(|brought| brought.tensors[at].clone());
            // In their order, the sum being the same on every rank.
            if let Some(sum) = of_ranks.reduce(|sum, own| sum + own) {
                *tensor = sum;
            }
        }
        Ok(())
    }

    fn abort(&self) {
        self.meeting.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use burn_flex::Flex;

    use super::*;

    #[test]
    fn every_rank_gets_the_sum_in_rank_order_round_after_round() {
        // In f32 the order shows: only (1e8 + 1) - 1e8 and its like lose the ones.
        let brings = [1e8f32, 1.0, -1e8, 1.0];
        let in_order = brings.iter().fold(0f32, |sum, value| sum + value);
        thread::scope(|scope| {
            for rank in InProcess::<Flex>::group(&[Default::default(); 4]) {
                scope.spawn(move || {
                    for round in 0..200 {
                        let mut bucket = vec![brings[rank.rank()], round as f32];
                        rank.sum_in_memory(&mut bucket, &mut []).unwrap();
                        assert_eq!(bucket, [in_order, 4.0 * round as f32]);
                    }
                    // Nobody may leave while others still take the last sum home.
                    let mut end = vec![0.0];
                    rank.sum_in_memory(&mut end, &mut []).unwrap();
                });
            }
        });
    }

    #[test]
    fn buckets_of_different_lengths_stop_all_ranks() {
        let ranks = InProcess::<Flex>::group(&[Default::default(); 2]);
        thread::scope(|scope| {
            let short = scope.spawn(|| ranks[0].sum_in_memory(&mut vec![1.0], &mut []));
            let long = scope.spawn(|| ranks[1].sum_in_memory(&mut vec![1.0, 2.0], &mut []));
            let ends = [short.join().unwrap(), long.join().unwrap()];
            assert!(ends.iter().all(Result::is_err), "{ends:?}");
        });
    }
}
