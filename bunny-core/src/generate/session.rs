//! What a decoder has read of a conversation, kept for the next turn.

use bunny_base::random::mix;
use burn::tensor::{Tensor, backend::Backend};

use crate::{
    Bunny, Error,
    input::{image::Pixels, tokenizer::Token},
    nn::{KvCache, Mode},
};

/// A picture of a conversation: its pixels, and its embeddings once they are made.
#[derive(Debug, Clone)]
pub struct Picture<B: Backend> {
    pixels: Pixels,
    /// Tells this picture from others.
    key: u64,
    embeddings: Option<Tensor<B, 3>>,
}

impl<B: Backend> Picture<B> {
    /// A picture as it enters the tower.
    pub fn new(pixels: Pixels) -> Self {
        let key = pixels.data.iter().fold(pixels.width as u64, |key, value| {
            mix(key ^ u64::from(value.to_bits()))
        });
        Self {
            pixels,
            key,
            embeddings: None,
        }
    }

    /// The embeddings, `[1, tokens, hidden]`, made at the first call.
    pub fn embeddings(&mut self, model: &Bunny<B>, device: &B::Device) -> Tensor<B, 3> {
        self.embeddings
            .get_or_insert_with(|| model.encode_pictures(&[&self.pixels], device))
            .clone()
    }

    /// Makes the embeddings of all pictures that have none, in one pass through the tower.
    pub fn encode_all<'a>(
        pictures: impl IntoIterator<Item = &'a mut Self>,
        model: &Bunny<B>,
        device: &B::Device,
    ) where
        B: 'a,
    {
        let new: Vec<&mut Self> = pictures
            .into_iter()
            .filter(|picture| !picture.is_encoded())
            .collect();
        if new.is_empty() {
            return;
        }
        let pixels: Vec<&Pixels> = new.iter().map(|picture| &picture.pixels).collect();
        let embeddings = model.encode_pictures(&pixels, device).chunk(new.len(), 0);
        for (picture, embeddings) in new.into_iter().zip(embeddings) {
            picture.embeddings = Some(embeddings);
        }
    }

    /// Whether the embeddings are made.
    pub fn is_encoded(&self) -> bool {
        self.embeddings.is_some()
    }
}

/// What stands at a place of the text: compared to find what two texts share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Text(u32),
    Picture(u64),
}

/// A KV cache, and the text it holds.
#[derive(Debug)]
pub struct Session<B: Backend> {
    cache: Option<KvCache<B>>,
    read: Vec<Slot>,
}

/// Caches grow by this many positions, so that a long answer does not copy them at every token.
const GROWTH: usize = 256;

impl<B: Backend> Default for Session<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Backend> Session<B> {
    /// A session that has read nothing.
    pub fn new() -> Self {
        Self {
            cache: None,
            read: Vec::new(),
        }
    }

    /// Reads a text, of which the longest start it shares with what was read before is kept, and
    /// gives the scores of the token that follows, with the number of positions newly read.
    ///
    /// `room` is how many more positions the cache should have for the answer.
    ///
    /// # Shapes
    /// the scores are `[1, vocab]`
    ///
    /// # Errors
    /// When the text is empty, the text and the answer do not fit the model's positions, or a picture
    /// is missing.
    pub fn prefill(
        &mut self,
        model: &Bunny<B>,
        tokens: &[Token],
        pictures: &mut [Picture<B>],
        room: usize,
        device: &B::Device,
    ) -> Result<(Tensor<B, 2>, usize), Error> {
        if tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        let slots = slots(tokens, pictures)?;
        let total = model.positions(tokens);
        let context = model.config().decoder.max_position_embeddings;
        if total + room > context {
            return Err(Error::TooLong {
                prompt: total,
                pictures: total
                    - tokens
                        .iter()
                        .filter(|t| matches!(t, Token::Text(_)))
                        .count(),
                answer: room,
                context,
            });
        }
        let shared = slots
            .iter()
            .zip(&self.read)
            .take_while(|(a, b)| a == b)
            .count();
        // The last place is read again even when all is known: its scores are wanted.
        let shared = shared.min(tokens.len() - 1);
        let kept = model.positions(&tokens[..shared]);
        let cache = self
            .cache
            .get_or_insert_with(|| model.new_cache(1, 0, device));
        cache.truncate(kept);
        let wanted = (total + room).next_multiple_of(GROWTH).min(context);
        cache.reserve(wanted);
        self.read.truncate(shared);
        let embeds = embed(model, &tokens[shared..], pictures, device)?;
        let hidden = model.forward(embeds, &[], Some(cache), &Mode::INFERENCE);
        self.read = slots;
        Ok((model.last_logits(hidden), total - kept))
    }

    /// Reads one more token and gives the scores of the one that follows, `[1, vocab]`.
    ///
    /// # Panics
    /// When nothing has been read yet.
    pub fn step(&mut self, model: &Bunny<B>, token: u32) -> Tensor<B, 2> {
        let cache = self
            .cache
            .as_mut()
            .expect("a prompt is read before its answer");
        cache.reserve((cache.len() + 1).next_multiple_of(GROWTH));
        let embeds = model.embed_text(&[Token::Text(token)]).unsqueeze();
        let hidden = model.forward(embeds, &[], Some(cache), &Mode::INFERENCE);
        self.read.push(Slot::Text(token));
        model.last_logits(hidden)
    }
}

/// What stands at each place of a text.
fn slots<B: Backend>(tokens: &[Token], pictures: &[Picture<B>]) -> Result<Vec<Slot>, Error> {
    let wanted = tokens
        .iter()
        .filter(|token| matches!(token, Token::Picture(_)))
        .count();
    tokens
        .iter()
        .map(|token| match token {
            Token::Text(id) => Ok(Slot::Text(*id)),
            Token::Picture(number) => match pictures.get(*number as usize) {
                Some(picture) => Ok(Slot::Picture(picture.key)),
                None => Err(Error::Pictures {
                    slots: wanted,
                    given: pictures.len(),
                }),
            },
        })
        .collect()
}

/// The embeddings of a stretch of text and pictures, `[1, seq, hidden]`.
pub(super) fn embed<B: Backend>(
    model: &Bunny<B>,
    tokens: &[Token],
    pictures: &mut [Picture<B>],
    device: &B::Device,
) -> Result<Tensor<B, 3>, Error> {
    let mut features = Vec::new();
    for picture in tokens.iter().filter_map(|token| match token {
        Token::Picture(number) => Some(*number as usize),
        Token::Text(_) => None,
    }) {
        let given = pictures.len();
        let picture = pictures.get_mut(picture).ok_or(Error::Pictures {
            slots: picture + 1,
            given,
        })?;
        features.push(picture.embeddings(model, device));
    }
    model.embed(tokens, features)
}
