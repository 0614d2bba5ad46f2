//! The bytes that a token stands for: one token may be a part of a character.

use tokenizers::DecoderWrapper;

use super::Tokenizer;

impl Tokenizer {
    /// The bytes that a token adds to a text, those of its name for a special one; none beyond the
    /// vocabulary. An answer's first space, which some decoders take away, is there.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        let added = self.inner.get_added_vocabulary().get_added_tokens_decoder();
        if let Some(token) = added.get(&id) {
            return token.content.clone().into_bytes();
        }
        let token = self.inner.id_to_token(id).unwrap_or_default();
        if self.inner.get_decoder().is_some_and(is_byte_level) {
            return token.chars().filter_map(byte_of).collect();
        }
        let digits = token.strip_prefix("<0x").filter(|_| self.is_byte(id));
        match digits.and_then(|digits| u8::from_str_radix(digits.trim_end_matches('>'), 16).ok()) {
            Some(byte) => vec![byte],
            // SentencePiece's space.
            None => token.replace('▁', " ").into_bytes(),
        }
    }

    /// Bytes of the longest token, at least one.
    pub fn longest_token(&self) -> usize {
        let ids = 0..self.vocab_size() as u32;
        let bytes = ids.map(|id| self.token_bytes(id).len());
        bytes.max().unwrap_or(0).max(1)
    }
}

fn is_byte_level(decoder: &DecoderWrapper) -> bool {
    match decoder {
        DecoderWrapper::ByteLevel(_) => true,
        DecoderWrapper::Sequence(decoders) => decoders.get_decoders().iter().any(is_byte_level),
        _ => false,
    }
}

/// The byte that a character of a byte-level vocabulary stands for: GPT-2's `bytes_to_unicode`, backwards.
/// Bytes that can be seen are themselves, and the others follow from 256 on, in their order.
fn byte_of(character: char) -> Option<u8> {
    match u32::from(character) {
        seen @ (33..=126 | 161..=172 | 174..=255) => u8::try_from(seen).ok(),
        unseen @ 256..=323 => (0..=u8::MAX)
            .filter(|byte| !matches!(byte, 33..=126 | 161..=172 | 174..=255))
            .nth(unseen as usize - 256),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer(model: &str) -> Tokenizer {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/models/");
        let json = std::fs::read_to_string(format!("{folder}{model}/tokenizer.json")).unwrap();
        Tokenizer::from_json(&json, None).unwrap()
    }

    #[test]
    fn the_bytes_of_all_tokens_are_those_of_the_text() {
        let tokenizer = tokenizer("phi-siglip");
        for text in [" Hello, world", "naïve 兎 🐇 \u{a0}\u{ad}\n\t\u{1}", "€"] {
            let tokens = tokenizer.encode_prompt(text).unwrap();
            let bytes = tokens
                .iter()
                .flat_map(|token| tokenizer.token_bytes(u32::try_from(token.input_id()).unwrap()));
            assert_eq!(bytes.collect::<Vec<u8>>(), text.as_bytes());
        }
    }

    #[test]
    fn special_tokens_are_their_names_and_none_lie_beyond_the_vocabulary() {
        let tokenizer = tokenizer("phi-siglip");
        let end = tokenizer
            .special_tokens()
            .eos
            .or(tokenizer.token_to_id("<|endoftext|>"))
            .unwrap();
        assert_eq!(tokenizer.token_bytes(end), b"<|endoftext|>");
        assert_eq!(tokenizer.token_bytes(u32::MAX), b"");
    }

    #[test]
    fn a_vocabulary_of_pieces_has_bytes_of_its_own() {
        let json = r#"{"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
            "post_processor": null, "truncation": null, "padding": null, "decoder": null,
            "model": {"type": "BPE", "vocab": {"<0x0A>": 0, "▁hello": 1, "<0xFF>": 2}, "merges": []}}"#;
        let tokenizer = Tokenizer::from_json(json, None).unwrap();
        assert_eq!(tokenizer.token_bytes(0), b"\n");
        assert_eq!(tokenizer.token_bytes(1), b" hello");
        assert_eq!(tokenizer.token_bytes(2), [0xff]);
        assert_eq!(tokenizer.longest_token(), b" hello".len());
    }
}
