//! A tokenizer from its files, with what `transformers` reads out of them.
//!
//! `tokenizer.json` is the tokenizer itself; `vocab.json` with `merges.txt` is its older form, to
//! which the class named in `tokenizer_config.json` adds how text is cut; `tokenizer.model` is
//! SentencePiece's, which Llama's class reads. Added tokens come from
//! `tokenizer_config.json` (`added_tokens_decoder`) or, before there was such a field, from
//! `added_tokens.json`, special tokens then from `special_tokens_map.json`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bunny_base::{caught, files};
use serde_json::{Map, Value};
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers;
use tokenizers::normalizers::replace::{Replace, ReplacePattern};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::normalizers::utils::Lowercase;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior};

use super::{
    SpecialTokens, Tokenizer, TokenizerError,
    sentencepiece::{self, Spaces},
};

type LibraryError = Box<dyn std::error::Error + Send + Sync>;

/// How CLIP cuts text into words; the other classes cut like GPT-2, or like Qwen2.
const CLIP_WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// How Qwen2 cuts text into words.
pub(super) const QWEN2_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl Tokenizer {
    /// Reads a model's folder: `tokenizer.json`, else `vocab.json` with `merges.txt`, else
    /// `tokenizer.model`; beside them,
    /// where there are, `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json`.
    ///
    /// # Errors
    /// A file that is missing, unreadable or not what it should be.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        let folder = folder.as_ref();
        let mut config = Config::from_folder(folder)?;
        let path = folder.join("tokenizer.json");
        if files::exists(&path) {
            let json = files::read(&path).map_err(|source| TokenizerError::Read {
                path: path.clone(),
                source,
            })?;
            let inner = parse(&path, &json)?;
            return config.finish(inner, path);
        }
        let (vocabulary, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
        let pieces = folder.join("tokenizer.model");
        let is_pieces = !(files::exists(&vocabulary) && files::exists(&merges));
        if is_pieces && !files::exists(&pieces) {
            let folder = folder.to_owned();
            return Err(TokenizerError::NotFound { folder });
        }
        config.read_added_tokens(&folder.join("added_tokens.json"))?;
        if is_pieces {
            let inner = config.sentencepiece(folder, &pieces)?;
            return config.finish(inner, pieces);
        }
        let inner = config.byte_level(folder, &vocabulary, &merges)?;
        config.finish(inner, vocabulary)
    }

    /// The same from memory: the text of `tokenizer.json` and, if there is one, of
    /// `tokenizer_config.json`.
    pub fn from_json(
        tokenizer: &str,
        tokenizer_config: Option<&str>,
    ) -> Result<Self, TokenizerError> {
        let path = PathBuf::from("tokenizer.json");
        let fields = match tokenizer_config {
            None => Map::new(),
            Some(json) => serde_json::from_str(json).map_err(|source| TokenizerError::Json {
                path: "tokenizer_config.json".into(),
                source,
            })?,
        };
        Self::from_parts(tokenizer, fields, &path)
    }

    /// The same from the text of `tokenizer.json` and the fields of `tokenizer_config.json`; `path` is
    /// what they are called in errors.
    pub(super) fn from_parts(
        tokenizer: &str,
        fields: Map<String, Value>,
        path: &Path,
    ) -> Result<Self, TokenizerError> {
        let inner = parse(path, tokenizer.as_bytes())?;
        Config { fields }.finish(inner, path.to_owned())
    }
}

/// Refuses ids beyond a table that has a row for each token.
fn require_ids_within(inner: &tokenizers::Tokenizer, path: &Path) -> Result<(), TokenizerError> {
    let tokens = inner.get_vocab_size(true);
    if (0..tokens as u32).all(|id| inner.id_to_token(id).is_some()) {
        return Ok(());
    }
    let vocabulary = inner.get_vocab(true).into_iter();
    match vocabulary.max_by_key(|(_, id)| *id) {
        Some((token, id)) if id as usize >= tokens => Err(TokenizerError::IdBeyond {
            path: path.to_owned(),
            token: token.escape_debug().to_string(),
            id,
            tokens,
        }),
        _ => Ok(()),
    }
}

/// What a `tokenizer.json` says.
fn parse(path: &Path, json: &[u8]) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let read = caught(|| tokenizers::Tokenizer::from_bytes(json));
    let read = read.unwrap_or_else(|| Err("the tokenizers library breaks on it".into()));
    read.map_err(|source| {
        // The library stumbles over what is new before it comes to the version.
        let fields: Option<Value> = serde_json::from_slice(json).ok();
        let version = fields
            .as_ref()
            .and_then(|fields| fields["version"].as_str());
        let path = path.to_owned();
        match version {
            Some(version) if version != "1.0" => TokenizerError::Version {
                path,
                version: version.escape_debug().to_string(),
            },
            _ => TokenizerError::Load { path, source },
        }
    })
}

/// `tokenizer_config.json`, completed from the older files.
struct Config {
    fields: Map<String, Value>,
}

impl Config {
    fn from_folder(folder: &Path) -> Result<Self, TokenizerError> {
        let mut fields = read_map(&folder.join("tokenizer_config.json"))?.unwrap_or_default();
        if !fields.contains_key("added_tokens_decoder") {
            // As transformers: the older map counts for folders without the newer field alone.
            fields.extend(read_map(&folder.join("special_tokens_map.json"))?.unwrap_or_default());
        }
        Ok(Self { fields })
    }

    /// `added_tokens.json` maps token to id; the newer field, if there, says more.
    fn read_added_tokens(&mut self, path: &Path) -> Result<(), TokenizerError> {
        if self.fields.contains_key("added_tokens_decoder") {
            return Ok(());
        }
        if let Some(added) = read_map(path)? {
            let by_id = added
                .into_iter()
                .map(|(token, id)| (id.to_string(), Value::String(token)));
            self.fields.insert(
                "added_tokens_decoder".to_owned(),
                by_id.collect::<Map<_, _>>().into(),
            );
        }
        Ok(())
    }

    fn class(&self) -> &str {
        let class = self
            .fields
            .get("tokenizer_class")
            .and_then(Value::as_str)
            .unwrap_or_default();
        class.strip_suffix("Fast").unwrap_or(class)
    }

    fn flag(&self, name: &str, default: bool) -> bool {
        self.fields
            .get(name)
            .and_then(Value::as_bool)
            .unwrap_or(default)
    }

    /// A special token of the file; one that is not named there is the class's.
    fn token(&self, name: &str) -> Option<&str> {
        match (self.fields.get(name), self.class(), name) {
            (Some(value), ..) => content(value),
            (
                None,
                "GPT2Tokenizer" | "CodeGenTokenizer",
                "bos_token" | "eos_token" | "unk_token",
            ) => Some("<|endoftext|>"),
            (None, "CLIPTokenizer", "bos_token") => Some("<|startoftext|>"),
            (None, "Qwen2Tokenizer" | "CLIPTokenizer", "eos_token" | "unk_token" | "pad_token") => {
                Some("<|endoftext|>")
            }
            (None, "LlamaTokenizer", "bos_token") => Some("<s>"),
            (None, "LlamaTokenizer", "eos_token") => Some("</s>"),
            (None, "LlamaTokenizer", "unk_token") => Some("<unk>"),
            _ => None,
        }
    }

    /// The tokenizer of `vocab.json` and `merges.txt`: byte-level BPE, cut as the class cuts.
    fn byte_level(
        &self,
        folder: &Path,
        vocabulary: &Path,
        merges: &Path,
    ) -> Result<tokenizers::Tokenizer, TokenizerError> {
        let refused = |source: LibraryError| TokenizerError::Load {
            path: vocabulary.to_owned(),
            source,
        };
        let suffix = (self.class() == "CLIPTokenizer").then(|| "</w>".to_owned());
        let bpe = byte_pairs(vocabulary, merges, suffix).map_err(refused)?;
        let mut inner = tokenizers::Tokenizer::new(bpe);
        match self.class() {
            "GPT2Tokenizer" | "CodeGenTokenizer" => {
                inner.with_pre_tokenizer(Some(ByteLevel::new(
                    self.flag("add_prefix_space", false),
                    true,
                    true,
                )));
            }
            "Qwen2Tokenizer" => {
                let words = Split::new(
                    SplitPattern::Regex(QWEN2_WORDS.to_owned()),
                    SplitDelimiterBehavior::Isolated,
                    false,
                )
                .map_err(refused)?;
                let bytes = ByteLevel::new(self.flag("add_prefix_space", false), true, false);
                inner.with_normalizer(Some(NFC)).map_err(refused)?;
                inner.with_pre_tokenizer(Some(Sequence::new(vec![words.into(), bytes.into()])));
            }
            "CLIPTokenizer" => {
                let words = SplitPattern::Regex(CLIP_WORDS.to_owned());
                let words = Split::new(words, SplitDelimiterBehavior::Removed, true);
                let spaces = Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ");
                let steps = vec![
                    NFC.into(),
                    spaces.map_err(refused)?.into(),
                    Lowercase.into(),
                ];
                let steps = normalizers::Sequence::new(steps);
                inner.with_normalizer(Some(steps)).map_err(refused)?;
                let bytes = ByteLevel::new(false, true, true);
                let words = words.map_err(refused)?.into();
                inner.with_pre_tokenizer(Some(Sequence::new(vec![words, bytes.into()])));
            }
            class => {
                let path = folder.join("tokenizer_config.json");
                let class = class.to_owned();
                return Err(match class.is_empty() {
                    true => TokenizerError::NoClass { path },
                    false => TokenizerError::UnknownClass { path, class },
                });
            }
        }
        inner.with_decoder(Some(ByteLevel::default()));
        Ok(inner)
    }

    /// The tokenizer of a `tokenizer.model`, as Llama's class makes it of one.
    fn sentencepiece(
        &self,
        folder: &Path,
        file: &Path,
    ) -> Result<tokenizers::Tokenizer, TokenizerError> {
        match self.class() {
            "LlamaTokenizer" => {}
            class => {
                let path = folder.join("tokenizer_config.json");
                let class = class.to_owned();
                return Err(TokenizerError::PiecesOfClass { path, class });
            }
        }
        let bytes = files::read(file).map_err(|source| TokenizerError::Read {
            path: file.to_owned(),
            source,
        })?;
        let flag = |name: &str| self.fields.get(name).and_then(Value::as_bool);
        let spaces = Spaces {
            prefix: flag("add_prefix_space"),
            legacy: flag("legacy").unwrap_or(true),
        };
        let json = sentencepiece::to_json(&bytes, spaces);
        let json = json.map_err(|problem| TokenizerError::SentencePiece {
            path: file.to_owned(),
            problem,
        })?;
        parse(file, json.to_string().as_bytes())
    }

    /// Adds what `transformers` adds when it opens a tokenizer, in its order.
    fn finish(
        self,
        mut inner: tokenizers::Tokenizer,
        path: PathBuf,
    ) -> Result<Tokenizer, TokenizerError> {
        let refused = |source: LibraryError| TokenizerError::Load {
            path: path.clone(),
            source,
        };
        inner.with_truncation(None).map_err(refused)?;
        inner.with_padding(None);
        self.add_tokens(&mut inner, &path)?;
        if let Some(PreTokenizerWrapper::ByteLevel(byte_level)) = inner.get_pre_tokenizer() {
            let byte_level = byte_level.add_prefix_space(self.flag("add_prefix_space", false));
            inner.with_pre_tokenizer(Some(byte_level));
        }
        require_ids_within(&inner, &path)?;
        let id = |name| self.token(name).and_then(|token| inner.token_to_id(token));
        let special_tokens = SpecialTokens {
            bos: id("bos_token"),
            eos: id("eos_token"),
            unk: id("unk_token"),
            pad: id("pad_token"),
        };
        if self.class() == "LlamaTokenizer" {
            // This class goes by its flags, whatever tokenizer.json says.
            let processor = self.llama_processor(special_tokens).map_err(refused)?;
            inner.with_post_processor(processor);
        }
        Ok(Tokenizer {
            inner,
            literal: OnceLock::new(),
            special_tokens,
        })
    }

    fn llama_processor(
        &self,
        special_tokens: SpecialTokens,
    ) -> Result<Option<TemplateProcessing>, LibraryError> {
        let bos = self
            .token("bos_token")
            .zip(special_tokens.bos)
            .filter(|_| self.flag("add_bos_token", true));
        let eos = self
            .token("eos_token")
            .zip(special_tokens.eos)
            .filter(|_| self.flag("add_eos_token", false));
        if bos.is_none() && eos.is_none() {
            return Ok(None);
        }
        let mut single: Vec<String> = bos.iter().map(|(token, _)| format!("{token}:0")).collect();
        single.push("$A:0".to_owned());
        single.extend(eos.iter().map(|(token, _)| format!("{token}:0")));
        let specials: Vec<(String, u32)> = bos
            .into_iter()
            .chain(eos)
            .map(|(token, id)| (token.to_owned(), id))
            .collect();
        Ok(Some(
            TemplateProcessing::builder()
                .try_single(single)?
                .special_tokens(specials)
                .build()?,
        ))
    }

    fn add_tokens(
        &self,
        inner: &mut tokenizers::Tokenizer,
        path: &Path,
    ) -> Result<(), TokenizerError> {
        let refused = |source: LibraryError| TokenizerError::Load {
            path: path.to_owned(),
            source,
        };
        let special: Vec<&str> = ["bos_token", "eos_token", "unk_token", "pad_token"]
            .into_iter()
            .filter_map(|name| self.token(name))
            .chain(
                self.fields
                    .get("additional_special_tokens")
                    .into_iter()
                    .flat_map(contents),
            )
            .collect();
        let mut decoder: Vec<(u32, &Value)> = self
            .fields
            .get("added_tokens_decoder")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(id, token)| Some((id.parse().ok()?, token)))
            .collect();
        decoder.sort_by_key(|(id, _)| *id);
        for (id, value) in decoder {
            let Some(token) = content(value) else {
                continue;
            };
            let flag =
                |name: &str, default| value.get(name).and_then(Value::as_bool).unwrap_or(default);
            let is_special = flag("special", false) || special.contains(&token);
            let added = AddedToken::from(token, is_special)
                .single_word(flag("single_word", false))
                .lstrip(flag("lstrip", false))
                .rstrip(flag("rstrip", false))
                .normalized(flag("normalized", !is_special));
            inner.add_tokens([added]).map_err(refused)?;
            let found = inner.token_to_id(token);
            if found != Some(id) {
                let token = token.to_owned();
                return Err(TokenizerError::MisplacedToken {
                    path: path.to_owned(),
                    token,
                    id,
                    found,
                });
            }
        }
        for token in special {
            if !inner.get_added_vocabulary().is_special_token(token) {
                let token = AddedToken::from(token, true);
                inner.add_special_tokens([token]).map_err(refused)?;
            }
        }
        Ok(())
    }
}

/// The class that a folder's `tokenizer_config.json` names, as it is called without `Fast`.
pub(super) fn class_of(folder: &Path) -> Result<Option<String>, TokenizerError> {
    let config = Config::from_folder(folder)?;
    let class = config.class();
    Ok((!class.is_empty()).then(|| class.to_owned()))
}

/// A token is written as its text, or as an object that holds it.
fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

fn contents(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(content)
}

/// The model that two files are: tokens with their ids, and pairs of tokens in the order of merging.
/// `suffix` ends a word's last token, where the class has one.
fn byte_pairs(
    vocabulary: &Path,
    merges: &Path,
    suffix: Option<String>,
) -> Result<BPE, LibraryError> {
    let ids: Map<String, Value> = serde_json::from_slice(&files::read(vocabulary)?)?;
    let ids = ids.into_iter().map(|(token, id)| {
        let number = id.as_u64().and_then(|id| u32::try_from(id).ok());
        let number = number.ok_or_else(|| format!("`{}` has no id", token.escape_debug()))?;
        Ok((token, number))
    });
    let vocabulary: Vocab = ids.collect::<Result<_, LibraryError>>()?;
    let text = files::read_to_string(merges)?;
    let pairs = text.lines().enumerate();
    let pairs = pairs.filter(|(_, line)| !line.starts_with("#version"));
    let pairs = pairs.map(|(at, line)| match line.split_once(' ') {
        Some((left, right)) if !right.contains(' ') => Ok((left.to_owned(), right.to_owned())),
        _ => Err(format!("line {} of the merges is no pair", at + 1).into()),
    });
    let pairs: Merges = pairs.collect::<Result<_, LibraryError>>()?;
    let mut builder = BPE::builder().vocab_and_merges(vocabulary, pairs);
    if let Some(suffix) = suffix {
        builder = builder.end_of_word_suffix(suffix);
    }
    builder.build()
}

fn read_map(path: &Path) -> Result<Option<Map<String, Value>>, TokenizerError> {
    if !files::exists(path) {
        return Ok(None);
    }
    let text = files::read_to_string(path).map_err(|source| TokenizerError::Read {
        path: path.to_owned(),
        source,
    })?;
    let map = serde_json::from_str(&text).map_err(|source| TokenizerError::Json {
        path: path.to_owned(),
        source,
    })?;
    Ok(Some(map))
}
