//! What a stage learns from, whatever it is.

use super::LeftOut;
use crate::error::TrainError;

/// Records as they are learnt, a batch at a time.
pub trait Dataset: Sync + std::fmt::Debug {
    /// Some of them, ready for the model.
    type Batch: BatchInfo;

    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// These records as a batch.
    ///
    /// # Errors
    /// When one cannot be had.
    fn batch(&self, records: &[usize]) -> Result<Self::Batch, TrainError>;

    /// The records that nothing could be learnt from so far.
    fn left_out(&self) -> LeftOut {
        LeftOut::default()
    }
}

/// What is asked of a batch of any kind.
pub trait BatchInfo: Send + std::fmt::Debug {
    /// Names of its samples.
    fn samples(&self) -> &[String];

    /// Its positions, padding left out.
    fn tokens(&self) -> usize;

    /// How many things its loss is the mean of.
    fn answers(&self) -> usize;
}
