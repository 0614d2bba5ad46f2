//! The layers that all parts of a Bunny are made of.
//!
//! What they compute, each as fast as the backend at hand allows, stands in [`ops`](crate::ops).

mod attention;
mod build;
mod dropout;
mod embedding;
mod linear;
mod mode;
mod names;
mod norm;
mod nothing;
mod precision;
mod rope;
mod spec;

pub use attention::attention;
pub(crate) use attention::cached_attention;
pub use build::{Builder, Initial, Weights, describe};
pub use dropout::dropout;
use dropout::dropout_key;
pub use embedding::{Embedding, LmHead, TokenTable};
pub use linear::{Linear, Lora};
pub use mode::Mode;
pub use names::{FusedRows, NameTable};
pub use norm::Norm;
pub use nothing::{Blank, Nothing};
pub use precision::{Precision, held_as, stored_as};
pub use rope::{Positions, Rope};
pub use spec::{ParameterKind, ParameterSpec, Part, Visited, count, visit_parameters};

pub use crate::ops::{
    Activation, AttentionMask, KvBlocks, KvCache, KvPass, KvSequence, LayerCache, Mask, Phase,
};
