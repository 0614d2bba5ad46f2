//! The Bunny models on burn: a picture and words in, words out.
#![recursion_limit = "256"]

pub mod bunny;
pub mod checkpoint;
pub mod config;
pub mod conversation;
mod error;
mod fields;
pub mod generate;
pub mod image_processor;
pub mod language;
pub mod nn;
pub mod presets;
pub mod projector;
mod random;
pub mod tokenizer;
pub mod vision;

pub use bunny::Bunny;
pub use config::BunnyConfig;
pub use error::{ConfigError, Error};
pub use fields::Fields;
