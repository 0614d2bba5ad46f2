//! Pictures and words on their way into a model.

pub mod conversation;
pub mod image;
pub mod tokenizer;
