//! What learns of a model: its parts and parameters by name, adapters, and the weights that new
//! parts start with.

mod init;
pub mod lora;
mod names;
mod parts;
pub(crate) mod warm_start;

pub(crate) use init::reinitialize;
pub use lora::LoraConfig;
pub use names::{NamedParameter, Part, decoder_parameters, parameters, walk};
pub use parts::{Rates, Trainable, TrainableParts, unfreeze, unfreeze_parts};
