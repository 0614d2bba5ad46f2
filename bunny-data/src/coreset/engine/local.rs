//! All parts on the threads of this machine.

use std::num::NonZeroUsize;

use super::{AnyTask, Engine, Take};
use crate::coreset::worker::Worker;
use crate::error::{DataError, Result};
use crate::store::Store;

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
    /// An engine of so many threads, or of four for each core where that is less: more only wait for
    /// each other. `None` takes one for each core.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn new(threads: Option<NonZeroUsize>, worker: Worker<'a>) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(64, NonZeroUsize::get);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.map_or(0, |threads| threads.get().min(4 * cores)))
            .build()
            .map_err(|error| DataError::option("--threads", error.into()))?;
        Ok(Self { pool, worker })
    }

    /// Runs any work on these threads.
    pub fn run<R: Send>(&self, work: impl FnOnce(&Worker<'_>) -> R + Send) -> R {
        self.pool.install(|| work(&self.worker))
    }
}

impl Engine for Local<'_> {
    fn map(&self, task: &AnyTask, store: &dyn Store, take: Take<'_>) -> Result<()> {
        self.run(|worker| {
            (0..task.parts()).try_for_each(|part| take(task.run(part, worker, store)?))
        })
    }

    fn drive(&self, work: &mut (dyn FnMut(&Worker<'_>) + Send)) {
        self.run(|worker| work(worker));
    }

    fn is_alone(&self) -> bool {
        true
    }
}
