//! Captions to the ids that a pair of towers reads.
//!
//! ```text
//! CLIP     <|startoftext|> a red house <|endoftext|>               as long as it is
//! SigLIP   ▁a ▁red ▁house </s> </s> … </s>                         all places
//! ```

mod clean;
mod entities;

use std::path::Path;

use super::{Tokenizer, TokenizerError, files::class_of};
use crate::input::conversation::Segment;

pub use clean::{clean, without_punctuation};

/// How captions are prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CaptionRules {
    /// As CLIP was trained: [`clean`] and in lower case, a start before it and an end behind it.
    Clip,
    /// As SigLIP was trained: [`without_punctuation`], an end behind it, filled up to all places.
    Siglip,
    /// As this project trains pairs: as it is, ends behind it up to all places.
    Plain,
}

/// A tokenizer of captions.
#[derive(Debug)]
pub struct CaptionTokenizer {
    tokenizer: Tokenizer,
    rules: CaptionRules,
    places: usize,
    start: i32,
    end: i32,
    pad: i32,
    space: Option<i32>,
}

/// CLIP's special tokens, and the same as words: a space changes nothing where words end anyway.
const SPECIAL: [(&str, &str); 2] = [
    ("<|startoftext|>", "<| startoftext |>"),
    ("<|endoftext|>", "<| endoftext |>"),
];

/// The classes of `tokenizer_config.json` whose captions a CLIP or a SigLIP read.
const CLIP: &str = "CLIPTokenizer";
const SIGLIP: &str = "SiglipTokenizer";
/// SigLIP 2's, whose captions are prepared otherwise.
const GEMMA: &str = "GemmaTokenizer";

impl CaptionTokenizer {
    /// CLIP's tokenizer in a model's folder, for captions of up to `places` ids.
    ///
    /// # Errors
    /// As [`Tokenizer::from_folder`], and where the folder's tokenizer is another than CLIP's.
    pub fn clip(folder: impl AsRef<Path>, places: usize) -> Result<Self, TokenizerError> {
        let folder = folder.as_ref();
        match class_of(folder)?.as_deref() {
            None | Some(CLIP) => Self::of(folder, CaptionRules::Clip, places),
            Some(class) => Err(unknown(folder, class)),
        }
    }

    /// A SigLIP's tokenizer in a model's folder, for captions of `places` ids: the published ones' where
    /// `tokenizer_config.json` says `SiglipTokenizer`, else that of a pair that was trained here.
    ///
    /// # Errors
    /// As [`Tokenizer::from_folder`], and where the folder's tokenizer is SigLIP 2's.
    pub fn siglip(folder: impl AsRef<Path>, places: usize) -> Result<Self, TokenizerError> {
        let folder = folder.as_ref();
        match class_of(folder)?.as_deref() {
            Some(SIGLIP) => Self::of(folder, CaptionRules::Siglip, places),
            Some(class @ (GEMMA | CLIP)) => Err(unknown(folder, class)),
            _ => Self::of(folder, CaptionRules::Plain, places),
        }
    }

    fn of(folder: &Path, rules: CaptionRules, places: usize) -> Result<Self, TokenizerError> {
        let tokenizer = Tokenizer::from_folder(folder)?;
        let special = tokenizer.special_tokens();
        let (usual_start, usual_end) = match rules {
            CaptionRules::Clip => ("<|startoftext|>", "<|endoftext|>"),
            _ => ("", "</s>"),
        };
        let id = |said: Option<u32>, usual: &str| said.or_else(|| tokenizer.token_to_id(usual));
        let needed = |said, usual: &str| {
            let none = || TokenizerError::NoSuchToken {
                token: usual.to_owned(),
            };
            id(said, usual).map(|id| id as i32).ok_or_else(none)
        };
        let end = needed(special.eos, usual_end)?;
        let start = match rules {
            CaptionRules::Clip => needed(special.bos, usual_start)?,
            _ => end,
        };
        let pad = match rules {
            CaptionRules::Siglip => special.pad.map_or(end, |pad| pad as i32),
            _ => end,
        };
        Ok(Self {
            space: tokenizer.token_to_id("▁").map(|id| id as i32),
            tokenizer,
            rules,
            // A start and an end at least.
            places: places.max(2),
            start,
            end,
            pad,
        })
    }

    /// How captions are prepared.
    pub fn rules(&self) -> CaptionRules {
        self.rules
    }

    /// How many entries the vocabulary has.
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.vocab_size()
    }

    /// The ids of a caption: of CLIP's up to the end of text, of the others as many as there are places.
    /// What is too long is cut before its end.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`].
    pub fn ids(&self, caption: &str) -> Result<Vec<i32>, TokenizerError> {
        match self.rules {
            CaptionRules::Clip => {
                let mut text = clean(caption).to_lowercase();
                // What somebody typed is words, as open_clip has it: `transformers` would take it for an
                // end.
                for (special, words) in SPECIAL {
                    text = text.replace(special, words);
                }
                let words = self.words(&text)?;
                let mut ids = vec![self.start];
                ids.extend(words.into_iter().take(self.places - 2));
                ids.push(self.end);
                Ok(ids)
            }
            CaptionRules::Siglip => {
                let text = without_punctuation(caption);
                let mut ids = match text.is_empty() {
                    // The space that stands before every caption is there without one.
                    true => self.space.into_iter().collect(),
                    false => self.words(&text)?,
                };
                ids.truncate(self.places - 1);
                ids.push(self.end);
                ids.resize(self.places, self.pad);
                Ok(ids)
            }
            CaptionRules::Plain => self.tokenizer.padded(caption.trim(), self.places),
        }
    }

    fn words(&self, text: &str) -> Result<Vec<i32>, TokenizerError> {
        let pieces = self.tokenizer.pieces(&self.tokenizer.inner, text, false)?;
        Ok(pieces.into_iter().map(|(id, _)| id as i32).collect())
    }
}

impl Tokenizer {
    /// A caption as `places` ids, its last place, which the tower reads the caption from, being an end of
    /// text always.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`].
    pub fn padded(&self, caption: &str, places: usize) -> Result<Vec<i32>, TokenizerError> {
        let encoded = self.encode(&[Segment::Prompt(caption)])?;
        let ids = encoded.input_ids().into_iter();
        let end = self.special_tokens().eos.unwrap_or_default();
        let mut ids: Vec<i32> = ids.map(|id| id as i32).collect();
        ids.truncate(places - 1);
        ids.resize(places, end as i32);
        Ok(ids)
    }
}

fn unknown(folder: &Path, class: &str) -> TokenizerError {
    TokenizerError::Captions {
        path: folder.join("tokenizer_config.json"),
        class: class.to_owned(),
    }
}
