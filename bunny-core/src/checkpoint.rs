//! Weights: from published files into a model, and back.

pub mod adapter;
mod builder;
mod cast;
mod error;
#[cfg(feature = "hub")]
pub mod hub;
mod index;
mod merge;
mod names;
mod pickle;
mod precision;
mod reader;
mod safetensors;
mod source;
mod weights;
pub mod writer;

pub use builder::{Builder, Initial};
pub use error::CheckpointError;
pub use names::NameTable;
pub use precision::Precision;
pub use reader::{StoredDtype, StoredTensor, TensorFiles};
pub use source::{ModelSource, OpenModel};
pub use weights::WeightSet;
