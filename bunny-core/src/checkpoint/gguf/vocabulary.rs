//! A tokenizer as keys of a GGUF file.

use std::path::Path;

use bunny_weights::{
    CheckpointError, GgufError,
    gguf::{Array, GgufFile, Metadata, Value},
};

use super::architecture::{Architecture, Kind};
use crate::{
    Error,
    config::{BunnyConfig, Family},
    input::tokenizer::{
        Alphabet, NamedTokens, TokenRole, Tokenizer, TokenizerJson, Vocabulary, VocabularyToken,
        Words,
    },
};

/// Ways to cut text into words under the names that llama.cpp has for them. Of those with the same words,
/// the first is written.
static WORDS: [(&str, Words); 15] = [
    ("gpt-2", Words::Gpt2),
    ("phi-2", Words::Gpt2),
    ("smollm", Words::SingleDigits),
    ("starcoder", Words::SingleDigits),
    ("refact", Words::SingleDigits),
    ("command-r", Words::SingleDigits),
    ("qwen2", Words::Qwen2),
    ("stablelm2", Words::Qwen2),
    ("deepseek-r1-qwen", Words::Qwen2),
    ("megrez", Words::Qwen2),
    ("llama-bpe", Words::Llama3),
    ("llama3", Words::Llama3),
    ("llama-v3", Words::Llama3),
    ("falcon3", Words::Llama3),
    ("pixtral", Words::Llama3),
];

/// What tokens are, by the numbers of `tokenizer.ggml.token_type`.
static ROLES: [(i32, TokenRole); 6] = [
    (1, TokenRole::Normal),
    (2, TokenRole::Unknown),
    (3, TokenRole::Special),
    (4, TokenRole::Added),
    (5, TokenRole::Unused),
    (6, TokenRole::Byte),
];

fn key(name: &str) -> String {
    format!("tokenizer.ggml.{name}")
}

/// What a file says of a model's tokenizer; `rows` are those of its table, which has a token for each.
pub(super) fn keys(
    tokenizer: &Tokenizer,
    config: &BunnyConfig,
    rows: usize,
) -> Result<Metadata, Error> {
    let vocabulary = tokenizer.vocabulary()?;
    let mut tokens: Vec<&str> = vocabulary.tokens.iter().map(|token| &*token.text).collect();
    let role = |token: &VocabularyToken| {
        let found = ROLES.iter().find(|(_, role)| *role == token.role);
        found.map_or(1, |(number, _)| *number)
    };
    let mut roles: Vec<i32> = vocabulary.tokens.iter().map(role).collect();
    let padding: Vec<String> = (tokens.len()..rows)
        .map(|id| format!("[PAD{id}]"))
        .collect();
    tokens.extend(padding.iter().map(String::as_str));
    roles.resize(tokens.len(), 5);
    let mut said = vec![
        ("tokens", Value::from(Array::of_texts(&tokens))),
        ("token_type", Array::of_integers(&roles).into()),
        ("add_bos_token", vocabulary.begins_with.is_some().into()),
    ];
    match vocabulary.alphabet {
        Alphabet::Bytes { words } => {
            let pairs = vocabulary.merges.iter();
            let merges = Array::of_texts(pairs.map(|[left, right]| format!("{left} {right}")));
            said.push(("model", "gpt2".into()));
            said.push(("pre", name_of(words, config.family).into()));
            said.push(("merges", merges.into()));
        }
        Alphabet::Pieces { begins_with_blank } => {
            let mut scores = vocabulary.scores.clone();
            scores.resize(tokens.len(), f32::MIN / 2.0);
            said.push(("model", "llama".into()));
            said.push(("pre", "default".into()));
            said.push(("scores", Array::of_floats(&scores).into()));
            said.push(("add_space_prefix", begins_with_blank.into()));
        }
    }
    let end = tokenizer.token_to_id(Architecture::end_of_text(config));
    let end = end.or(config.eos_token_id());
    let special = tokenizer.special_tokens();
    // Without them llama.cpp takes numbers of other models'.
    for (name, id) in [
        (
            "bos_token_id",
            vocabulary.begins_with.or(special.bos).or(end),
        ),
        ("eos_token_id", end),
        ("padding_token_id", tokenizer.pad_id().or(end)),
        ("unknown_token_id", special.unk),
    ] {
        if let Some(id) = id {
            said.push((name, id.into()));
        }
    }
    let said = said.into_iter();
    Ok(said.map(|(name, value)| (key(name), value)).collect())
}

/// What llama.cpp calls a way to cut text, that of a family's own tokenizer first.
fn name_of(words: Words, family: Family) -> &'static str {
    let own = match words {
        Words::Gpt2 if family == Family::PHI => Some("phi-2"),
        Words::Qwen2 if family == Family::STABLELM => Some("stablelm2"),
        _ => None,
    };
    let mut known = WORDS.iter();
    let mut first = || known.find(|(_, known)| *known == words);
    own.or_else(|| first().map(|(name, _)| *name))
        .unwrap_or("default")
}

/// A tokenizer that was read, and its files.
pub(super) struct Read {
    pub tokenizer: Tokenizer,
    pub json: TokenizerJson,
}

/// How many tokens a file has.
pub(super) fn count(file: &GgufFile) -> Result<usize, Error> {
    Ok(Said { file }.tokens()?.len())
}

/// Fields of `config.json` with the ids that a text begins and ends with, as far as a file says them.
pub(super) fn ends(file: &GgufFile) -> Vec<(&'static str, u32)> {
    let said = Said { file };
    let id = |name: &str| u32::try_from(said.get(name)?.integer()?).ok();
    let fields = ["bos_token_id", "eos_token_id"].into_iter();
    fields.filter_map(|name| Some((name, id(name)?))).collect()
}

/// Puts the tokenizer of a file together.
pub(super) fn read(file: &GgufFile, architecture: &Architecture) -> Result<Read, Error> {
    let said = Said { file };
    let vocabulary = said.vocabulary(architecture)?;
    let named = NamedTokens {
        bos: said.token("bos_token_id", &vocabulary)?,
        eos: said.token("eos_token_id", &vocabulary)?,
        unk: said.token("unknown_token_id", &vocabulary)?,
        pad: said.token("padding_token_id", &vocabulary)?,
    };
    let named = match vocabulary.alphabet {
        // Pieces need one, which has always been the first.
        Alphabet::Pieces { .. } => NamedTokens {
            unk: named.unk.or_else(|| {
                let mut tokens = vocabulary.tokens.iter();
                let at = tokens.position(|token| token.role == TokenRole::Unknown);
                at.map(|at| at as u32)
            }),
            ..named
        },
        Alphabet::Bytes { .. } => named,
    };
    let (tokenizer, json) = Tokenizer::from_vocabulary(&vocabulary, named, file.path())?;
    Ok(Read { tokenizer, json })
}

/// The keys of a file that tell of its tokenizer.
struct Said<'a> {
    file: &'a GgufFile,
}

impl Said<'_> {
    fn fault(&self, name: &str, problem: &'static str) -> CheckpointError {
        let key = key(name);
        GgufError::Value { key, problem }.at(self.file.path())
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.file.metadata().get(&key(name))
    }

    fn array(&self, name: &str) -> Result<Option<&Array>, CheckpointError> {
        let found = self.get(name).map(Value::array);
        match found {
            None => Ok(None),
            Some(Some(array)) => Ok(Some(array)),
            Some(None) => Err(self.fault(name, "is no list")),
        }
    }

    fn text(&self, name: &str) -> Result<Option<&str>, CheckpointError> {
        match self.get(name).map(Value::text) {
            None => Ok(None),
            Some(Some(text)) => Ok(Some(text)),
            Some(None) => Err(self.fault(name, "is no text")),
        }
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool, CheckpointError> {
        match self.get(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.fault(name, "is neither true nor false")),
        }
    }

    /// The id of a token, if the key is there.
    fn token(&self, name: &str, of: &Vocabulary) -> Result<Option<u32>, CheckpointError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let id = value.integer();
        let id = id.ok_or_else(|| self.fault(name, "is no id of a token"))?;
        // Converters write -1 where there is none, and ids of rows that were cut.
        let id = u32::try_from(id).ok();
        Ok(id.filter(|id| (*id as usize) < of.tokens.len()))
    }

    fn tokens(&self) -> Result<Vec<VocabularyToken>, CheckpointError> {
        let texts = self.array("tokens")?;
        let texts = texts.ok_or_else(|| self.fault("tokens", "is missing"))?;
        let texts = texts.texts();
        let texts = texts.ok_or_else(|| self.fault("tokens", "is no list of texts"))?;
        let mut roles = vec![TokenRole::Normal; texts.len()];
        if let Some(numbers) = self.array("token_type")? {
            let numbers = numbers.integers();
            let wrong = || self.fault("token_type", "is no list of a number for each token");
            let numbers = numbers.ok_or_else(wrong)?;
            if numbers.len() != roles.len() {
                return Err(wrong());
            }
            for (role, number) in roles.iter_mut().zip(numbers) {
                let known = ROLES.iter().find(|(known, _)| i64::from(*known) == number);
                *role = known.map_or(TokenRole::Normal, |(_, role)| *role);
            }
        }
        let tokens = texts.zip(roles).map(|(text, role)| VocabularyToken {
            text: text.to_owned(),
            role,
        });
        let mut tokens: Vec<_> = tokens.collect();
        // Rows behind the last token have names that nobody says.
        let used = tokens
            .iter()
            .rposition(|token| token.role != TokenRole::Unused);
        tokens.truncate(used.map_or(0, |last| last + 1));
        match tokens.is_empty() {
            true => Err(self.fault("tokens", "is empty")),
            false => Ok(tokens),
        }
    }

    fn vocabulary(&self, architecture: &Architecture) -> Result<Vocabulary, CheckpointError> {
        let tokens = self.tokens()?;
        let (alphabet, adds_first) = match self.text("model")? {
            Some("gpt2") => {
                let words = self.words(architecture)?;
                (Alphabet::Bytes { words }, words == Words::Llama3)
            }
            Some("llama") => {
                let begins_with_blank = self.flag("add_space_prefix", true)?;
                (Alphabet::Pieces { begins_with_blank }, true)
            }
            None => return Err(self.fault("model", "is missing")),
            Some(_) => return Err(self.fault("model", "is neither `gpt2` nor `llama`")),
        };
        let mut vocabulary = Vocabulary {
            alphabet,
            tokens,
            merges: Vec::new(),
            scores: Vec::new(),
            begins_with: None,
        };
        match alphabet {
            Alphabet::Pieces { .. } => vocabulary.scores = self.scores(vocabulary.tokens.len())?,
            _ => vocabulary.merges = self.merges()?,
        }
        if self.flag("add_bos_token", adds_first)? {
            vocabulary.begins_with = self.token("bos_token_id", &vocabulary)?;
        }
        Ok(vocabulary)
    }

    /// How text is cut into words: files from before April 2024 do not say it.
    fn words(&self, architecture: &Architecture) -> Result<Words, CheckpointError> {
        match self.text("pre")? {
            Some("default") | None => Ok(match architecture.kind {
                Kind::Llama => Words::Llama3,
                Kind::Qwen2 | Kind::StableLm => Words::Qwen2,
                Kind::Phi2 | Kind::Phi3 | Kind::MiniCpm => Words::Gpt2,
            }),
            Some(name) => match WORDS.iter().find(|(known, _)| *known == name) {
                Some((_, words)) => Ok(*words),
                None => Err(self.fault("pre", "names a way to cut text that is not known here")),
            },
        }
    }

    fn merges(&self) -> Result<Vec<[String; 2]>, CheckpointError> {
        let wrong = || self.fault("merges", "is no list of pairs with a blank between");
        let listed = self.array("merges")?.and_then(Array::texts);
        let pair = |text: &str| {
            // A pair's first part may begin with a blank in files of other tokenizers.
            let at = text.char_indices().skip(1).find(|(_, c)| *c == ' ')?.0;
            Some([text[..at].to_owned(), text[at + 1..].to_owned()])
        };
        let pairs: Option<Vec<_>> = listed.ok_or_else(wrong)?.map(pair).collect();
        pairs.ok_or_else(wrong)
    }

    fn scores(&self, tokens: usize) -> Result<Vec<f32>, CheckpointError> {
        let wrong = || self.fault("scores", "is no list of a number for each token");
        let listed = self.array("scores")?.and_then(Array::floats);
        let scores: Vec<f32> = listed.ok_or_else(wrong)?.take(tokens).collect();
        match scores.len() == tokens {
            true => Ok(scores),
            false => Err(wrong()),
        }
    }
}

/// Where a tokenizer's files are called to be.
pub(super) fn file_names() -> [&'static Path; 2] {
    ["tokenizer.json", "tokenizer_config.json"].map(Path::new)
}
