//! A `tokenizer.model` alone against SentencePiece itself and transformers; `tests/reference/pieces.py`
//! made the fixtures with both.

use std::path::{Path, PathBuf};

use bunny_core::input::{
    conversation::Segment,
    tokenizer::{Token, Tokenizer, TokenizerError},
};
use serde_json::Value;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pieces")
}

fn makes() -> Vec<(String, Tokenizer, Value)> {
    let expected = std::fs::read(fixtures().join("expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let makes = expected.as_object().unwrap().iter();
    makes
        .map(|(name, case)| {
            let tokenizer = Tokenizer::from_folder(fixtures().join(name)).unwrap();
            (name.clone(), tokenizer, case.clone())
        })
        .collect()
}

fn ids(list: &Value) -> Vec<u32> {
    let list = list.as_array().unwrap().iter();
    list.map(|id| id.as_u64().unwrap() as u32).collect()
}

fn texts(tokens: &[Token]) -> Vec<u32> {
    let id = |token: &Token| match token {
        Token::Text(id) => *id,
        Token::Picture(_) => panic!("there are no pictures"),
    };
    tokens.iter().map(id).collect()
}

#[test]
fn dirty_texts_have_the_ids_of_transformers_and_decode_to_its_words() {
    for (name, tokenizer, case) in makes() {
        let length = case["length"].as_u64().unwrap();
        assert_eq!(tokenizer.vocab_size() as u64, length, "{name}");
        for text in case["texts"].as_array().unwrap() {
            let given = text["text"].as_str().unwrap();
            // There it is a picture, here it is what it says.
            if given.contains("<image>") {
                continue;
            }
            let found = texts(&tokenizer.encode_prompt(given).unwrap());
            assert_eq!(found, ids(&text["ids"]), "{name}: {given:?}");
            let decoded = tokenizer.decode(&found).unwrap();
            assert_eq!(
                decoded,
                text["decoded"].as_str().unwrap(),
                "{name}: {given:?}"
            );
        }
    }
}

/// What people type is characters, `<s>` too, as SentencePiece has it.
#[test]
fn what_is_typed_has_the_ids_of_sentencepiece() {
    let mut compared = 0;
    for (name, tokenizer, case) in makes() {
        let begins = tokenizer.special_tokens().bos;
        for text in case["texts"].as_array().unwrap() {
            if text["pieces"].is_null() {
                continue;
            }
            let given = text["text"].as_str().unwrap();
            let encoded = tokenizer.encode(&[Segment::Prompt(given)]).unwrap();
            let expected: Vec<u32> = begins.into_iter().chain(ids(&text["pieces"])).collect();
            assert_eq!(texts(&encoded.tokens), expected, "{name}: {given:?}");
            compared += 1;
        }
    }
    assert!(compared > 300, "only {compared} texts");
}

#[test]
fn a_class_that_nobody_knows_and_damage_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("tokenizer_config.json");
    let model = folder.path().join("tokenizer.model");
    let whole = std::fs::read(fixtures().join("bpe/tokenizer.model")).unwrap();
    std::fs::write(&model, &whole).unwrap();
    for class in ["", "T5Tokenizer"] {
        std::fs::write(&config, format!("{{\"tokenizer_class\": \"{class}\"}}")).unwrap();
        let error = Tokenizer::from_folder(folder.path()).unwrap_err();
        let is_class =
            matches!(&error, TokenizerError::PiecesOfClass { class: named, .. } if named == class);
        assert!(is_class, "{error}");
    }
    std::fs::write(&config, "{\"tokenizer_class\": \"LlamaTokenizerFast\"}").unwrap();
    Tokenizer::from_folder(folder.path()).unwrap();
    let unigram = Tokenizer::from_folder(fixtures().join("unigram")).unwrap_err();
    assert!(
        unigram
            .to_string()
            .ends_with("its model is no BPE, the only kind that is read"),
        "{unigram}"
    );
    std::fs::write(&model, &whole[..whole.len() / 2]).unwrap();
    let error = Tokenizer::from_folder(folder.path()).unwrap_err();
    assert!(
        matches!(error, TokenizerError::SentencePiece { .. }),
        "{error}"
    );
}
