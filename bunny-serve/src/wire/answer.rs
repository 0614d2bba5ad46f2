//! Answers in OpenAI's form, whole and in chunks.

use std::sync::Arc;

use bunny_core::{
    generate::{FinishReason, TokenLogProbability},
    input::tokenizer::Tokenizer,
};
use serde_json::{Value, json};

use super::log_probabilities::{chat_log_probabilities, text_log_probabilities};

/// In which of the API's two forms answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Of conversations.
    Chat,
    /// Of texts that go on as they stand.
    Text,
}

/// One answer of a response.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    pub index: usize,
    pub text: String,
    pub finish: Option<FinishReason>,
    /// Where they were asked for.
    pub log_probabilities: Option<Vec<TokenLogProbability>>,
}

/// What a request took, in positions and tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    /// Positions of the prompts, their pictures' included.
    pub prompt: usize,
    /// Those of their pictures.
    pub pictures: usize,
    /// Those that were known from before.
    pub cached: usize,
    /// Tokens of the answers.
    pub answer: usize,
}

/// Writes what belongs to one request.
#[derive(Debug)]
pub(crate) struct Writer {
    pub form: Form,
    pub id: String,
    /// In seconds since 1970.
    pub created: u64,
    pub model: String,
    pub tokenizer: Arc<Tokenizer>,
    /// Whether a stream ends with the usage; all other chunks then say that they have none.
    pub include_usage: bool,
}

impl Writer {
    /// The body of all answers, whole.
    pub(crate) fn whole(&self, choices: &[Choice], usage: Usage) -> Value {
        let object = match self.form {
            Form::Chat => "chat.completion",
            Form::Text => "text_completion",
        };
        let choices = choices.iter().map(|choice| {
            let finish = finish_reason(choice.finish);
            let log_probabilities = self.log_probabilities(choice, 0);
            match self.form {
                Form::Chat => json!({
                    "index": choice.index,
                    "message": {"role": "assistant", "content": choice.text, "refusal": null},
                    "finish_reason": finish,
                    "logprobs": log_probabilities,
                }),
                Form::Text => json!({
                    "index": choice.index,
                    "text": choice.text,
                    "finish_reason": finish,
                    "logprobs": log_probabilities,
                }),
            }
        });
        let mut body = self.framed(object, choices.collect());
        body["usage"] = usage_json(usage);
        body
    }

    /// The chunk before all others of an answer, where the form has one.
    pub(crate) fn begin(&self, index: usize) -> Option<Value> {
        let role = json!({
            "index": index,
            "delta": {"role": "assistant", "content": ""},
            "finish_reason": null,
            "logprobs": null,
        });
        (self.form == Form::Chat).then(|| self.chunk(role))
    }

    /// A piece of an answer, behind `offset` characters. A reason comes with a chunk of its own, the last.
    pub(crate) fn piece(&self, piece: &Choice, offset: usize) -> Value {
        let log_probabilities = self.log_probabilities(piece, offset);
        self.chunk(match self.form {
            Form::Chat => json!({
                "index": piece.index,
                "delta": {"content": piece.text},
                "finish_reason": null,
                "logprobs": log_probabilities,
            }),
            Form::Text => json!({
                "index": piece.index,
                "text": piece.text,
                "finish_reason": null,
                "logprobs": log_probabilities,
            }),
        })
    }

    /// The last chunk of an answer.
    pub(crate) fn end(&self, index: usize, finish: Option<FinishReason>) -> Value {
        let finish = finish_reason(finish);
        self.chunk(match self.form {
            Form::Chat => {
                json!({"index": index, "delta": {}, "finish_reason": finish, "logprobs": null})
            }
            Form::Text => {
                json!({"index": index, "text": "", "finish_reason": finish, "logprobs": null})
            }
        })
    }

    /// The chunk behind all answers, where it was asked for.
    pub(crate) fn usage(&self, usage: Usage) -> Option<Value> {
        let mut chunk = self.framed(self.chunks_object(), Vec::new());
        chunk["usage"] = usage_json(usage);
        self.include_usage.then_some(chunk)
    }

    fn chunk(&self, choice: Value) -> Value {
        let mut chunk = self.framed(self.chunks_object(), vec![choice]);
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn chunks_object(&self) -> &'static str {
        match self.form {
            Form::Chat => "chat.completion.chunk",
            Form::Text => "text_completion",
        }
    }

    fn framed(&self, object: &str, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model,
            "choices": choices,
        })
    }

    fn log_probabilities(&self, choice: &Choice, offset: usize) -> Option<Value> {
        let tokens = choice.log_probabilities.as_deref()?;
        Some(match self.form {
            Form::Chat => chat_log_probabilities(&self.tokenizer, tokens),
            Form::Text => text_log_probabilities(&self.tokenizer, tokens, offset),
        })
    }
}

/// All that clients look into, also where a Bunny has none of it: they add these up.
fn usage_json(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.answer,
        "total_tokens": usage.prompt + usage.answer,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached,
            "image_tokens": usage.pictures,
            "text_tokens": usage.prompt - usage.pictures,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "text_tokens": usage.answer,
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}

/// `finish_reason`, as the API has it.
fn finish_reason(finish: Option<FinishReason>) -> Option<&'static str> {
    match finish? {
        FinishReason::Length => Some("length"),
        _ => Some("stop"),
    }
}
