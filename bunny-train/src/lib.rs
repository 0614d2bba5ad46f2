#![doc = include_str!("../README.md")]
//!
//! ## Inside
//!
//! A record becomes a [`Sample`](labels::Sample), samples a [`Batch`](batch::Batch); a
//! [`Pass`](pass::Pass) takes a batch through the model and back, and leaves
//! [`Gradients`](gradients::Gradients) of what learns.
#![recursion_limit = "256"]

pub mod batch;
pub mod checkpoint;
pub mod clip;
pub mod contrastive;
mod draw;
mod error;
pub mod events;
pub mod feed;
pub mod gradients;
mod initial;
pub mod inspect;
pub mod labels;
pub mod language;
pub mod left_out;
pub mod lora;
mod loss;
pub mod merge;
pub mod metrics;
pub mod muon;
pub mod names;
pub mod optimizer;
mod output;
pub mod pass;
pub mod plan;
pub mod plot;
pub mod preflight;
mod ranks;
pub mod recipe;
pub mod reduce;
pub mod run;
pub mod schedule;
pub mod stage;
pub mod start;
pub mod steps;
mod stored;
mod sums;
#[cfg(test)]
mod testing;
pub mod tokenizer;
pub mod trainer;

pub use error::TrainError;
pub use output::PROJECTOR_WEIGHTS;
