//! Answers, token by token.
//!
//! [`Pipeline`] joins a model with its tokenizer and its image processor; [`Chat`] holds a
//! conversation with it, [`batch`] answers several prompts at once, and [`score`](score()) tells how likely an
//! answer is. All of them go through an [`Engine`], which runs the model for as many [`Sequence`]s as
//! there are; a sequence chooses its tokens with a [`Sampler`] and knows when it has ended.

pub mod batch;
mod calibrate;
mod chat;
mod draft;
mod engine;
mod fidelity;
mod options;
mod picture;
mod pipeline;
mod prompt;
mod read;
mod repeats;
mod sampler;
mod score;
mod sequence;
mod stop;
mod typed;

pub use calibrate::mean_squares;
pub use chat::{Answer, Chat};
pub use engine::{
    CacheUse, Engine, EngineOptions, Finished, PictureUse, Reuse, SequenceId, Timings, Update,
};
pub use fidelity::{Fidelity, Foretold, foretell};
pub use options::{FinishReason, GenerationOptions};
pub use picture::Picture;
pub use pipeline::Pipeline;
pub use prompt::Prompt;
pub use repeats::goes_in_circles;
pub use sampler::Sampler;
pub use score::{TokenScore, score};
pub use sequence::{Event, Sequence, TokenLogProbability};
pub use typed::{HELP, Typed, TypedError};
