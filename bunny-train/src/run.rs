//! A run: the loop over its steps, on one rank or several, and what it leaves as it goes:
//! checkpoints, metrics and event files.

mod best;
pub mod checkpoint;
pub mod events;
mod job;
pub mod memory;
pub mod metrics;
mod ranks;
mod stage;
mod trainer;

pub use best::BestEvaluation;
pub use job::{Job, Reserved};
pub use stage::{Loss, Prepared, Stage, Task};
pub use trainer::{Observer, Outcome};
