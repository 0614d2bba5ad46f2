//! One step: a batch through the model and back, its loss and gradients, their sum, its clipping and
//! the rate of the step.

mod clip;
pub mod forward_backward;
mod gradients;
pub(crate) mod loss;
mod schedule;
mod sums;

pub use clip::{clip_factor, global_norm};
pub(crate) use forward_backward::DecoderInput;
pub use forward_backward::ForwardBackward;
pub use gradients::{Gradients, Slots, backward_from, collect};
pub use schedule::Schedule;
pub(crate) use sums::StepSums;
