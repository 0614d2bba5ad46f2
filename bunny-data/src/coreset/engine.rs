//! Where the stages of a selection run.
//!
//! A stage is a task that is mapped over parts of the input or over buckets of clusters, and whose
//! small results are merged in order. A task is plain data that can be sent to another machine:
//! everything large in it is a path. [`Local`] runs the parts one after the other, each on all
//! threads of this machine, so that memory is bounded by one part at work.

use std::num::NonZeroUsize;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::coreset::DiskUse;
use crate::coreset::assign::TileSize;
use crate::coreset::error::{CoresetError, Result};

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

/// What a task may use, and whom it tells how far it is. No result depends on it.
#[derive(Clone, Copy)]
pub struct Worker<'a> {
    /// Bytes of memory.
    pub memory: u64,
    /// Sizes of the tiles of matrix products.
    pub tile: TileSize,
    /// Who is told of rows done.
    pub progress: &'a dyn Progress,
}

impl std::fmt::Debug for Worker<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("memory", &self.memory)
            .field("tile", &self.tile)
            .finish_non_exhaustive()
    }
}

/// Who is told how far a stage is.
pub trait Progress: Sync {
    /// The work is about to begin, and its files will take so much of the disk.
    fn disk(&self, _disk: &DiskUse) {}

    /// A stage begins: its name, and the units it will count.
    fn begin(&self, stage: &str, total: u64);

    /// Units done since the last call.
    fn advance(&self, units: u64);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _stage: &str, _total: u64) {}

    fn advance(&self, _units: u64) {}
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
            .map_err(|error| CoresetError::option("--threads", error.to_string()))?;
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
