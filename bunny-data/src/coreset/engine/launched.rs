//! Parts that other programs launch: `run-part` under Slurm, Ray, Kubernetes or a shell.
//!
//! ```text
//! driver     plan-parts ── a stage, and how many parts ──► launcher ── run-part 0, 1, 2 … anywhere
//!               ▲                                                         │
//!               └────────── again, until nothing is wanted ◄── all done ──┘        then finish
//! ```
//! Nothing is kept between two calls of the driver but what is in the store, so it may be killed as
//! its parts may.

use super::{AnyTask, Engine, Local, Take};
use crate::coreset::worker::Worker;
use crate::error::{DataError, Result, TaskFault};
use crate::store::{self, Store, WORK};

/// An engine that runs no part: it takes what others have left of them in the store, and tells what
/// is yet to be done. The driver's own work is done here.
#[derive(Debug)]
pub struct Launched<'a> {
    driver: Local<'a>,
}

/// Parts that are yet to be done.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Wanted {
    /// The stage, for [`AnyTask::load`].
    pub stage: String,
    /// How many parts it has.
    pub parts: usize,
    /// Those that are not done.
    pub missing: Vec<usize>,
}

impl<'a> Launched<'a> {
    /// An engine whose driver computes where `driver` does.
    pub fn new(driver: Local<'a>) -> Self {
        Self { driver }
    }
}

/// The key of what all parts of a stage have handed back, a line each: the driver begins anew whenever
/// it is called, and is not to open thousands of files each time.
fn results_key(stage: &str) -> String {
    format!("{WORK}/{stage}.results")
}

impl Engine for Launched<'_> {
    fn map(&self, task: &AnyTask, store: &dyn Store, take: Take<'_>) -> Result<()> {
        let (stage, parts) = (task.stage(), task.parts());
        let key = results_key(&stage);
        if let Some(bytes) = store::read(store, &key)? {
            let text = String::from_utf8_lossy(&bytes);
            return text.lines().try_for_each(|result| take(result.to_owned()));
        }
        let (mut results, mut missing) = (String::new(), Vec::new());
        for part in 0..parts {
            match task.finished(part, store)? {
                Some(output) => {
                    results.push_str(&output);
                    results.push('\n');
                }
                None => missing.push(part),
            }
        }
        if missing.is_empty() {
            store::fill(store, &key, |file| file.put(results.as_bytes()))?;
            return results
                .lines()
                .try_for_each(|result| take(result.to_owned()));
        }
        task.save(store)?;
        Err(DataError::Task(TaskFault::Wanted(Box::new(Wanted {
            stage,
            parts,
            missing,
        }))))
    }

    fn drive(&self, work: &mut (dyn FnMut(&Worker<'_>) + Send)) {
        self.driver.drive(work);
    }
}
