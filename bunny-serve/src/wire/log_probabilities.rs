//! Log-probabilities of tokens, in the API's two forms.

use std::fmt::Write;

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
/// number. Offsets are those of the characters that tokens begin in; a token that is no text by itself is
/// named by its bytes, and one that was not among the likeliest is told with them.
pub(super) fn text_log_probabilities(
    tokenizer: &Tokenizer,
    tokens: &[TokenLogProbability],
    mut offset: usize,
) -> Value {
    let known = |of: f32| (!of.is_nan()).then(|| of.max(VERY_UNLIKELY));
    let (mut words, mut numbers, mut tops, mut offsets) = (vec![], vec![], vec![], vec![]);
    for token in tokens {
        let bytes = tokenizer.token_bytes(token.id);
        let number = known(token.log_probability);
        let top = number.map(|number| {
            let top = token.top.iter();
            let mut top: Map<String, Value> = top
                .map(|(id, of)| (word(&tokenizer.token_bytes(*id)), json!(known(*of))))
                .collect();
            if !top.is_empty() {
                top.insert(word(&bytes), json!(number));
            }
            top
        });
        let is_within = bytes.first().is_some_and(|byte| goes_on(*byte));
        offsets.push(offset - usize::from(is_within && offset > 0));
        offset += characters_begun(&bytes);
        words.push(word(&bytes));
        numbers.push(number);
        tops.push(top);
    }
    json!({"tokens": words, "token_logprobs": numbers, "top_logprobs": tops, "text_offset": offsets})
}

/// A token's bytes as the API's older form shows them.
fn word(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("bytes:".to_owned(), |mut word, byte| {
            // Writing to a String cannot fail.
            let _ = write!(word, "\\x{byte:02x}");
            word
        }),
    }
}

/// Whether a byte belongs to a character that has begun before it.
fn goes_on(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// Characters that begin in a token.
pub(crate) fn characters_begun(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| !goes_on(**byte)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_no_text_is_named_by_its_bytes() {
        assert_eq!(word("é".as_bytes()), "é");
        assert_eq!(word(&[0xf0, 0x9f]), "bytes:\\xf0\\x9f");
        // Four bytes of one character, whichever tokens they fall into.
        let face = "a😀b".as_bytes();
        assert_eq!(characters_begun(face), 3);
        for cut in 0..face.len() {
            let (left, right) = face.split_at(cut);
            assert_eq!(characters_begun(left) + characters_begun(right), 3);
        }
    }
}
