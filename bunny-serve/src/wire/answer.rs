//! Answers in OpenAI's form, whole and in chunks.

use bunny_core::{
    generate::{FinishReason, TokenLogProbability},
    input::tokenizer::Tokenizer,
};
use serde_json::{Value, json};

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
    /// Positions of the prompt, its pictures' included.
    pub prompt: usize,
    /// Those of its pictures.
    pub pictures: usize,
    /// Those that were known from before.
    pub cached: usize,
    /// Tokens of the answers.
    pub answer: usize,
}

impl Usage {
    pub(crate) fn json(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.answer,
            "total_tokens": self.prompt + self.answer,
            "prompt_tokens_details": {
                "cached_tokens": self.cached,
                "image_tokens": self.pictures,
                "text_tokens": self.prompt - self.pictures,
            },
        })
    }
}

/// `finish_reason`, as the API has it.
fn finish_reason(finish: Option<FinishReason>) -> Option<&'static str> {
    match finish? {
        FinishReason::Length => Some("length"),
        _ => Some("stop"),
    }
}

/// A token as text, and as the bytes that it stands for: a token may end inside a character.
fn token_json(tokenizer: &Tokenizer, id: u32, log_probability: f32) -> Value {
    let bytes = tokenizer.token_bytes(id);
    json!({
        "token": String::from_utf8_lossy(&bytes),
        "logprob": log_probability.max(-9999.0),
        "bytes": bytes,
    })
}

fn chat_log_probabilities(tokenizer: &Tokenizer, tokens: &[TokenLogProbability]) -> Value {
    let content: Vec<Value> = tokens
        .iter()
        .map(|token| {
            let mut json = token_json(tokenizer, token.id, token.log_probability);
            let top = token.top.iter();
            json["top_logprobs"] = top.map(|(id, of)| token_json(tokenizer, *id, *of)).collect();
            json
        })
        .collect();
    json!({"content": content, "refusal": null})
}

/// The body of a whole answer to a chat.
pub(crate) fn chat_completion(
    id: &str,
    created: u64,
    model: &str,
    choices: &[Choice],
    usage: Usage,
    tokenizer: &Tokenizer,
) -> Value {
    let choices: Vec<Value> = choices
        .iter()
        .map(|choice| {
            let tokens = choice.log_probabilities.as_deref();
            json!({
                "index": choice.index,
                "message": {"role": "assistant", "content": choice.text, "refusal": null},
                "finish_reason": finish_reason(choice.finish),
                "logprobs": tokens.map(|tokens| chat_log_probabilities(tokenizer, tokens)),
            })
        })
        .collect();
    json!({
        "id": id, "object": "chat.completion", "created": created, "model": model,
        "choices": choices, "usage": usage.json(),
    })
}

/// A chunk of a chat's stream: `delta` is what is new of a choice.
pub(crate) fn chat_chunk(
    id: &str,
    created: u64,
    model: &str,
    choice: &Choice,
    delta: Value,
    tokenizer: &Tokenizer,
) -> Value {
    let tokens = choice.log_probabilities.as_deref().filter(|tokens| !tokens.is_empty());
    json!({
        "id": id, "object": "chat.completion.chunk", "created": created, "model": model,
        "choices": [{
            "index": choice.index,
            "delta": delta,
            "finish_reason": finish_reason(choice.finish),
            "logprobs": tokens.map(|tokens| chat_log_probabilities(tokenizer, tokens)),
        }],
    })
}

/// Log-probabilities in the older form; `offset` is the place of the first token in the text.
fn text_log_probabilities(
    tokenizer: &Tokenizer,
    tokens: &[TokenLogProbability],
    mut offset: usize,
) -> Value {
    let word = |id: u32| String::from_utf8_lossy(&tokenizer.token_bytes(id)).into_owned();
    let mut offsets = Vec::with_capacity(tokens.len());
    for token in tokens {
        offsets.push(offset);
        offset += word(token.id).chars().count();
    }
    let numbers = tokens.iter().map(|token| {
        // The first token of a text has nothing before it that could foretell it.
        token.log_probability.is_finite().then_some(token.log_probability)
    });
    let top = |token: &TokenLogProbability| -> Value {
        token.top.iter().map(|(id, of)| (word(*id), json!(of))).collect()
    };
    json!({
        "tokens": tokens.iter().map(|token| word(token.id)).collect::<Vec<_>>(),
        "token_logprobs": numbers.collect::<Vec<_>>(),
        "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

fn text_choice(choice: &Choice, tokenizer: &Tokenizer, offset: usize) -> Value {
    let tokens = choice.log_probabilities.as_deref();
    json!({
        "index": choice.index,
        "text": choice.text,
        "finish_reason": finish_reason(choice.finish),
        "logprobs": tokens.map(|tokens| text_log_probabilities(tokenizer, tokens, offset)),
    })
}

/// The body of whole completions of texts.
pub(crate) fn text_completion(
    id: &str,
    created: u64,
    model: &str,
    choices: &[Choice],
    usage: Usage,
    tokenizer: &Tokenizer,
) -> Value {
    let choices = choices.iter().map(|choice| text_choice(choice, tokenizer, 0));
    json!({
        "id": id, "object": "text_completion", "created": created, "model": model,
        "choices": choices.collect::<Vec<_>>(), "usage": usage.json(),
    })
}

/// A chunk of a completion's stream; `offset` characters came before.
pub(crate) fn text_chunk(
    id: &str,
    created: u64,
    model: &str,
    choice: &Choice,
    offset: usize,
    tokenizer: &Tokenizer,
) -> Value {
    json!({
        "id": id, "object": "text_completion", "created": created, "model": model,
        "choices": [text_choice(choice, tokenizer, offset)],
    })
}
