//! Where the threads of a process meet and show each other what they have brought.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::ReduceError;

/// A rank's place in the meetings of all ranks.
///
/// Dropping it aborts the others, so that a thread that panics or returns early leaves nobody
/// waiting; after the last meeting there is nobody left to mind.
#[derive(Debug)]
pub(super) struct Rendezvous<T> {
    shared: Arc<Shared<T>>,
    rank: usize,
}

#[derive(Debug)]
struct Shared<T> {
    round: Mutex<Round<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Round<T> {
    /// What each rank has brought to this round.
    brought: Vec<Option<T>>,
    /// All of it, while ranks are taking it home, and how many have yet to.
    all: Option<(Arc<Vec<T>>, usize)>,
    aborted: bool,
}

impl<T> Rendezvous<T> {
    /// Places for `world` ranks.
    pub fn group(world: usize) -> Vec<Self> {
        let shared = Arc::new(Shared {
            round: Mutex::new(Round {
                brought: (0..world).map(|_| None).collect(),
                all: None,
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

    /// How many ranks there are.
    pub fn world(&self) -> usize {
        self.lock().brought.len()
    }

    /// Which one this is.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// What all ranks have brought, in their order; waits for all of them.
    ///
    /// # Errors
    /// When a rank has stopped.
    pub fn exchange(&self, own: T) -> Result<Arc<Vec<T>>, ReduceError> {
        // What was brought to the round before may not have been taken home by all.
        let mut round = self.wait(|round| round.all.is_none())?;
        round.brought[self.rank] = Some(own);
        if round.brought.iter().all(Option::is_some) {
            let all: Vec<T> = round.brought.iter_mut().filter_map(Option::take).collect();
            let world = all.len();
            round.all = Some((Arc::new(all), world));
            self.shared.changed.notify_all();
        }
        drop(round);
        let mut round = self.wait(|round| round.all.is_some())?;
        let (all, left) = round.all.take().ok_or(ReduceError::Aborted)?;
        match left {
            1 => self.shared.changed.notify_all(),
            _ => round.all = Some((all.clone(), left - 1)),
        }
        Ok(all)
    }

    /// Lets nobody wait any more, now or later.
    pub fn abort(&self) {
        self.lock().aborted = true;
        self.shared.changed.notify_all();
    }

    /// Whether a rank has stopped.
    #[cfg(feature = "cuda")]
    pub fn is_aborted(&self) -> bool {
        self.lock().aborted
    }

    fn lock(&self) -> MutexGuard<'_, Round<T>> {
        // No code that can panic runs under the lock, and every state in between is whole.
        let round = self.shared.round.lock();
        round.unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `ready`, or until a rank has stopped.
    fn wait(
        &self,
        ready: impl Fn(&Round<T>) -> bool,
    ) -> Result<MutexGuard<'_, Round<T>>, ReduceError> {
        let mut round = self.lock();
        while !ready(&round) {
            if round.aborted {
                return Err(ReduceError::Aborted);
            }
            let woken = self.shared.changed.wait(round);
            round = woken.unwrap_or_else(PoisonError::into_inner);
        }
        Ok(round)
    }
}

impl<T> Drop for Rendezvous<T> {
    fn drop(&mut self) {
        self.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn every_rank_gets_what_all_have_brought_round_after_round() {
        thread::scope(|scope| {
            for rank in Rendezvous::group(4) {
                scope.spawn(move || {
                    for round in 0..200 {
                        let all = rank.exchange(10 * round + rank.rank()).unwrap();
                        let expected: Vec<_> = (0..4).map(|rank| 10 * round + rank).collect();
                        assert_eq!(*all, expected);
                    }
                });
            }
        });
    }

    #[test]
    fn no_rank_waits_for_a_dead_one() {
        let mut ranks = Rendezvous::group(3);
        let dead = ranks.pop();
        thread::scope(|scope| {
            let waiting: Vec<_> = ranks
                .iter()
                .map(|rank| scope.spawn(|| rank.exchange(1.0)))
                .collect();
            drop(dead);
            for rank in waiting {
                assert_eq!(rank.join().unwrap(), Err(ReduceError::Aborted));
            }
        });
    }
}
