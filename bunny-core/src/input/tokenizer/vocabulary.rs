//! A tokenizer taken apart, as file formats beside `tokenizer.json` have it, and put together again.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use serde_json::{Map, Value, json};

use super::{Tokenizer, TokenizerError, files::QWEN2_WORDS};

/// How Llama-3 cuts text into words: as Qwen2, but for up to three digits at a time.
const LLAMA3_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What stands for a blank in pieces.
const BLANK: char = '▁';

/// How text is cut into words, within which tokens merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Words {
    /// As GPT-2: letters, digits and other marks apart, each with the blank before it.
    Gpt2,
    /// The same, every digit by itself.
    SingleDigits,
    /// As Qwen2: line ends apart, every digit by itself, contractions in any case.
    Qwen2,
    /// As Llama-3: the same, up to three digits together, and a word that is a token is that token.
    Llama3,
}

/// What tokens are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Alphabet {
    /// Bytes, each written as a letter; pairs merge as they are listed.
    Bytes {
        /// How text is cut.
        words: Words,
    },
    /// SentencePiece's pieces: letters, and bytes for what is none. The pair merges first whose whole
    /// has the highest score.
    Pieces {
        /// Whether a text has a blank put before it.
        begins_with_blank: bool,
    },
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenRole {
    /// A stretch of text that merging makes.
    Normal,
    /// What stands for anything unknown.
    Unknown,
    /// A mark that no text holds.
    Special,
    /// Text that is taken whole wherever it stands.
    Added,
    /// Nothing: a row without a token.
    Unused,
    /// A byte of what no piece has.
    Byte,
}

/// A token of a [`Vocabulary`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VocabularyToken {
    /// Its text; of an alphabet of bytes, as letters that stand for them, unless it is added or special.
    pub text: String,
    /// What it is.
    pub role: TokenRole,
}

/// All there is to know of a tokenizer.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    /// What tokens are made of.
    pub alphabet: Alphabet,
    /// The tokens by their ids.
    pub tokens: Vec<VocabularyToken>,
    /// Pairs that merge, the first of them first; none where [`scores`](Self::scores) decide.
    pub merges: Vec<[String; 2]>,
    /// How soon a piece is made of two, the highest first; none where merges are listed.
    pub scores: Vec<f32>,
    /// The token that is put before every text.
    pub begins_with: Option<u32>,
}

/// The special tokens of a tokenizer that is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NamedTokens {
    /// Beginning of sequence.
    pub bos: Option<u32>,
    /// End of sequence.
    pub eos: Option<u32>,
    /// Unknown.
    pub unk: Option<u32>,
    /// Padding.
    pub pad: Option<u32>,
}

/// The files of a tokenizer, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizerJson {
    /// `tokenizer.json`.
    pub tokenizer: String,
    /// `tokenizer_config.json`.
    pub config: String,
}

impl Tokenizer {
    /// What this tokenizer is made of.
    ///
    /// # Errors
    /// [`TokenizerError::NotPortable`] where it does something that other formats have no words for.
    pub fn vocabulary(&self) -> Result<Vocabulary, TokenizerError> {
        let text = self.inner.to_string(false);
        let text = text.map_err(|source| TokenizerError::Encode { source })?;
        let json: Value = serde_json::from_str(&text).map_err(|_| not_portable("its own form"))?;
        let model = &json["model"];
        if model["type"] != "BPE" {
            return Err(not_portable("tokens that are not made by merging pairs"));
        }
        let is_pieces = model["byte_fallback"] == true;
        let alphabet = match is_pieces {
            true => Alphabet::Pieces {
                begins_with_blank: begins_with_blank(&json)?,
            },
            false => Alphabet::Bytes {
                words: words(&json)?,
            },
        };
        let mut tokens = vec![None; self.vocab_size()];
        let unknown = model["unk_token"].as_str();
        for (text, id) in model["vocab"].as_object().into_iter().flatten() {
            let role = match is_pieces {
                true if Some(text.as_str()) == unknown => TokenRole::Unknown,
                true if is_byte(text) => TokenRole::Byte,
                _ => TokenRole::Normal,
            };
            put(&mut tokens, id, text, role);
        }
        for token in json["added_tokens"].as_array().into_iter().flatten() {
            let text = token["content"].as_str().unwrap_or_default();
            let role = match token["special"] == true {
                true if is_pieces && Some(text) == unknown => TokenRole::Unknown,
                true => TokenRole::Special,
                false => TokenRole::Added,
            };
            put(&mut tokens, &token["id"], text, role);
        }
        let tokens: Option<Vec<_>> = tokens.into_iter().collect();
        let tokens = tokens.ok_or_else(|| not_portable("ids without tokens"))?;
        let merges = merges(&model["merges"])?;
        let (merges, scores) = match is_pieces {
            true => (Vec::new(), scores(&tokens, &merges)),
            false => (merges, Vec::new()),
        };
        Ok(Vocabulary {
            alphabet,
            tokens,
            merges,
            scores,
            begins_with: self.begins_with()?,
        })
    }

    /// The text of the token that is put before every text.
    ///
    /// # Errors
    /// [`TokenizerError::NotPortable`] where more than one token is put around it.
    pub(crate) fn beginning(&self) -> Result<Option<String>, TokenizerError> {
        let id = self.begins_with()?;
        Ok(id.and_then(|id| self.inner.id_to_token(id)))
    }

    /// The token that is put before every text.
    fn begins_with(&self) -> Result<Option<u32>, TokenizerError> {
        let ids = |text| -> Result<Vec<u32>, TokenizerError> {
            let pieces = self.pieces(&self.inner, text, true)?;
            Ok(pieces.into_iter().map(|(id, _)| id).collect())
        };
        match ids("")?[..] {
            [] => Ok(None),
            [id] if ids("a")?.first() == Some(&id) => Ok(Some(id)),
            _ => Err(not_portable("several tokens around a text")),
        }
    }

    /// Puts a tokenizer together; `file` is what it is called in errors.
    ///
    /// # Errors
    /// When two tokens are the same, or the library refuses them.
    pub fn from_vocabulary(
        vocabulary: &Vocabulary,
        named: NamedTokens,
        file: &Path,
    ) -> Result<(Self, TokenizerJson), TokenizerError> {
        let mut texts = HashSet::with_capacity(vocabulary.tokens.len());
        for (id, token) in vocabulary.tokens.iter().enumerate() {
            if !texts.insert(&token.text) {
                return Err(TokenizerError::TokenTwice {
                    path: file.into(),
                    token: token.text.clone(),
                    id,
                });
            }
        }
        let json = TokenizerJson {
            tokenizer: vocabulary.json(named).to_string(),
            config: format!("{:#}\n", vocabulary.config_json(named)),
        };
        let fields = vocabulary.config_json(named);
        let fields = fields.as_object().cloned().unwrap_or_default();
        let tokenizer = Self::from_parts(&json.tokenizer, fields, file)?;
        Ok((tokenizer, json))
    }
}

impl Vocabulary {
    fn text(&self, id: Option<u32>) -> Option<&str> {
        let token = self.tokens.get(id? as usize)?;
        Some(&token.text)
    }

    /// `tokenizer_config.json`.
    fn config_json(&self, named: NamedTokens) -> Value {
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": false,
        });
        for (field, id) in [
            ("bos_token", named.bos),
            ("eos_token", named.eos),
            ("unk_token", named.unk),
            ("pad_token", named.pad),
        ] {
            if let Some(text) = self.text(id) {
                config[field] = text.into();
            }
        }
        config
    }

    /// `tokenizer.json`.
    fn json(&self, named: NamedTokens) -> Value {
        // Added tokens behind all others need no place in the model's own vocabulary.
        let is_added =
            |token: &VocabularyToken| matches!(token.role, TokenRole::Special | TokenRole::Added);
        let last = self.tokens.iter().rposition(|token| !is_added(token));
        let own = last.map_or(0, |last| last + 1);
        let vocab: Map<String, Value> = (0u32..)
            .zip(&self.tokens[..own])
            .map(|(id, token)| (token.text.clone(), id.into()))
            .collect();
        let added = |token: &VocabularyToken| is_added(token) || token.role == TokenRole::Unknown;
        let added: Vec<Value> = (0u32..)
            .zip(&self.tokens)
            .filter(|(_, token)| added(token))
            .map(|(id, token)| {
                json!({
                    "id": id,
                    "content": token.text,
                    "single_word": false,
                    "lstrip": false,
                    "rstrip": false,
                    "normalized": false,
                    "special": token.role != TokenRole::Added,
                })
            })
            .collect();
        let processor = match (self.begins_with, self.text(self.begins_with)) {
            (Some(id), Some(text)) => json!({
                "type": "TemplateProcessing",
                "single": [
                    {"SpecialToken": {"id": text, "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}},
                ],
                "pair": [
                    {"SpecialToken": {"id": text, "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}},
                    {"SpecialToken": {"id": text, "type_id": 1}},
                    {"Sequence": {"id": "B", "type_id": 1}},
                ],
                "special_tokens": {text: {"id": text, "ids": [id], "tokens": [text]}},
            }),
            _ => Value::Null,
        };
        let (normalizer, cuts, decoder) = self.alphabet.json();
        let is_pieces = matches!(self.alphabet, Alphabet::Pieces { .. });
        let words = Alphabet::Bytes {
            words: Words::Llama3,
        };
        let unknown = self.text(named.unk).filter(|_| is_pieces);
        let made;
        let merges = match is_pieces {
            true => {
                made = self.merges_of_scores();
                &made
            }
            false => &self.merges,
        };
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": normalizer,
            "pre_tokenizer": cuts,
            "post_processor": processor,
            "decoder": decoder,
            "model": {
                "type": "BPE",
                "dropout": null,
                "unk_token": unknown,
                "continuing_subword_prefix": null,
                "end_of_word_suffix": null,
                "fuse_unk": is_pieces,
                "byte_fallback": is_pieces,
                "ignore_merges": self.alphabet == words,
                "vocab": vocab,
                "merges": merges,
            },
        })
    }

    /// The pairs of pieces that are a piece together, by the score of the whole.
    fn merges_of_scores(&self) -> Vec<[String; 2]> {
        let pieces = self.tokens.iter().zip(&self.scores);
        let pieces = pieces.filter(|(token, _)| token.role == TokenRole::Normal);
        let places: HashMap<&str, usize> = pieces
            .clone()
            .enumerate()
            .map(|(at, (token, _))| (token.text.as_str(), at))
            .collect();
        let mut pairs = Vec::new();
        for (token, score) in pieces {
            let whole = token.text.as_str();
            let ends = whole.char_indices().map(|(at, _)| at).skip(1);
            for at in ends.take(LONGEST_PIECE) {
                let (left, right) = whole.split_at(at);
                if let (Some(first), Some(second)) = (places.get(left), places.get(right)) {
                    pairs.push((*score, *first, *second, left, right));
                }
            }
        }
        // Of equal scores the one whose parts are listed first.
        pairs.sort_by(|a, b| {
            let by_place = || (a.1, a.2).cmp(&(b.1, b.2));
            b.0.total_cmp(&a.0).then_with(by_place)
        });
        let pairs = pairs.into_iter();
        pairs
            .map(|(_, _, _, left, right)| [left.to_owned(), right.to_owned()])
            .collect()
    }
}

/// Letters of a piece beyond which it is not looked for others in it.
const LONGEST_PIECE: usize = 512;

impl Alphabet {
    /// `normalizer`, `pre_tokenizer` and `decoder`.
    fn json(self) -> (Value, Value, Value) {
        let bytes = |use_regex: bool| {
            json!({
                "type": "ByteLevel",
                "add_prefix_space": false,
                "trim_offsets": true,
                "use_regex": use_regex,
            })
        };
        let split = |regex: &str| {
            let split = json!({
                "type": "Split",
                "pattern": {"Regex": regex},
                "behavior": "Isolated",
                "invert": false,
            });
            json!({"type": "Sequence", "pretokenizers": [split, bytes(false)]})
        };
        let replace = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
        match self {
            Self::Bytes { words } => {
                let cuts = match words {
                    Words::Gpt2 => bytes(true),
                    Words::SingleDigits => json!({
                        "type": "Sequence",
                        "pretokenizers": [
                            {"type": "Digits", "individual_digits": true},
                            bytes(true),
                        ],
                    }),
                    Words::Qwen2 => split(QWEN2_WORDS),
                    Words::Llama3 => split(LLAMA3_WORDS),
                };
                // Published tokenizers that cut so compose letters and their accents first.
                let normalizer = match words {
                    Words::Qwen2 => json!({"type": "NFC"}),
                    _ => Value::Null,
                };
                (normalizer, cuts, bytes(true))
            }
            Self::Pieces { begins_with_blank } => {
                let blank = BLANK.to_string();
                let mut normalizers = vec![replace(" ", &blank)];
                let mut decoders = vec![
                    replace(&blank, " "),
                    json!({"type": "ByteFallback"}),
                    json!({"type": "Fuse"}),
                ];
                if begins_with_blank {
                    normalizers.insert(0, json!({"type": "Prepend", "prepend": blank}));
                    decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
                }
                (
                    json!({"type": "Sequence", "normalizers": normalizers}),
                    Value::Null,
                    json!({"type": "Sequence", "decoders": decoders}),
                )
            }
        }
    }
}

fn not_portable(what: &'static str) -> TokenizerError {
    TokenizerError::NotPortable { what }
}

fn put(tokens: &mut [Option<VocabularyToken>], id: &Value, text: &str, role: TokenRole) {
    let place = id.as_u64().and_then(|id| tokens.get_mut(id as usize));
    if let Some(place) = place {
        *place = Some(VocabularyToken {
            text: text.to_owned(),
            role,
        });
    }
}

/// A byte of SentencePiece, `<0x0A>`.
fn is_byte(text: &str) -> bool {
    let digits = text
        .strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

/// Pairs, each of which is a list of two or a text with a blank between.
fn merges(listed: &Value) -> Result<Vec<[String; 2]>, TokenizerError> {
    let pair = |pair: &Value| {
        let [left, right] = match pair {
            Value::String(text) => text.split_once(' ').map(|(left, right)| [left, right])?,
            _ => [pair.get(0)?.as_str()?, pair.get(1)?.as_str()?],
        };
        Some([left.to_owned(), right.to_owned()])
    };
    let pairs: Option<Vec<_>> = listed.as_array().into_iter().flatten().map(pair).collect();
    pairs.ok_or_else(|| not_portable("merges that are no pairs"))
}

/// Scores by which pieces merge in the order of their pairs: minus the place of the first pair that makes
/// them, and behind all of these what no pair makes.
fn scores(tokens: &[VocabularyToken], merges: &[[String; 2]]) -> Vec<f32> {
    let mut places = HashMap::with_capacity(merges.len());
    for [left, right] in merges {
        let place = places.len();
        places.entry(format!("{left}{right}")).or_insert(place);
    }
    let of_token = |token: &VocabularyToken| match token.role {
        TokenRole::Normal => {
            let place = places.get(&token.text).copied();
            -(place.unwrap_or(places.len()) as f32)
        }
        _ => 0.0,
    };
    tokens.iter().map(of_token).collect()
}

/// How a byte-level tokenizer cuts text.
fn words(json: &Value) -> Result<Words, TokenizerError> {
    let cuts = &json["pre_tokenizer"];
    let is_bytes = |step: &Value, use_regex: bool| {
        step["type"] == "ByteLevel"
            && step["add_prefix_space"] == false
            && step["use_regex"].as_bool().unwrap_or(true) == use_regex
    };
    let found = match cuts["pretokenizers"].as_array().map(Vec::as_slice) {
        None if is_bytes(cuts, true) => Some(Words::Gpt2),
        Some([digits, bytes])
            if digits["type"] == "Digits"
                && digits["individual_digits"] == true
                && is_bytes(bytes, true) =>
        {
            Some(Words::SingleDigits)
        }
        Some([split, bytes])
            if split["type"] == "Split"
                && split["behavior"] == "Isolated"
                && split["invert"] == false
                && is_bytes(bytes, false) =>
        {
            match split["pattern"]["Regex"].as_str() {
                Some(QWEN2_WORDS) => Some(Words::Qwen2),
                Some(LLAMA3_WORDS) => Some(Words::Llama3),
                _ => None,
            }
        }
        _ => None,
    };
    // Qwen2 composes letters and their accents first, which most texts have composed already.
    let is_plain = json["normalizer"].is_null()
        || found == Some(Words::Qwen2) && json["normalizer"]["type"] == "NFC";
    found
        .filter(|_| is_plain)
        .ok_or_else(|| not_portable("a way of its own to cut text into words"))
}

/// Whether SentencePiece's text has a blank put before it.
fn begins_with_blank(json: &Value) -> Result<bool, TokenizerError> {
    let is_replace = |step: &Value| {
        step["type"] == "Replace"
            && step["pattern"]["String"] == " "
            && step["content"] == BLANK.to_string()
    };
    let is_prepend =
        |step: &Value| step["type"] == "Prepend" && step["prepend"] == BLANK.to_string();
    let (normalizer, cuts) = (&json["normalizer"], &json["pre_tokenizer"]);
    let found = match normalizer["normalizers"].as_array().map(Vec::as_slice) {
        _ if cuts["type"] == "Metaspace" && normalizer.is_null() => {
            match cuts["prepend_scheme"].as_str() {
                Some("always") => Some(true),
                Some("never") => Some(false),
                _ => None,
            }
        }
        _ if !cuts.is_null() => None,
        Some([prepend, replace]) if is_prepend(prepend) && is_replace(replace) => Some(true),
        Some([replace]) if is_replace(replace) => Some(false),
        None if is_replace(normalizer) => Some(false),
        _ => None,
    };
    found.ok_or_else(|| not_portable("a way of its own to treat blanks"))
}
