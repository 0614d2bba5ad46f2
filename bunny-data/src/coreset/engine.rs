//! Where the stages of a selection run.
//!
//! A stage is a task that is mapped over parts of the input or over buckets of clusters, and whose
//! small results are merged in order. A task is plain data that can be sent to another machine:
//! everything large in it is a path. [`Local`] runs the parts one after the other, each on all
//! threads of this machine, so that memory is bounded by one part at work.

pub(crate) mod resumable;

use std::num::NonZeroUsize;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::worker::Worker;
use crate::error::{DataError, Result};

/// Work on one part that depends on the task and the part alone.
pub trait Task: Serialize + DeserializeOwned + Sync {
    /// What the task is called in progress reports.
    const NAME: &'static str;

    /// What is handed back; large results go to files.
    type Output: Serialize + DeserializeOwned + Send;

    /// Does the work of one part, on the threads of the pool it is called in.
    ///
    /// # Errors
    /// Those of the stage.
    fn run(&self, part: usize, worker: &Worker<'_>) -> Result<Self::Output>;
}

/// Maps tasks over parts and merges what they hand back.
pub trait Engine {
    /// Runs a task over parts of the input files; results stand in the order of the parts.
    ///
    /// # Errors
    /// The first failure, in the order of the parts as far as they ran.
    fn map_files<T: Task>(&self, task: &T, parts: usize) -> Result<Vec<T::Output>>;

    /// Runs a task over buckets of clusters; results stand in the order of the buckets.
    ///
    /// # Errors
    /// The first failure, in the order of the buckets as far as they ran.
    fn map_buckets<T: Task>(&self, task: &T, buckets: usize) -> Result<Vec<T::Output>>;

    /// Joins results in their order; `None` for no results.
    fn merge<T>(&self, results: Vec<T>, join: impl Fn(&mut T, T)) -> Option<T> {
        let mut results = results.into_iter();
        let mut merged = results.next()?;
        for result in results {
            join(&mut merged, result);
        }
        Some(merged)
    }

    /// Runs work of the driver itself, such as training on a sample, where the engine computes.
    fn drive<R: Send>(&self, work: impl FnOnce(&Worker<'_>) -> R + Send) -> R;
}

/// Runs everything on the threads of this machine.
pub struct Local<'a> {
    pool: rayon::ThreadPool,
    worker: Worker<'a>,
}

impl std::fmt::Debug for Local<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local")
            .field("threads", &self.pool.current_num_threads())
            .field("worker", &self.worker)
            .finish()
    }
}

impl<'a> Local<'a> {
    /// An engine of so many threads; `None` takes one for each core.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn new(threads: Option<NonZeroUsize>, worker: Worker<'a>) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.map_or(0, NonZeroUsize::get))
            .build()
            .map_err(|error| DataError::option("--threads", error.into()))?;
        Ok(Self { pool, worker })
    }

    fn map<T: Task>(&self, task: &T, parts: usize) -> Result<Vec<T::Output>> {
        self.pool.install(|| {
            (0..parts)
                .map(|part| task.run(part, &self.worker))
                .collect()
        })
    }
}

impl Engine for Local<'_> {
    fn map_files<T: Task>(&self, task: &T, parts: usize) -> Result<Vec<T::Output>> {
        self.map(task, parts)
    }

    fn map_buckets<T: Task>(&self, task: &T, buckets: usize) -> Result<Vec<T::Output>> {
        self.map(task, buckets)
    }

    fn drive<R: Send>(&self, work: impl FnOnce(&Worker<'_>) -> R + Send) -> R {
        self.pool.install(|| work(&self.worker))
    }
}
