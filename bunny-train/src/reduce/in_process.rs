//! Ranks that are threads of one process: buckets go through main memory.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{Reduce, ReduceError};

/// A rank among threads of one process.
///
/// Dropping it aborts the others, so that a thread that panics or returns early leaves nobody
/// waiting; after the last sum there is nobody left to mind.
#[derive(Debug)]
pub struct InProcess {
    shared: Arc<Shared>,
    rank: usize,
}

#[derive(Debug)]
struct Shared {
    round: Mutex<Round>,
    changed: Condvar,
}

#[derive(Debug)]
struct Round {
    /// What each rank has brought to this round.
    brought: Vec<Option<Vec<f32>>>,
    /// The sum, while ranks are taking it home, and how many have yet to.
    sum: Option<(Arc<Vec<f32>>, usize)>,
    aborted: bool,
}

impl InProcess {
    /// Ranks that are connected with each other.
    pub fn group(world: usize) -> Vec<Self> {
        let shared = Arc::new(Shared {
            round: Mutex::new(Round {
                brought: vec![None; world],
                sum: None,
                aborted: false,
            }),
            changed: Condvar::new(),
        });
        (0..world)
            .map(|rank| Self {
                shared: shared.clone(),
                rank,
            })
            .collect()
    }

    /// Whether a rank has stopped.
    #[cfg(feature = "cuda")]
    pub(super) fn is_aborted(&self) -> bool {
        self.lock().aborted
    }

    fn lock(&self) -> MutexGuard<'_, Round> {
        // No code that can panic runs under the lock, and every state in between is whole.
        self.shared
            .round
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `ready`, or until a rank has stopped.
    fn wait(&self, ready: impl Fn(&Round) -> bool) -> Result<MutexGuard<'_, Round>, ReduceError> {
        let wait = |round| {
            self.shared
                .changed
                .wait(round)
                .unwrap_or_else(PoisonError::into_inner)
        };
        let mut round = self.lock();
        while !ready(&round) {
            if round.aborted {
                return Err(ReduceError::Aborted);
            }
            round = wait(round);
        }
        Ok(round)
    }
}

impl Reduce for InProcess {
    fn world(&self) -> usize {
        self.lock().brought.len()
    }

    fn rank(&self) -> usize {
        self.rank
    }

    fn sum(&self, bucket: &mut Vec<f32>) -> Result<(), ReduceError> {
        // The sum of the round before may not have been taken home by all.
        let mut round = self.wait(|round| round.sum.is_none())?;
        let others = round.brought.iter().flatten().map(Vec::len);
        if let Some(theirs) = others.into_iter().find(|len| *len != bucket.len()) {
            let ours = bucket.len();
            round.aborted = true;
            self.shared.changed.notify_all();
            return Err(ReduceError::Length { ours, theirs });
        }
        round.brought[self.rank] = Some(std::mem::take(bucket));
        if round.brought.iter().all(Option::is_some) {
            let world = round.brought.len();
            let mut buckets = round.brought.iter_mut().filter_map(Option::take);
            let mut sum = buckets.next().unwrap_or_default();
            for other in buckets {
                sum.iter_mut()
                    .zip(other)
                    .for_each(|(sum, other)| *sum += other);
            }
            round.sum = Some((Arc::new(sum), world));
            self.shared.changed.notify_all();
        }
        drop(round);
        let mut round = self.wait(|round| round.sum.is_some())?;
        if let Some((sum, left)) = round.sum.take() {
            *bucket = sum.to_vec();
            match left {
                1 => self.shared.changed.notify_all(),
                _ => round.sum = Some((sum, left - 1)),
            }
        }
        Ok(())
    }

    fn abort(&self) {
        self.lock().aborted = true;
        self.shared.changed.notify_all();
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rank_gets_the_sum_in_rank_order_round_after_round() {
        // In f32 the order shows: only (1e8 + 1) - 1e8 and its like lose the ones.
        let brings = [1e8f32, 1.0, -1e8, 1.0];
        let in_order = brings.iter().fold(0f32, |sum, value| sum + value);
        std::thread::scope(|scope| {
            for rank in InProcess::group(4) {
                scope.spawn(move || {
                    for round in 0..200 {
                        let mut bucket = vec![brings[rank.rank()], round as f32];
                        rank.sum(&mut bucket).unwrap();
                        assert_eq!(bucket, [in_order, 4.0 * round as f32]);
                    }
                    // Nobody may leave while others still take the last sum home.
                    let mut end = vec![0.0];
                    rank.sum(&mut end).unwrap();
                });
            }
        });
    }

    #[test]
    fn no_rank_waits_for_a_dead_one() {
        let mut ranks = InProcess::group(3);
        let dead = ranks.pop();
        std::thread::scope(|scope| {
            let waiting: Vec<_> = ranks
                .iter()
                .map(|rank| scope.spawn(|| rank.sum(&mut vec![1.0])))
                .collect();
            drop(dead);
            for rank in waiting {
                assert_eq!(rank.join().unwrap(), Err(ReduceError::Aborted));
            }
        });
    }

    #[test]
    fn buckets_of_different_lengths_stop_all_ranks() {
        let ranks = InProcess::group(2);
        std::thread::scope(|scope| {
            let short = scope.spawn(|| ranks[0].sum(&mut vec![1.0]));
            let long = scope.spawn(|| ranks[1].sum(&mut vec![1.0, 2.0]));
            let ends = [short.join().unwrap(), long.join().unwrap()];
            assert!(ends.iter().all(Result::is_err), "{ends:?}");
        });
    }
}
