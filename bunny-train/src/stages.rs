//! The stages of a recipe: what each starts from, what it teaches, and what it leaves behind.

mod bunny;
mod contrastive;
mod language;
pub mod tokenizer;

pub use bunny::{
    BunnySetup, BunnyStage, InstructionTask, ModelPaths, PROJECTOR_WEIGHTS, SetupConfig,
};
pub use contrastive::{
    ContrastiveSetup, ContrastiveStage, ContrastiveTask, describe_pair, new_pair, pair_loss,
    sigmoid_loss,
};
pub use language::{LanguageSetup, LanguageStage, NextTokenTask};
