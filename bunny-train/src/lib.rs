#![doc = include_str!("../README.md")]
//!
//! ## Inside
//!
//! A record becomes a [`Sample`](data::Sample), samples a [`Batch`](data::Batch); a
//! [`ForwardBackward`](step::ForwardBackward) takes a batch through the model and back, and leaves
//! [`Gradients`](step::Gradients) of what learns.
#![recursion_limit = "256"]

pub mod data;
mod draw;
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
