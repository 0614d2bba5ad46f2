//! Where the stages of a selection run.
//!
//! A stage is a task that is mapped over parts: of the input, or buckets of clusters. A task is
//! plain data ([`AnyTask`]) that names its files by the keys of a [`Store`]; where it runs, what it
//! leaves is the same bytes. An engine brings tasks to workers and their small results back, in the
//! order of the parts:
//! ```text
//! driver   task ── map ──► part 0, 1, 2 … on any worker ── small results, in order ──► merged
//!                            │ reads and writes large things by key
//! store                      ▼ embeddings/…   work/…
//! ```
//! [`Local`] runs the parts one after the other, each on all threads of this machine, so that memory
//! is bounded by one part at work. [`Launched`] leaves them to whatever launches programs.
//! `tests/coreset_engine.rs` has one that runs them in processes of their own.

mod launched;
mod local;
mod task;

use serde::de::DeserializeOwned;

pub use self::launched::{Launched, Wanted};
pub use self::local::Local;
pub use self::task::AnyTask;
use super::worker::Worker;
use crate::error::{DataError, Result, TaskFault};
use crate::store::Store;

/// What takes the results of a map, each as its JSON.
pub type Take<'a> = &'a mut (dyn FnMut(String) -> Result<()> + Send);

/// Runs the parts of tasks.
pub trait Engine: Sync {
    /// Runs [`AnyTask::run`] for every part of a task, and hands the results over in the order of
    /// the parts. `store` is the driver's; a worker elsewhere opens the same one by itself.
    ///
    /// A part may be run again, on the same worker or on another, also where it was run before.
    ///
    /// # Errors
    /// The first failure of a part or of `take`, in the order of the parts as far as they ran.
    fn map(&self, task: &AnyTask, store: &dyn Store, take: Take<'_>) -> Result<()>;

    /// Runs work of the driver itself, such as the sums of k-means, where the engine computes: once,
    /// before this returns.
    fn drive(&self, work: &mut (dyn FnMut(&Worker<'_>) + Send));

    /// Whether no part outlives the driver: what killed attempts have left is then removed before a
    /// stage goes on.
    fn is_alone(&self) -> bool {
        false
    }
}

/// What work of the driver returns.
pub(crate) fn drive<R: Send>(engine: &dyn Engine, work: impl FnOnce(&Worker<'_>) -> R + Send) -> R {
    let (mut work, mut done) = (Some(work), None);
    engine.drive(&mut |worker| {
        if let Some(work) = work.take() {
            done = Some(work(worker));
        }
    });
    done.unwrap_or_else(|| unreachable!("an engine does the driver's work"))
}

/// Runs a task, and makes sure that `take` has seen a result of each of its parts.
pub(crate) fn map(
    engine: &dyn Engine,
    task: &AnyTask,
    store: &dyn Store,
    mut take: impl FnMut(String) -> Result<()> + Send,
) -> Result<()> {
    let mut found = 0;
    engine.map(task, store, &mut |result| {
        found += 1;
        take(result)
    })?;
    match (found, task.parts()) {
        (found, parts) if found == parts => Ok(()),
        (found, parts) => Err(DataError::Task(TaskFault::Results { found, parts })),
    }
}

/// The results of a task, joined in their order; `None` where it has no part.
pub(crate) fn merged<T: DeserializeOwned + Send>(
    engine: &dyn Engine,
    task: &AnyTask,
    store: &dyn Store,
    mut join: impl FnMut(&mut T, T) + Send,
) -> Result<Option<T>> {
    let mut merged = None;
    map(engine, task, store, |json| {
        let wrong = |source| DataError::Task(TaskFault::Result(source));
        let result = serde_json::from_str(&json).map_err(wrong)?;
        match &mut merged {
            None => merged = Some(result),
            Some(merged) => join(merged, result),
        }
        Ok(())
    })?;
    Ok(merged)
}
