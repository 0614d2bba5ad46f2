//! The stages of a selection, a file each, named as the stage is called in progress reports: what a
//! worker does of it. `pipeline` says in which order they follow, and does what is the driver's.

pub(crate) mod assign;
pub(crate) mod duplicates;
pub(crate) mod kmeans;
pub(crate) mod output;
pub(crate) mod sample;
pub(crate) mod scan;
pub(crate) mod windows;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::manifest;
use super::worker::Worker;
use crate::error::Result;
use crate::store::{self, Store};

/// Work on one part that depends on the task, the part and what the store has below the keys that
/// the task names.
pub(crate) trait Task: Serialize + DeserializeOwned + Sync {
    /// What the task is called in progress reports.
    const NAME: &'static str;

    /// What is handed back; large results go to files.
    type Output: Serialize + DeserializeOwned + Send;

    /// How many parts there are.
    fn parts(&self) -> usize;

    /// The stage that keeps finished parts; `None` for what is quickly done again.
    fn stage(&self) -> Option<&Stage> {
        None
    }

    /// Does the work of one part, on the threads of the pool it is called in.
    ///
    /// # Errors
    /// Those of the stage.
    fn run(&self, part: usize, worker: &Worker<'_>, store: &dyn Store) -> Result<Self::Output>;
}

/// Where a stage leaves its results, each beside a manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stage {
    /// The key of its folder.
    pub(crate) folder: String,
    /// A word for everything that the results depend on.
    pub(crate) fingerprint: String,
}

/// Does the work of one part, unless its manifest says that it was done.
pub(crate) fn finish<T: Task>(
    task: &T,
    part: usize,
    worker: &Worker<'_>,
    store: &dyn Store,
) -> Result<T::Output> {
    let Some(stage) = task.stage() else {
        return task.run(part, worker, store);
    };
    let key = format!("{}/{}-{part:05}.json", stage.folder, T::NAME);
    if let Some(bytes) = store::read(store, &key)?
        && let Some(output) = manifest::read(&bytes, &store.path(&key), &stage.fingerprint)?
    {
        return Ok(output);
    }
    let output = task.run(part, worker, store)?;
    let bytes = manifest::write(&stage.fingerprint, &output)?;
    store::fill(store, &key, |file| file.put(&bytes))?;
    Ok(output)
}
