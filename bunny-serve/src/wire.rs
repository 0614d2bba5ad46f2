//! What goes over the wire, in OpenAI's form: requests read field by field, answers and errors written.

mod answer;
mod body;
mod chat;
mod completion;
mod error;

pub(crate) use answer::{Choice, Usage, chat_chunk, chat_completion, text_chunk, text_completion};
pub(crate) use chat::{ChatRequest, Content, Turn};
pub(crate) use completion::{CompletionRequest, PromptText};
pub(crate) use error::ApiError;
