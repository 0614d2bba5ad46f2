//! Weights: from published files into a model, and back.

pub mod adapter;
mod assemble;
mod builder;
#[cfg(feature = "builtin-model")]
pub mod builtin;
mod cast;
mod error;
mod export;
#[cfg(feature = "hub")]
pub mod hub;
mod index;
mod merge;
mod merged;
mod pickle;
mod precision;
mod reader;
mod safetensors;
mod source;
mod weights;
pub mod writer;

pub use assemble::{Parts, open_projector};
pub use builder::{Builder, Initial};
pub use error::{AdapterError, CheckpointError, HeaderError, IndexError, PickleError};
pub use export::{NamedParameter, config_json, tower_json};
pub use precision::Precision;
pub use reader::{StoredDtype, StoredTensor, TensorFiles};
pub use source::{ModelSource, OpenModel};
pub use weights::WeightSet;
