//! What goes over the wire, in OpenAI's form: requests read field by field, answers and errors written.

mod answer;
mod body;
mod chat;
mod completion;
mod error;
mod generation;
mod log_probabilities;

pub(crate) use answer::{Choice, Form, Usage, Writer};
pub(crate) use chat::ChatRequest;
pub(crate) use completion::{CompletionRequest, PromptText};
pub(crate) use error::ApiError;
pub(crate) use generation::Generation;
pub(crate) use log_probabilities::characters_begun;
