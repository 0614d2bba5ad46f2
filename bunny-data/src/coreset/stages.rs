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

    /// Where finished parts are kept.
    fn stage(&self) -> &Stage;

    /// Does the work of one part, on the threads of the pool it is called in.
    ///
    /// # Errors
    /// Those of the stage.
    fn run(&self, part: usize, worker: &Worker<'_>, store: &dyn Store) -> Result<Self::Output>;
}

/// Where a stage leaves its results, and what says of each part that it is done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stage {
    /// The key of its folder.
    pub(crate) folder: String,
    /// What the names of its files begin with: a folder may hold several stages.
    pub(crate) name: String,
    /// A word for everything that the results depend on.
    pub(crate) fingerprint: String,
}

impl Stage {
    /// The key of a file of a part.
    pub(crate) fn key(&self, part: usize, ending: &str) -> String {
        format!("{}/{}-{part:05}.{ending}", self.folder, self.name)
    }

    /// The key of what says that a part is done.
    fn done_key(&self, part: usize) -> String {
        self.key(part, "done")
    }
}

/// What a part has handed back, if it is done.
pub(crate) fn finished<T: Task>(
    task: &T,
    part: usize,
    store: &dyn Store,
) -> Result<Option<T::Output>> {
    let (stage, key) = (task.stage(), task.stage().done_key(part));
    match store::read(store, &key)? {
        Some(bytes) => manifest::read(&bytes, &store.path(&key), &stage.fingerprint),
        None => Ok(None),
    }
}

/// Does the work of one part, unless it is done.
pub(crate) fn finish<T: Task>(
    task: &T,
    part: usize,
    worker: &Worker<'_>,
    store: &dyn Store,
) -> Result<T::Output> {
    if let Some(output) = finished(task, part, store)? {
        return Ok(output);
    }
    let output = task.run(part, worker, store)?;
    let bytes = manifest::write(&task.stage().fingerprint, &output)?;
    store::fill(store, &task.stage().done_key(part), |file| file.put(&bytes))?;
    Ok(output)
}
