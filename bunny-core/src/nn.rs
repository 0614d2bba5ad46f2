//! The layers that all parts of a Bunny are made of.
//!
//! What they compute, each as fast as the backend at hand allows, stands in [`ops`](crate::ops).

mod attention;
mod build;
mod dropout;
mod embedding;
mod kv_cache;
mod linear;
mod mode;
mod names;
mod norm;
mod precision;
mod rope;

pub use attention::attention;
pub use build::{Builder, Initial, Weights};
pub use dropout::dropout;
use dropout::dropout_key;
pub use embedding::{Embedding, LmHead, TokenTable};
pub use kv_cache::{KvCache, LayerCache};
pub use linear::{Linear, Lora};
pub use mode::Mode;
pub use names::NameTable;
pub use norm::Norm;
pub use precision::{Precision, held_as, stored_as};
pub use rope::{Positions, Rope};

pub use crate::ops::{Activation, AttentionMask, Mask};
