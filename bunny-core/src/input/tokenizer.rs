//! Text to ids and back, with pictures in between.
//!
//! A prompt is cut at its pictures into chunks; every chunk is tokenised by itself, and a
//! beginning of sequence, where the tokenizer adds one, stands before the first alone. Inside a
//! chunk the words of the template and of the people are one text. Special tokens are what the
//! template placed, and nothing that anybody typed.

mod bytes;
mod captions;
mod error;
mod export;
mod files;
mod sentencepiece;
mod stream;
mod vocabulary;

use std::ops::Range;
use std::sync::OnceLock;

use tokenizers::AddedToken;

use crate::input::conversation::{IMAGE_PLACEHOLDER, Segment};

pub use captions::{CaptionRules, CaptionTokenizer, clean, without_punctuation};
pub use error::TokenizerError;
pub use stream::TokenStream;
pub use vocabulary::{
    Alphabet, NamedTokens, TokenRole, TokenizerJson, Vocabulary, VocabularyToken, Words,
};

/// The id that stands for a picture in the reference's `input_ids`.
pub const IMAGE_TOKEN_INDEX: i64 = -200;

/// One place of a tokenised prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Token {
    /// A token of the vocabulary.
    Text(u32),
    /// The slot of the prompt's n-th picture, from 0.
    Picture(u32),
}

impl Token {
    /// The reference's notation: the id, or [`IMAGE_TOKEN_INDEX`] for a picture.
    pub fn input_id(self) -> i64 {
        match self {
            Token::Text(id) => id.into(),
            Token::Picture(_) => IMAGE_TOKEN_INDEX,
        }
    }
}

/// A tokenised conversation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Encoded {
    /// The tokens and picture slots.
    pub tokens: Vec<Token>,
    /// For each answer, the places in `tokens` that are learnt: from the token that holds the
    /// space behind `ASSISTANT:` (which most tokenizers join to the first word) to the end of
    /// text, both included. A picture slot in an answer is never a label.
    pub answers: Vec<Range<usize>>,
}

impl Encoded {
    /// How many picture slots there are.
    pub fn pictures(&self) -> usize {
        self.tokens
            .iter()
            .filter(|token| matches!(token, Token::Picture(_)))
            .count()
    }

    /// The ids in the reference's notation.
    pub fn input_ids(&self) -> Vec<i64> {
        self.tokens.iter().map(|token| token.input_id()).collect()
    }
}

/// The special tokens of a tokenizer, as ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpecialTokens {
    /// Beginning of sequence; that one is named does not mean that it is added.
    pub bos: Option<u32>,
    /// End of sequence.
    pub eos: Option<u32>,
    /// Unknown.
    pub unk: Option<u32>,
    /// Padding.
    pub pad: Option<u32>,
}

/// A family's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The same, reading special tokens as plain text; made when somebody first types one.
    literal: OnceLock<Box<tokenizers::Tokenizer>>,
    special_tokens: SpecialTokens,
}

/// A stretch of text between two pictures, and what was placed in it.
#[derive(Default)]
struct Chunk {
    text: String,
    /// The ends of text in it: their bytes, and the token.
    ends: Vec<(Range<usize>, u32)>,
}

/// A byte of a chunk.
#[derive(Clone, Copy)]
struct Place {
    chunk: usize,
    byte: usize,
}

/// The ids of a chunk, with the bytes each of them covers.
type Pieces = Vec<(u32, (usize, usize))>;

impl Tokenizer {
    /// The special tokens, after the rules of [`from_folder`](Self::from_folder).
    pub fn special_tokens(&self) -> SpecialTokens {
        self.special_tokens
    }

    /// Another end of sequence, and padding with it: the published Llama-3 files name a token
    /// that Bunny's answers do not end in (128001, `<|end_of_text|>`, does).
    #[must_use]
    pub fn with_eos(mut self, eos: u32) -> Self {
        self.special_tokens.eos = Some(eos);
        self.special_tokens.pad = Some(eos);
        self
    }

    /// What padding uses: the pad token, else the unknown one, else the end of sequence.
    pub fn pad_id(&self) -> Option<u32> {
        self.special_tokens
            .pad
            .or(self.special_tokens.unk)
            .or(self.special_tokens.eos)
    }

    /// How many tokens there are, added ones included: embeddings are cut to as many rows.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The id of a token by its text.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Whether a sequence begins with a token that stands for no text.
    pub fn adds_bos(&self) -> Result<bool, TokenizerError> {
        Ok(!self.pieces(&self.inner, "", true)?.is_empty())
    }

    /// Tokenises a rendered conversation: the ids that the reference gives for the whole text.
    ///
    /// # Errors
    /// [`TokenizerError::NoSuchToken`] if the template's end of text is none of this vocabulary.
    pub fn encode(&self, segments: &[Segment<'_>]) -> Result<Encoded, TokenizerError> {
        let (chunks, answers) = self.chunks(segments)?;
        let mut tokens = Vec::new();
        let mut placed = Vec::with_capacity(chunks.len());
        for (number, chunk) in (0u32..).zip(&chunks) {
            if number > 0 {
                tokens.push(Token::Picture(number - 1));
            }
            let pieces = self.chunk_pieces(chunk, number == 0)?;
            let first = tokens.len();
            tokens.extend(pieces.iter().map(|(id, _)| Token::Text(*id)));
            placed.push((first, pieces));
        }
        let answers = answers.into_iter().map(|answer| {
            let (first, pieces) = &placed[answer.start.chunk];
            let start = first + pieces.partition_point(|(_, (_, end))| *end <= answer.start.byte);
            let (first, pieces) = &placed[answer.end.chunk];
            start..first + pieces.partition_point(|(_, (start, _))| *start < answer.end.byte)
        });
        Ok(Encoded {
            answers: answers.collect(),
            tokens,
        })
    }

    /// Joins segments to chunks, and notes where answers stand in them.
    fn chunks(
        &self,
        segments: &[Segment<'_>],
    ) -> Result<(Vec<Chunk>, Vec<Range<Place>>), TokenizerError> {
        let mut chunks = Vec::new();
        let mut answers = Vec::new();
        let mut chunk = Chunk::default();
        let mut opened: Option<Place> = None;
        for segment in segments {
            let here = Place {
                chunk: chunks.len(),
                byte: chunk.text.len(),
            };
            match *segment {
                Segment::Prompt(text) => {
                    answers.extend(opened.take().map(|start| start..here));
                    chunk.text.push_str(text);
                }
                Segment::Answer(text) => {
                    opened.get_or_insert(here);
                    chunk.text.push_str(text);
                }
                Segment::EndOfText(token) => {
                    chunk.text.push_str(token);
                    let end = Place {
                        byte: chunk.text.len(),
                        ..here
                    };
                    chunk
                        .ends
                        .push((here.byte..end.byte, self.end_of_text(token)?));
                    answers.extend(opened.take().map(|start| start..end));
                }
                Segment::Picture => chunks.push(std::mem::take(&mut chunk)),
            }
        }
        let end = Place {
            chunk: chunks.len(),
            byte: chunk.text.len(),
        };
        answers.extend(opened.map(|start| start..end));
        chunks.push(chunk);
        Ok((chunks, answers))
    }

    /// Tokenises a prompt that is trusted as it stands, in the manner of the published code
    /// examples: `<image>` is a picture, and special tokens in the text are special tokens.
    /// For what people type there is [`encode`](Self::encode).
    pub fn encode_prompt(&self, prompt: &str) -> Result<Vec<Token>, TokenizerError> {
        let mut tokens = Vec::new();
        for (number, text) in (0u32..).zip(prompt.split(IMAGE_PLACEHOLDER)) {
            if number > 0 {
                tokens.push(Token::Picture(number - 1));
            }
            let pieces = self.pieces(&self.inner, text, number == 0)?;
            tokens.extend(pieces.into_iter().map(|(id, _)| Token::Text(id)));
        }
        Ok(tokens)
    }

    /// Ids to text, special tokens left out. Ids beyond the vocabulary are left out as well.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        self.inner
            .decode(ids, true)
            .map_err(|source| TokenizerError::Decode { source })
    }

    /// A stream that turns ids to text as they come.
    pub fn stream(&self) -> TokenStream<&Self> {
        TokenStream::new(self)
    }

    /// The chunk as the library tokenises it whole, if the special tokens it saw are those that
    /// the template placed; else its texts and its ends of text one by one, where a special token
    /// in a text is characters like any other.
    fn chunk_pieces(&self, chunk: &Chunk, first: bool) -> Result<Pieces, TokenizerError> {
        let whole = self.pieces(&self.inner, &chunk.text, first)?;
        let seen = whole.iter().copied().filter(|(id, (start, end))| {
            self.special(*id)
                .is_some_and(|token| chunk.text[*start..*end].trim() == token.content)
        });
        if seen.eq(chunk
            .ends
            .iter()
            .map(|(bytes, id)| (*id, (bytes.start, bytes.end))))
        {
            return Ok(whole);
        }
        let literal = self.literal.get_or_init(|| {
            let mut literal = self.inner.clone();
            literal.set_encode_special_tokens(true);
            Box::new(literal)
        });
        let mut pieces = Pieces::new();
        let mut at = 0;
        let rest = chunk.text.len()..chunk.text.len();
        let ends = chunk
            .ends
            .iter()
            .map(|(bytes, id)| (bytes.clone(), Some(*id)))
            .chain([(rest, None)]);
        for (bytes, end) in ends {
            let text = self.pieces(literal, &chunk.text[at..bytes.start], first && at == 0)?;
            pieces.extend(
                text.into_iter()
                    .map(|(id, (start, end))| (id, (at + start, at + end))),
            );
            pieces.extend(end.map(|id| (id, (bytes.start, bytes.end))));
            at = bytes.end;
        }
        Ok(pieces)
    }

    fn pieces(
        &self,
        by: &tokenizers::Tokenizer,
        text: &str,
        first: bool,
    ) -> Result<Pieces, TokenizerError> {
        let encoding = by
            .encode(text, first)
            .map_err(|source| TokenizerError::Encode { source })?;
        Ok(encoding
            .get_ids()
            .iter()
            .copied()
            .zip(encoding.get_offsets().iter().copied())
            .collect())
    }

    fn special(&self, id: u32) -> Option<&AddedToken> {
        self.inner
            .get_added_vocabulary()
            .get_added_tokens_decoder()
            .get(&id)
            .filter(|token| token.special)
    }

    /// Whether it is a byte of a SentencePiece vocabulary, `<0x0A>`.
    fn is_byte(&self, id: u32) -> bool {
        let token = self.inner.id_to_token(id).unwrap_or_default();
        token.len() == 6 && token.starts_with("<0x") && token.ends_with('>')
    }

    fn end_of_text(&self, token: &'static str) -> Result<u32, TokenizerError> {
        self.token_to_id(token)
            .filter(|id| self.special(*id).is_some())
            .ok_or_else(|| TokenizerError::NoSuchToken {
                token: token.to_owned(),
            })
    }
}
