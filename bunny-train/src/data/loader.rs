//! Batches in the order of a plan, made on worker threads ahead of the step.

use std::{
    sync::{
        Arc,
        mpsc::{self, Receiver},
    },
    thread::Scope,
};

use super::Dataset;
use crate::error::TrainError;

/// Which records each batch of a run holds.
pub trait BatchPlan: Send + Sync + std::fmt::Debug {
    /// How many batches there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The records of one.
    fn records(&self, batch: usize) -> Vec<usize>;
}

/// Batches in order, made ahead of time.
#[derive(Debug)]
pub struct DataLoader<'a, D: Dataset> {
    batches: Batches<'a, D>,
    next: usize,
}

#[derive(Debug)]
enum Batches<'a, D: Dataset> {
    /// Made when asked for.
    Inline {
        dataset: &'a D,
        plan: Arc<dyn BatchPlan + 'a>,
    },
    /// Worker w makes batches w, w + workers, ...
    Workers(Vec<Receiver<Result<D::Batch, TrainError>>>),
}

/// Batches that each worker keeps ready.
const READY: usize = 2;

/// Batches that memory is taken for, with so many workers: of each what it keeps ready, the one that it is
/// making and the one in use, which is each worker's in turn. What a thread has taken is kept for it by the
/// system's allocator.
pub fn batches_at_once(workers: usize) -> usize {
    (workers * (READY + 2)).max(1)
}

impl<'a, D: Dataset> DataLoader<'a, D> {
    /// Loads the batches of `plan` from `first` on, made by `workers` threads; with none, each is
    /// made when it is asked for.
    pub fn new<'scope>(
        scope: &'scope Scope<'scope, 'a>,
        dataset: &'a D,
        plan: Arc<dyn BatchPlan + 'a>,
        first: usize,
        workers: usize,
    ) -> Self {
        if workers == 0 {
            return Self {
                batches: Batches::Inline { dataset, plan },
                next: first,
            };
        }
        let receivers = (0..workers).map(|worker| {
            let (sender, receiver) = mpsc::sync_channel(READY);
            let plan = plan.clone();
            scope.spawn(move || {
                for batch in (first + worker..plan.len()).step_by(workers) {
                    let made = dataset.batch(&plan.records(batch));
                    let failed = made.is_err();
                    // Nobody listens any more when the run has stopped.
                    if sender.send(made).is_err() || failed {
                        return;
                    }
                }
            });
            receiver
        });
        Self {
            batches: Batches::Workers(receivers.collect()),
            next: 0,
        }
    }

    /// The next batch.
    ///
    /// # Errors
    /// Those of making it.
    pub fn next_batch(&mut self) -> Result<D::Batch, TrainError> {
        let at = self.next;
        self.next += 1;
        match &self.batches {
            Batches::Inline { dataset, plan } => dataset.batch(&plan.records(at)),
            Batches::Workers(receivers) => receivers[at % receivers.len()]
                .recv()
                .map_err(|_| TrainError::Worker)?,
        }
    }
}
