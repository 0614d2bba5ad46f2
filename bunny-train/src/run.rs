//! A run: the loop over its steps, on one rank or several, and what it leaves as it goes:
//! checkpoints, metrics and event files.

pub mod checkpoint;
pub mod events;
pub mod metrics;
mod ranks;
mod trainer;

pub(crate) use ranks::on_ranks;
pub use trainer::{Loss, Observer, Outcome, Run, Task};
pub(crate) use trainer::{Trainer, keys_of};
