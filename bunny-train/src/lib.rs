#![doc = include_str!("../README.md")]
//!
//! ## Inside
//!
//! A [`Job`](run::Job) is a [`Stage`](run::Stage) in a folder: its records become a
//! [`Sample`](data::Sample) each, samples a [`Batch`](data::Batch);
//! [`ForwardBackward`](step::ForwardBackward) takes a batch through the model and back, and leaves
//! [`Gradients`](step::Gradients) of what is [`Trainable`](trainable::Trainable), which ranks
//! [`Reduce`](reduce::Reduce) and the [`Optimizer`](optimizer::Optimizer) follows.
//!
//! burn's types are nested deeply: a crate that trains says `#![recursion_limit = "256"]`, as this one.
#![recursion_limit = "256"]

pub mod data;
mod error;
pub mod merge;
pub mod optimizer;
pub mod recipe;
pub mod reduce;
pub mod report;
pub mod run;
pub mod stages;
pub mod step;
#[cfg(test)]
mod testing;
pub mod trainable;

pub use error::{PictureProblem, ReduceError, SampleError, TrainError};
