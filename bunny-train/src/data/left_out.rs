//! Records that nothing could be learnt from: each is told once by its name, and all are counted.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::error::TrainError;

/// Records that a run has learnt nothing from, by their places in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Their picture is missing or broken, and the recipe lets them be skipped.
    pub without_picture: BTreeSet<usize>,
    /// They are cut before their first answer.
    pub without_answer: BTreeSet<usize>,
}

impl LeftOut {
    /// These and those of another rank.
    pub fn extend(&mut self, other: Self) {
        self.without_picture.extend(other.without_picture);
        self.without_answer.extend(other.without_answer);
    }
}

/// Gathers [`LeftOut`] from the threads that make batches, and tells each record once through
/// `tracing`, however many epochs see it.
///
/// Batches are made ahead of the step: where a run is stopped, some of these records lie beyond it.
#[derive(Debug, Default)]
pub struct Tally(Mutex<LeftOut>);

impl Tally {
    /// Record `index` is skipped, since its picture cannot be had.
    pub fn without_picture(&self, index: usize, error: &TrainError) {
        if self.lock().without_picture.insert(index) {
            tracing::warn!("left out: {error}");
        }
    }

    /// Record `index`, `id` by name, is cut before its first answer.
    pub fn without_answer(&self, index: usize, id: &str) {
        if self.lock().without_answer.insert(index) {
            tracing::warn!(
                "record {index} (`{id}`) is cut before its first answer: nothing is learnt from it"
            );
        }
    }

    /// All so far.
    pub fn so_far(&self) -> LeftOut {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, LeftOut> {
        // A set is whole between any two insertions.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
