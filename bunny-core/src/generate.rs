//! Answers, token by token.
//!
//! [`Pipeline`] joins a model with its tokenizer and its image processor; [`Chat`] holds a
//! conversation with it. Below them, [`Session`] keeps what a decoder has read, [`Sampler`] chooses
//! tokens, and [`batch`] answers several prompts at once.

pub mod batch;
mod chat;
mod options;
mod pipeline;
mod read;
mod sampler;
mod score;
mod session;
mod stop;

pub use chat::{Answer, Chat, Timings};
pub use options::{FinishReason, GenerationOptions};
pub use pipeline::Pipeline;
pub use sampler::Sampler;
pub use score::{TokenScore, score};
pub use session::{Picture, Session};
