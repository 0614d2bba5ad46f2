//! The stages of a recipe: what each starts from, what it teaches, and what it leaves behind.

mod bunny;
mod contrastive;
mod language;
mod output;
mod setup;
pub mod tokenizer;

pub use bunny::Job;
pub use contrastive::{
    ContrastiveJob, ContrastiveStart, PoolingAttention, PoolingHead, SiglipPair, Table,
    TextEmbeddings, TextEncoder, TextTower, sigmoid_loss,
};
pub use language::{LanguageJob, LanguageStart};
pub use output::PROJECTOR_WEIGHTS;
pub use setup::{Outline, Places, Start};
