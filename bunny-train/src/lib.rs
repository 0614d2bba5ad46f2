//! How a Bunny learns: the two stages, from a recipe to a model.
//!
//! A record becomes a [`Sample`](labels::Sample), samples a [`Batch`](batch::Batch); a
//! [`Pass`](pass::Pass) takes a batch through the model and back, and leaves
//! [`Gradients`](gradients::Gradients) of what learns.
#![recursion_limit = "256"]

pub mod batch;
pub mod clip;
mod draw;
mod error;
pub mod feed;
pub mod gradients;
pub mod labels;
pub mod lora;
mod loss;
pub mod names;
pub mod optimizer;
pub mod pass;
pub mod recipe;
pub mod reduce;
pub mod schedule;
pub mod stage;
mod stored;
#[cfg(test)]
mod testing;

pub use error::TrainError;
