//! The layers that all parts of a Bunny are made of.
//!
//! Every product with a weight goes through [`Linear`], every attention through [`attention()`],
//! every nonlinearity through [`Activation`]; the kernels that make them fast stand behind
//! these, in `kernel`.

mod activation;
mod attention;
mod build;
mod dropout;
mod embedding;
pub mod kernel;
pub(crate) mod kv_cache;
mod linear;
mod mode;
mod names;
mod norm;
mod nothing;
mod precision;
mod rope;
mod spec;

pub use activation::Activation;
pub(crate) use attention::cached_attention;
pub use attention::{AttentionMask, Mask, attention};
pub use build::{Builder, Initial, Weights, describe};
pub use dropout::dropout;
use dropout::dropout_key;
pub use embedding::{Embedding, LmHead, TokenTable};
pub use kv_cache::{KvBlocks, KvCache, KvPass, KvSequence, LayerCache};
pub use linear::{Linear, Lora};
pub use mode::{Mode, Phase};
pub use names::{FusedRows, NameTable};
pub use norm::Norm;
pub use nothing::{Blank, Nothing};
pub use precision::{Precision, held_as, stored_as};
pub use rope::{Positions, Rope, rotate_pairs};
pub use spec::{ParameterKind, ParameterSpec, Part, Visited, count, visit_parameters};
