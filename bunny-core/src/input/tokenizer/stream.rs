//! Ids to text while they come.

use std::ops::Deref;

use super::{Tokenizer, TokenizerError};

const REPLACEMENT: char = '\u{fffd}';

/// Decodes a growing answer: whole characters only, and all pieces together are what
/// [`Tokenizer::decode`] gives for all ids.
///
/// A character whose bytes are spread over several tokens appears with its last one; a byte token
/// of a SentencePiece vocabulary (`<0x0A>`) waits for what follows, since only a whole run of them
/// can be read.
///
/// `T` is a tokenizer that is borrowed or shared.
#[derive(Debug)]
pub struct TokenStream<T> {
    tokenizer: T,
    /// What is not all said yet, behind the last token that is: decoders look one token back.
    ids: Vec<u32>,
    /// How many bytes of the text of `ids` are said.
    said: usize,
}

impl<T: Deref<Target = Tokenizer>> TokenStream<T> {
    /// A stream at the beginning of an answer.
    pub fn new(tokenizer: T) -> Self {
        Self {
            tokenizer,
            ids: Vec::new(),
            said: 0,
        }
    }

    /// Takes the next id and gives the text that it completes, which may be empty.
    pub fn push(&mut self, id: u32) -> Result<String, TokenizerError> {
        if self.tokenizer.special(id).is_some() {
            return Ok(String::new());
        }
        self.ids.push(id);
        if self.tokenizer.is_byte(id) {
            return Ok(String::new());
        }
        let text = self.tokenizer.decode(&self.ids)?;
        let whole = text.strip_suffix(REPLACEMENT).unwrap_or(&text);
        let new = whole.get(self.said..).unwrap_or_default().to_owned();
        self.said = self.said.max(whole.len());
        if whole.len() == text.len() && !text.is_empty() {
            self.ids.drain(..self.ids.len() - 1);
            self.said = self.tokenizer.decode(&self.ids)?.len();
        }
        Ok(new)
    }

    /// Gives what is left when no more ids come: at most an incomplete character, as U+FFFD, or
    /// byte tokens.
    pub fn finish(&mut self) -> Result<String, TokenizerError> {
        let text = self.tokenizer.decode(&std::mem::take(&mut self.ids))?;
        let said = std::mem::take(&mut self.said);
        Ok(text.get(said..).unwrap_or_default().to_owned())
    }
}
