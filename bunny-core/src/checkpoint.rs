//! A model in its files: put together, opened, merged and written.
//!
//! The files themselves are read and written by [`bunny_weights`].

mod assemble;
#[cfg(feature = "builtin-model")]
pub mod builtin;
mod export;
mod merge;
mod merged;
mod source;
mod weights;

pub use crate::nn::Precision;
pub use assemble::{Parts, open_projector};
pub use export::{NamedParameter, config_json, tower_json};
pub use source::{ModelSource, OpenModel};
pub use weights::WeightSet;
