//! What is answered: tokens and pictures.

use burn::tensor::{Tensor, backend::Backend};

use super::picture::{Picture, PictureKey};
use crate::{Bunny, Error, input::tokenizer::Token};

/// A prompt.
#[derive(Debug, Clone)]
pub struct Prompt<B: Backend> {
    /// Its tokens and picture slots.
    pub tokens: Vec<Token>,
    /// Its pictures, in the order of their slots.
    pub pictures: Vec<Picture<B>>,
}

/// What stands at a place of a prompt or an answer: compared to find what two texts share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Text(u32),
    Picture(PictureKey),
}

impl<B: Backend> Prompt<B> {
    /// What stands at each place.
    ///
    /// # Errors
    /// When there is none, or a picture is missing.
    pub(super) fn places(&self) -> Result<Vec<Place>, Error> {
        if self.tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        let place = |token: &Token| match token {
            Token::Text(id) => Ok(Place::Text(*id)),
            Token::Picture(number) => match self.pictures.get(*number as usize) {
                Some(picture) => Ok(Place::Picture(picture.key())),
                None => Err(Error::Pictures {
                    slots: self.slots().count(),
                    given: self.pictures.len(),
                }),
            },
        };
        self.tokens.iter().map(place).collect()
    }

    /// The numbers of the pictures at its slots, from place `first` on.
    fn slots_from(&self, first: usize) -> impl Iterator<Item = usize> + '_ {
        self.tokens[first..].iter().filter_map(|token| match token {
            Token::Picture(number) => Some(*number as usize),
            Token::Text(_) => None,
        })
    }

    /// The numbers of the pictures at its slots.
    pub(super) fn slots(&self) -> impl Iterator<Item = usize> + '_ {
        self.slots_from(0)
    }

    /// The pictures that are shown from place `first` on.
    pub(super) fn shown_from(&mut self, first: usize) -> impl Iterator<Item = &mut Picture<B>> {
        let numbers: Vec<usize> = self.slots_from(first).collect();
        let pictures = self.pictures.iter_mut().enumerate();
        pictures.filter_map(move |(number, picture)| numbers.contains(&number).then_some(picture))
    }

    /// The embeddings from place `first` on, `[1, positions, hidden]`; its [`places`](Self::places) were
    /// found to be there.
    pub(super) fn embed_from(
        &mut self,
        first: usize,
        model: &Bunny<B>,
        device: &B::Device,
    ) -> Tensor<B, 3> {
        let numbers: Vec<usize> = self.slots_from(first).collect();
        let features = numbers
            .into_iter()
            .map(|number| self.pictures[number].embeddings(model, device));
        let features = features.collect();
        let embeds = model.embed(&self.tokens[first..], features);
        embeds.expect("there are tokens, and a picture for each slot")
    }
}
