//! Conversations and tokenizers against transformers; `tests/reference/words.py` made the fixtures.

use std::fs;
use std::path::{Path, PathBuf};

use bunny_core::input::conversation::{
    Conversation, ConversationError, Message, Role, Segment, Template,
};
use bunny_core::input::tokenizer::{Encoded, Token, Tokenizer, TokenizerError};
use serde_json::Value;

const MAKES: [&str; 5] = [
    "codegen",
    "codegen-json",
    "qwen2",
    "sentencepiece",
    "tiktoken",
];

fn folder(make: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/words")
        .join(make)
}

fn tokenizer(make: &str) -> Tokenizer {
    Tokenizer::from_folder(folder(make)).unwrap()
}

/// Each make's tokenizer, with what is expected of it.
fn makes() -> impl Iterator<Item = (&'static str, Tokenizer, Value)> {
    let expected = fs::read(folder("expected.json")).unwrap();
    let mut expected: Value = serde_json::from_slice(&expected).unwrap();
    MAKES
        .into_iter()
        .map(move |make| (make, tokenizer(make), expected[make].take()))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn ids(value: &Value) -> Vec<i64> {
    list(value).iter().map(|id| id.as_i64().unwrap()).collect()
}

fn template(record: &Value) -> Template {
    text(&record["template"]).parse().unwrap()
}

fn conversation(record: &Value) -> Conversation {
    let sentences = list(&record["sentences"])
        .iter()
        .map(|pair| (text(&pair[0]), text(&pair[1])));
    Conversation::from_record(template(record), sentences, record["image"] == true).unwrap()
}

fn labels(encoded: &Encoded) -> Vec<i64> {
    let ids = encoded.input_ids();
    let mut labels = vec![-100; ids.len()];
    for answer in &encoded.answers {
        labels[answer.clone()].copy_from_slice(&ids[answer.clone()]);
    }
    labels
}

fn texts_of(tokens: &[Token]) -> Vec<u32> {
    let id = |token: &Token| match token {
        Token::Text(id) => Some(*id),
        Token::Picture(_) => None,
    };
    tokens.iter().filter_map(id).collect()
}

#[test]
fn lengths_and_special_tokens_are_those_of_transformers() {
    for (make, tokenizer, expected) in makes() {
        assert_eq!(
            tokenizer.vocab_size() as u64,
            expected["length"].as_u64().unwrap(),
            "{make}"
        );
        let special = tokenizer.special_tokens();
        for (name, id) in [
            ("bos", special.bos),
            ("eos", special.eos),
            ("unk", special.unk),
            ("pad", special.pad),
        ] {
            assert_eq!(
                id.map(u64::from),
                expected["special"][name].as_u64(),
                "{make} {name}"
            );
        }
    }
}

#[test]
fn texts_have_the_ids_and_decode_to_the_words_of_transformers() {
    for (make, tokenizer, expected) in makes() {
        for case in list(&expected["texts"]) {
            let tokens = tokenizer.encode_prompt(text(&case["text"])).unwrap();
            let found: Vec<i64> = tokens.iter().map(|token| token.input_id()).collect();
            assert_eq!(found, ids(&case["ids"]), "{make} {}", case["text"]);
            assert_eq!(
                tokenizer.decode(&texts_of(&tokens)).unwrap(),
                text(&case["decoded"]),
                "{make}"
            );
        }
    }
}

/// SplitMix64, as `tests/reference/engines.py` draws.
struct Draws(u64);

impl Draws {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % count as u64) as usize
    }

    fn of<'a>(&mut self, choices: &'a Value) -> &'a Value {
        &choices[self.below(list(choices).len())]
    }

    fn within(&mut self, first: u32, last: u32) -> char {
        let character = first + self.below((last - first + 1) as usize) as u32;
        char::from_u32(character).unwrap()
    }

    fn random_text(seed: u64, alphabet: &Value) -> String {
        let (mut draws, mut found) = (Self(seed), String::new());
        for _ in 0..1 + draws.below(12) {
            match draws.below(9) {
                0 => found.push(' '),
                1 => (0..1 + draws.below(8)).for_each(|_| found.push(draws.within(97, 122))),
                2 => (0..1 + draws.below(5)).for_each(|_| found.push(draws.within(48, 57))),
                3 => found.push_str(text(draws.of(&alphabet["contractions"]))),
                4 => {
                    let marks: Vec<char> = text(&alphabet["punctuation"]).chars().collect();
                    for _ in 0..1 + draws.below(3) {
                        found.push(marks[draws.below(marks.len())]);
                    }
                }
                5 => found.push_str(text(draws.of(&alphabet["spaces"]))),
                6 => {
                    let script = ids(draws.of(&alphabet["scripts"]));
                    for _ in 0..1 + draws.below(4) {
                        found.push(draws.within(script[0] as u32, script[1] as u32));
                    }
                }
                7 => found.push_str(text(draws.of(&alphabet["others"]))),
                _ => (0..1 + draws.below(3)).for_each(|_| found.push(draws.within(65, 90))),
            }
        }
        found
    }
}

#[test]
fn random_texts_have_the_ids_of_every_engine_of_expressions() {
    let expected = fs::read(folder("engines.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let texts = expected["texts"].as_u64().unwrap();
    for make in MAKES {
        let tokenizer = tokenizer(make);
        for (part, digest) in list(&expected["digests"][make]).iter().enumerate() {
            let mut found = 0x811C_9DC5_u32;
            for seed in part as u64 * texts..(part as u64 + 1) * texts {
                let text = Draws::random_text(seed, &expected["alphabet"]);
                let tokens = tokenizer.encode(&[Segment::Prompt(&text)]).unwrap().tokens;
                let ids = tokens.iter().map(|token| token.input_id());
                for id in ids.chain([-1]) {
                    found = (found ^ id as u32).wrapping_mul(0x0100_0193);
                }
            }
            assert_eq!(u64::from(found), digest.as_u64().unwrap(), "{make} {part}");
        }
    }
}

#[test]
fn records_have_the_text_ids_and_labels_of_the_reference() {
    let mut with_labels = 0;
    for (make, tokenizer, expected) in makes() {
        for record in list(&expected["records"]) {
            let conversation = conversation(record);
            assert_eq!(conversation.render(false), text(&record["text"]), "{make}");
            let encoded = tokenizer.encode(&conversation.segments(false)).unwrap();
            assert_eq!(
                encoded.input_ids(),
                ids(&record["ids"]),
                "{make} {}",
                record["text"]
            );
            // Where the reference's lengths disagree, it ignores the record.
            if !record["labels"].is_null() {
                assert_eq!(
                    labels(&encoded),
                    ids(&record["labels"]),
                    "{make} {}",
                    record["text"]
                );
                with_labels += 1;
            }
        }
    }
    assert!(with_labels >= 90, "{with_labels}");
}

#[test]
fn questions_have_the_text_and_ids_of_the_reference() {
    for (make, tokenizer, expected) in makes() {
        for record in list(&expected["records"])
            .iter()
            .filter(|record| record.get("asked").is_some())
        {
            let mut conversation = conversation(record);
            conversation.pop();
            assert_eq!(conversation.render(true), text(&record["asked"]), "{make}");
            let encoded = tokenizer.encode(&conversation.segments(true)).unwrap();
            assert_eq!(
                encoded.input_ids(),
                ids(&record["asked_ids"]),
                "{make} {}",
                record["asked"]
            );
            // Without a typed <image>, the shown text read back as a prompt is the same.
            if !text(&record["asked"]).contains("What does <image> mean") {
                let tokens = tokenizer.encode_prompt(text(&record["asked"])).unwrap();
                assert_eq!(tokens, encoded.tokens, "{make} {}", record["asked"]);
            }
        }
    }
}

#[test]
fn typed_special_tokens_and_placeholders_stay_text() {
    for (make, tokenizer, expected) in makes() {
        let template = template(&expected["records"][0]);
        let end = template.end_of_text().unwrap();
        for typed in [
            "<|endoftext|>",
            "</s>",
            "<|end_of_text|>",
            "<|begin_of_text|>",
            "<s>",
            "<image>",
            "<unk>",
        ] {
            for typed in [typed.to_owned(), format!("a {typed}b{typed}{end}")] {
                let mut chat = Conversation::new(template);
                chat.push(Message::user(typed.as_str()).with_picture())
                    .unwrap();
                chat.push(Message::assistant(format!("said {typed}")))
                    .unwrap();
                chat.push(Message::user(typed.as_str())).unwrap();
                let encoded = tokenizer.encode(&chat.segments(true)).unwrap();
                assert_eq!(encoded.pictures(), 1, "{make} {typed}");
                let end_id = tokenizer.token_to_id(end).unwrap();
                let ends = texts_of(&encoded.tokens)
                    .iter()
                    .filter(|id| **id == end_id)
                    .count();
                assert_eq!(ends, 1, "{make} {typed}");
                // Decoding leaves special tokens out; all that was typed is still there.
                let words = tokenizer.decode(&texts_of(&encoded.tokens)).unwrap();
                assert_eq!(words.matches(typed.as_str()).count(), 3, "{make} {words}");
                // What is learnt is the answer, to its end.
                let answer = &encoded.tokens[encoded.answers[0].clone()];
                assert_eq!(answer.last(), Some(&Token::Text(end_id)), "{make} {typed}");
                let answer = tokenizer.decode(&texts_of(answer)).unwrap();
                assert_eq!(answer.trim_start(), format!("said {typed}"), "{make}");
            }
        }
    }
}

#[test]
fn an_answer_that_quotes_the_template_is_learnt_whole() {
    // The reference's arithmetic drops such a record.
    for (make, tokenizer, expected) in makes() {
        let quoting = "They say USER: hi ASSISTANT: hello.";
        let mut chat = Conversation::new(template(&expected["records"][0]));
        chat.push(Message::user("Quote.")).unwrap();
        chat.push(Message::assistant(quoting)).unwrap();
        let encoded = tokenizer.encode(&chat.segments(false)).unwrap();
        assert_eq!(encoded.answers.len(), 1);
        let answer = texts_of(&encoded.tokens[encoded.answers[0].clone()]);
        assert_eq!(
            tokenizer.decode(&answer).unwrap().trim_start(),
            quoting,
            "{make}"
        );
    }
}

#[test]
fn pictures_are_numbered_in_reading_order() {
    let tokenizer = tokenizer("tiktoken");
    let mut chat = Conversation::new(Template::Llama);
    chat.push(Message::user("Compare.").with_picture().with_picture())
        .unwrap();
    chat.push(Message::assistant("Alike.")).unwrap();
    chat.push(Message::user("And this?").with_picture())
        .unwrap();
    assert_eq!(chat.pictures(), 3);
    assert!(chat.render(true).contains(
        "USER: <image>\n<image>\nCompare. ASSISTANT: Alike.<|end_of_text|>USER: <image>\nAnd"
    ));
    let encoded = tokenizer.encode(&chat.segments(true)).unwrap();
    let slots: Vec<Token> = encoded
        .tokens
        .iter()
        .copied()
        .filter(|token| matches!(token, Token::Picture(_)))
        .collect();
    assert_eq!(
        slots,
        [Token::Picture(0), Token::Picture(1), Token::Picture(2)]
    );
    assert_eq!(
        encoded.tokens,
        tokenizer.encode_prompt(&chat.render(true)).unwrap()
    );
}

#[test]
fn a_last_answer_is_continued_where_it_stops() {
    let mut chat = Conversation::new(Template::Bunny);
    chat.push(Message::user("Tell a story.")).unwrap();
    chat.push(Message::assistant("Once upon")).unwrap();
    assert!(
        chat.render(true)
            .ends_with("USER: Tell a story. ASSISTANT: Once upon")
    );
    assert!(
        chat.render(false)
            .ends_with("ASSISTANT: Once upon<|endoftext|>")
    );
}

#[test]
fn streams_say_what_decoding_says() {
    let mut seed = 1u64;
    let mut random = || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as u32
    };
    for (make, tokenizer, expected) in makes() {
        let size = tokenizer.vocab_size() as u32;
        let mut sequences: Vec<Vec<u32>> = list(&expected["texts"])
            .iter()
            .map(|case| ids(&case["ids"]).into_iter().map(|id| id as u32).collect())
            .collect();
        // Random ids are full of broken characters.
        sequences.extend((0..2000).map(|_| (0..random() % 24).map(|_| random() % size).collect()));
        for sequence in sequences {
            let mut stream = tokenizer.stream();
            let mut said = String::new();
            for id in &sequence {
                said += &stream.push(*id).unwrap();
            }
            said += &stream.finish().unwrap();
            assert_eq!(
                said,
                tokenizer.decode(&sequence).unwrap(),
                "{make} {sequence:?}"
            );
        }
    }
}

#[test]
fn streams_say_whole_characters_only() {
    for (make, tokenizer, _) in makes() {
        let words = "Grüße, señor! 猫と犬 🐱🐶";
        let tokens = tokenizer.encode_prompt(words).unwrap();
        assert!(tokens.len() > words.chars().count() / 2);
        let mut stream = tokenizer.stream();
        let mut pieces: Vec<String> = texts_of(&tokens)
            .into_iter()
            .map(|id| stream.push(id).unwrap())
            .collect();
        pieces.push(stream.finish().unwrap());
        assert!(
            pieces.iter().all(|piece| !piece.contains('\u{fffd}')),
            "{make} {pieces:?}"
        );
        assert!(
            pieces.iter().filter(|piece| !piece.is_empty()).count() > 5,
            "{make} {pieces:?}"
        );
        assert_eq!(pieces.concat(), words, "{make}");
    }
}

#[test]
fn the_template_of_another_model_is_an_error() {
    let mut chat = Conversation::new(Template::Llama);
    chat.push(Message::user("Hello?")).unwrap();
    chat.push(Message::assistant("Hello.")).unwrap();
    let error = tokenizer("codegen")
        .encode(&chat.segments(false))
        .unwrap_err();
    assert!(
        matches!(&error, TokenizerError::NoSuchToken { token } if token == "<|end_of_text|>"),
        "{error}"
    );
}

#[test]
fn folders_without_a_tokenizer_and_damaged_files_are_errors() {
    let empty = tempfile::tempdir().unwrap();
    let error = Tokenizer::from_folder(empty.path()).unwrap_err();
    assert!(matches!(error, TokenizerError::NotFound { .. }), "{error}");
    fs::write(empty.path().join("tokenizer.model"), "pieces").unwrap();
    let error = Tokenizer::from_folder(empty.path()).unwrap_err();
    assert!(
        matches!(error, TokenizerError::PiecesOfClass { .. }),
        "{error}"
    );

    fs::write(empty.path().join("tokenizer.json"), "{\"model\": 3}").unwrap();
    let error = Tokenizer::from_folder(empty.path()).unwrap_err();
    assert!(matches!(error, TokenizerError::Load { .. }), "{error}");

    fs::write(empty.path().join("tokenizer_config.json"), "[]").unwrap();
    let error = Tokenizer::from_folder(empty.path()).unwrap_err();
    assert!(matches!(error, TokenizerError::Json { .. }), "{error}");
}

#[test]
fn added_tokens_that_do_not_fit_the_vocabulary_are_an_error() {
    let copy = tempfile::tempdir().unwrap();
    for name in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
        fs::copy(folder("codegen").join(name), copy.path().join(name)).unwrap();
    }
    fs::write(copy.path().join("added_tokens.json"), "{\"  \": 9999}").unwrap();
    let error = Tokenizer::from_folder(copy.path()).unwrap_err();
    assert!(
        matches!(error, TokenizerError::MisplacedToken { id: 9999, .. }),
        "{error}"
    );
}

#[test]
fn a_vocabulary_of_an_unknown_class_is_an_error() {
    let copy = tempfile::tempdir().unwrap();
    for name in ["vocab.json", "merges.txt"] {
        fs::copy(folder("codegen").join(name), copy.path().join(name)).unwrap();
    }
    let error = Tokenizer::from_folder(copy.path()).unwrap_err();
    assert!(matches!(error, TokenizerError::NoClass { .. }), "{error}");

    let config = r#"{"tokenizer_class": "ElsewhereTokenizerFast"}"#;
    fs::write(copy.path().join("tokenizer_config.json"), config).unwrap();
    let error = Tokenizer::from_folder(copy.path()).unwrap_err();
    assert!(
        matches!(&error, TokenizerError::UnknownClass { class, .. } if class == "ElsewhereTokenizer"),
        "{error}"
    );
}

#[test]
fn tokenizers_say_whether_they_begin_sequences() {
    let adding: Vec<&str> = MAKES
        .into_iter()
        .filter(|make| tokenizer(make).adds_bos().unwrap())
        .collect();
    assert_eq!(adding, ["sentencepiece", "tiktoken"]);
}

#[test]
fn llama_classes_begin_sequences_by_their_flag() {
    let json = fs::read_to_string(folder("sentencepiece").join("tokenizer.json")).unwrap();
    for (config, adds) in [
        (r#"{"tokenizer_class": "LlamaTokenizer"}"#, true),
        (
            r#"{"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": true}"#,
            true,
        ),
        (
            r#"{"tokenizer_class": "LlamaTokenizer", "add_bos_token": false}"#,
            false,
        ),
    ] {
        let tokenizer = Tokenizer::from_json(&json, Some(config)).unwrap();
        assert_eq!(tokenizer.adds_bos().unwrap(), adds, "{config}");
        assert_eq!(tokenizer.special_tokens().eos, Some(2));
    }
}

#[test]
fn padding_falls_back_to_unknown_and_then_to_the_end() {
    assert_eq!(tokenizer("codegen").pad_id(), Some(0));
    assert_eq!(tokenizer("sentencepiece").pad_id(), Some(0));
    let tiktoken = tokenizer("tiktoken");
    assert_eq!(tiktoken.pad_id(), tiktoken.special_tokens().eos);
    let end = tiktoken.token_to_id("<|end_of_text|>").unwrap();
    let tiktoken = tiktoken.with_eos(end);
    assert_eq!(
        (tiktoken.special_tokens().eos, tiktoken.pad_id()),
        (Some(end), Some(end))
    );
}

#[test]
fn turns_alternate_and_the_user_begins() {
    let mut chat = Conversation::new(Template::Bunny);
    let first = chat.push(Message::assistant("I begin."));
    assert_eq!(
        first,
        Err(ConversationError::OutOfTurn {
            role: Role::Assistant,
            index: 0
        })
    );
    chat.push(Message::user("Hello?")).unwrap();
    let again = chat.push(Message::user("Hello?"));
    assert_eq!(
        again,
        Err(ConversationError::OutOfTurn {
            role: Role::User,
            index: 1
        })
    );
    let strange = Conversation::from_record(Template::Bunny, [("human", "a"), ("bot", "b")], false);
    assert_eq!(
        strange,
        Err(ConversationError::UnknownSpeaker {
            from: "bot".to_owned(),
            index: 1
        })
    );
}

#[test]
fn the_plain_template_wants_a_picture_and_one_caption() {
    for (sentences, has_picture) in [
        (&[("human", "no picture"), ("gpt", "a")][..], true),
        (&[("human", "<image>"), ("gpt", "a")][..], false),
        (&[("human", "<image>")][..], true),
        (
            &[
                ("human", "<image>"),
                ("gpt", "a"),
                ("human", "b"),
                ("gpt", "c"),
            ][..],
            true,
        ),
    ] {
        let found =
            Conversation::from_record(Template::Plain, sentences.iter().copied(), has_picture);
        assert!(
            matches!(found, Err(ConversationError::NotACaption { .. })),
            "{sentences:?}"
        );
    }
}

#[test]
fn templates_are_found_by_name_and_unknown_names_are_errors() {
    for template in Template::ALL {
        assert_eq!(template.name().parse(), Ok(template));
    }
    assert_eq!("default".parse(), Ok(Template::Bunny));
    assert!(
        "vicuna"
            .parse::<Template>()
            .unwrap_err()
            .to_string()
            .contains("`vicuna`")
    );
}
