//! One step: a batch through the model and back, its loss and gradients, their sum, its clipping and
//! the rate of the step.

mod clip;
pub mod forward_backward;
mod gradients;
pub(crate) mod loss;
mod schedule;
mod sums;

pub use clip::{clip_factor, global_norm};
pub use forward_backward::Pass;
pub(crate) use forward_backward::Way;
pub use gradients::{Gradients, Slots, collect, pull_back};
pub use schedule::{Schedule, SchedulerKind};
pub(crate) use sums::Sums;
