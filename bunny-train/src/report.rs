//! What people are shown: what a stage will take, records as the model sees them, a run's curves.

pub mod inspect;
mod plan;
pub mod plot;

pub use plan::{LearnCounts, MemoryPlan, lora_parameters};
