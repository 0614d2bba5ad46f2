//! Every task of a selection, as data that can be sent to another machine.

use std::io;

use serde::{Deserialize, Serialize};

use crate::coreset::stages::assign::Assign;
use crate::coreset::stages::duplicates::Duplicates;
use crate::coreset::stages::kmeans::Label;
use crate::coreset::stages::sample::{Keys, Survive};
use crate::coreset::stages::scan::Scan;
use crate::coreset::stages::windows::{Count, Rank};
use crate::coreset::stages::{self, Task, finish};
use crate::coreset::worker::Worker;
use crate::error::{DataError, Result, TaskFault};
use crate::store::{self, Store, WORK};

/// The version of a task's JSON.
const FORMAT_VERSION: u32 = 2;

/// A task of a stage. Its JSON says all that a worker needs, a store apart: it is some hundred bytes
/// and, where the task reads the set, the list of its files.
///
/// ```no_run
/// use bunny_data::coreset::engine::AnyTask;
/// use bunny_data::coreset::{Silent, TileSize, Worker};
/// use bunny_data::store::Folders;
///
/// # fn sent() -> String { String::new() }
/// // On a worker: the task as it was sent, this machine's folders, and one of the task's parts.
/// let task = AnyTask::from_json(&sent())?;
/// let worker = Worker { memory: 2 << 30, tile: TileSize::default(), progress: &Silent };
/// let result = task.run(17, &worker, &Folders::new("/mnt/laion", "/mnt/coreset/work"))?;
/// println!("{result}");
/// # Ok::<(), bunny_data::DataError>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AnyTask {
    /// Reads every row of a part of the set.
    Scan(Scan),
    /// Finds the nearest centroid of some rows of the sample.
    Label(Label),
    /// Sorts the rows of a part of the set into buckets of clusters.
    Assign(Assign),
    /// Finds the duplicates in the clusters of a bucket.
    Duplicates(Duplicates),
    /// Counts what is left of a bucket.
    Count(Count),
    /// Looks for the ends of a window in a bucket.
    Rank(Rank),
    /// Writes what all windows leave of a bucket.
    Survivors(Survive),
    /// Draws a number for the key of every survivor in a part of the set.
    Keys(Keys),
}

/// Calls a function with the task that is inside.
macro_rules! inside {
    ($any:expr, $task:ident => $call:expr) => {
        match $any {
            AnyTask::Scan($task) => $call,
            AnyTask::Label($task) => $call,
            AnyTask::Assign($task) => $call,
            AnyTask::Duplicates($task) => $call,
            AnyTask::Count($task) => $call,
            AnyTask::Rank($task) => $call,
            AnyTask::Survivors($task) => $call,
            AnyTask::Keys($task) => $call,
        }
    };
}

impl AnyTask {
    /// What the task is called in progress reports.
    pub fn name(&self) -> &'static str {
        inside!(self, task => name(task))
    }

    /// How many parts there are to run, numbered from 0.
    pub fn parts(&self) -> usize {
        inside!(self, task => task.parts())
    }

    /// What the stage is called among those of a store.
    pub fn stage(&self) -> String {
        let stage = inside!(self, task => task.stage());
        let folder = stage.folder.strip_prefix(WORK).unwrap_or(&stage.folder);
        format!("{}/{}", folder.trim_start_matches('/'), stage.name)
    }

    /// What [`Self::run`] has returned for a part, if it is done.
    ///
    /// # Errors
    /// When what says so is damaged.
    pub fn finished(&self, part: usize, store: &dyn Store) -> Result<Option<String>> {
        inside!(self, task => finished_json(task, part, store))
    }

    /// Writes the task into the store, for those who know its stage alone.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub fn save(&self, store: &dyn Store) -> Result<()> {
        let (key, text) = (task_key(&self.stage()), self.to_json()?);
        if store::read(store, &key)?.is_some_and(|bytes| bytes == text.as_bytes()) {
            return Ok(());
        }
        store::fill(store, &key, |file| file.put(text.as_bytes()))
    }

    /// The task of a stage of a store.
    ///
    /// # Errors
    /// [`DataError::Io`] of kind `NotFound` where there is no such stage yet, and as
    /// [`Self::from_json`].
    pub fn load(store: &dyn Store, stage: &str) -> Result<Self> {
        let key = task_key(stage);
        let Some(bytes) = store::read(store, &key)? else {
            let error = io::Error::new(io::ErrorKind::NotFound, "there is no such stage yet");
            return Err(DataError::io(store.path(&key), "open")(error));
        };
        Self::from_json(&String::from_utf8_lossy(&bytes))
    }

    /// Does the work of one part, on the threads of the rayon pool this is called in, and returns
    /// what the driver wants to know of it as JSON. A part that was finished before is not run again.
    ///
    /// # Errors
    /// Those of the stage.
    pub fn run(&self, part: usize, worker: &Worker<'_>, store: &dyn Store) -> Result<String> {
        let parts = self.parts();
        if part >= parts {
            return Err(DataError::Task(TaskFault::NoPart { part, parts }));
        }
        inside!(self, task => json(task, part, worker, store))
    }

    /// The task as text, to be sent.
    ///
    /// # Errors
    /// [`DataError::NotJson`] never, as far as is known.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(&Versioned {
            format_version: FORMAT_VERSION,
            task: self,
        })
        .map_err(DataError::NotJson)
    }

    /// A task that was sent.
    ///
    /// # Errors
    /// [`DataError::Task`] for text that is none, or that of a newer version.
    pub fn from_json(text: &str) -> Result<Self> {
        let wrong = |source| DataError::Task(TaskFault::Json(source));
        let Header { format_version } = serde_json::from_str(text).map_err(wrong)?;
        if format_version > FORMAT_VERSION {
            return Err(DataError::Task(TaskFault::Newer {
                found: format_version,
                known: FORMAT_VERSION,
            }));
        }
        let versioned: Versioned<Self> = serde_json::from_str(text).map_err(wrong)?;
        Ok(versioned.task)
    }
}

/// What can be read of a task of any version.
#[derive(Deserialize)]
struct Header {
    format_version: u32,
}

/// What is sent.
#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    format_version: u32,
    #[serde(flatten)]
    task: T,
}

fn task_key(stage: &str) -> String {
    format!("{WORK}/{stage}.task")
}

fn finished_json<T: Task>(task: &T, part: usize, store: &dyn Store) -> Result<Option<String>> {
    let output = stages::finished(task, part, store)?;
    let json = output.map(|output| serde_json::to_string(&output));
    json.transpose().map_err(DataError::NotJson)
}

fn name<T: Task>(_task: &T) -> &'static str {
    T::NAME
}

fn json<T: Task>(task: &T, part: usize, worker: &Worker<'_>, store: &dyn Store) -> Result<String> {
    let output = finish(task, part, worker, store)?;
    serde_json::to_string(&output).map_err(DataError::NotJson)
}
