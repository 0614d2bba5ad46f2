//! What can go wrong while a model learns.

use std::path::PathBuf;

use bunny_core::checkpoint::CheckpointError;
use bunny_data::DataError;

use crate::{feed::PictureProblem, labels::SampleError};

/// Any error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The model or its files.
    #[error(transparent)]
    Model(#[from] bunny_core::Error),
    /// A file of weights.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Records or pictures.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A record that cannot be learnt from.
    #[error("{}: record {index} (`{id}`): {source}", file.display())]
    Sample {
        /// The record file.
        file: PathBuf,
        /// Which record, from 0.
        index: usize,
        /// Its name.
        id: String,
        /// What is wrong with it.
        source: SampleError,
    },
    /// A picture that a record names cannot be had.
    #[error("{}: record `{id}`: picture `{name}`: {problem}", file.display())]
    Picture {
        /// The record file.
        file: PathBuf,
        /// The record's name.
        id: String,
        /// The picture's name.
        name: String,
        /// Why it cannot be had.
        problem: PictureProblem,
    },
    /// A thread that prepares batches is gone.
    #[error("a thread that prepares batches has stopped without a word")]
    Worker,
    /// An adapter does not fit the model.
    #[error("the adapter does not fit the model: {problem}")]
    Adapter {
        /// What does not fit.
        problem: String,
    },
}
