//! Log-probabilities of tokens, in the API's two forms.

use bunny_core::{generate::TokenLogProbability, input::tokenizer::Tokenizer};
use serde_json::{Map, Value, json};

/// What the API says for a token that is as good as impossible.
const VERY_UNLIKELY: f32 = -9999.0;

/// Of a conversation. A token is text and bytes: it may end inside a character.
pub(super) fn chat_log_probabilities(
    tokenizer: &Tokenizer,
    tokens: &[TokenLogProbability],
) -> Value {
    let one = |id: u32, log_probability: f32| {
        let bytes = tokenizer.token_bytes(id);
        json!({
            "token": String::from_utf8_lossy(&bytes),
            "logprob": log_probability.max(VERY_UNLIKELY),
            "bytes": bytes,
        })
    };
    let content = tokens.iter().map(|token| {
        let top = token.top.iter().map(|(id, of)| one(*id, *of));
        let mut json = one(token.id, token.log_probability);
        json["top_logprobs"] = top.collect();
        json
    });
    json!({"content": content.collect::<Vec<_>>(), "refusal": null})
}

/// Of a text, whose first token here stands behind `offset` characters. One that nothing foretells has no
/// number.
pub(super) fn text_log_probabilities(
    tokenizer: &Tokenizer,
    tokens: &[TokenLogProbability],
    mut offset: usize,
) -> Value {
    let word = |id: u32| String::from_utf8_lossy(&tokenizer.token_bytes(id)).into_owned();
    let known = |of: f32| (!of.is_nan()).then(|| of.max(VERY_UNLIKELY));
    let (mut words, mut numbers, mut tops, mut offsets) = (vec![], vec![], vec![], vec![]);
    for token in tokens {
        let word_here = word(token.id);
        let characters = word_here.chars().count();
        let number = known(token.log_probability);
        let top = token
            .top
            .iter()
            .map(|(id, of)| (word(*id), json!(known(*of))));
        let top = number.map(|_| top.collect::<Map<String, Value>>());
        words.push(word_here);
        numbers.push(number);
        tops.push(top);
        offsets.push(offset);
        offset += characters;
    }
    json!({"tokens": words, "token_logprobs": numbers, "top_logprobs": tops, "text_offset": offsets})
}
