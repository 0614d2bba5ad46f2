//! A model in its files: put together, opened, merged and written.
//!
//! The files themselves are read and written by [`bunny_weights`].

mod assemble;
#[cfg(feature = "builtin-model")]
pub mod builtin;
mod chat_template;
mod export;
mod folder;
#[cfg(feature = "gguf")]
mod gguf;
mod llava;
mod merge;
mod merged;
mod pair;
mod quantize;
mod resolve;
mod source;
mod weights;

pub use crate::nn::Precision;
pub use assemble::{OpenModel, Parts, open_projector};
#[cfg(feature = "hub")]
pub use bunny_weights::hub::{Hub, HubSettings};
pub use export::NamedParameter;
pub use folder::files_beside;
#[cfg(feature = "gguf")]
pub use gguf::{GgufExport, GgufProjector, GgufWeights};
pub use llava::open_weights;
pub use pair::OpenPair;
pub use quantize::{LayerLoss, MeanSquares, Quantized};
pub use resolve::{ModelNames, Wanted};
#[cfg(feature = "hub")]
pub use resolve::{fetch, needed};
pub use source::ModelSource;
pub use weights::WeightSet;
