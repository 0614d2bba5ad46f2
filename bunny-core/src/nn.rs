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
mod observer;
mod precision;
mod rope;
mod spec;
mod weight;

pub(crate) use attention::cached_attention;
pub use attention::{attention, split_heads};
pub use build::{Builder, Initial, Weights, describe};
pub use dropout::dropout;
use dropout::dropout_key;
pub use embedding::{Embedding, LmHead, TokenTable};
pub use linear::{Linear, Lora};
pub use mode::Mode;
pub use names::{FusedRows, NameTable};
pub use norm::{LayerNorm, Norm, RmsNorm};
pub use nothing::{Blank, Nothing};
pub(crate) use observer::Observer;
pub use precision::{Precision, held_as, stored_as};
pub use rope::{Positions, Rope};
pub use spec::{ParameterKind, ParameterSpec, Part, Visited, count, visit_parameters};
pub use weight::{PackedWeight, Weight, WeightFormat};

pub use crate::ops::{
    Activation, Activations, AttentionMask, Bits, KvBlocks, KvCache, KvPass, KvSequence,
    LayerCache, Mask, Operands, Packing, Phase,
};
