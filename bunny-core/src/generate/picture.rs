//! Pictures of prompts: their pixels, and what the tower made of them.

use std::{collections::HashMap, sync::Arc};

use burn::tensor::{Tensor, backend::Backend};
use sha2::{Digest, Sha256};

use crate::{Bunny, input::image::Pixels};

/// Tells pictures apart: a digest of their pixels. Whoever can make two pictures of one digest could
/// have one answered as the other; of this one nobody can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PictureKey([u8; 32]);

/// A picture of a conversation: its pixels, and its embeddings once they are made.
#[derive(Debug, Clone)]
pub struct Picture<B: Backend> {
    pixels: Arc<Pixels>,
    key: PictureKey,
    embeddings: Option<Tensor<B, 3>>,
}

impl<B: Backend> Picture<B> {
    /// A picture as it enters the tower.
    pub fn new(pixels: impl Into<Arc<Pixels>>) -> Self {
        let pixels = pixels.into();
        let mut digest = Sha256::new();
        digest.update(pixels.width.to_le_bytes());
        let mut bytes = [[0; 4]; 1024];
        for some in pixels.data.chunks(bytes.len()) {
            for (bytes, value) in bytes.iter_mut().zip(some) {
                *bytes = value.to_le_bytes();
            }
            digest.update(bytes[..some.len()].as_flattened());
        }
        Self {
            pixels,
            key: PictureKey(digest.finalize().into()),
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
        let pixels: Vec<&Pixels> = new.iter().map(|picture| &*picture.pixels).collect();
        let embeddings = model.encode_pictures(&pixels, device).chunk(new.len(), 0);
        for (picture, embeddings) in new.into_iter().zip(embeddings) {
            picture.embeddings = Some(embeddings);
        }
    }

    /// Whether the embeddings are made.
    pub fn is_encoded(&self) -> bool {
        self.embeddings.is_some()
    }

    pub(super) fn key(&self) -> PictureKey {
        self.key
    }
}

/// Embeddings of the pictures that were shown last.
#[derive(Debug)]
pub(super) struct PictureCache<B: Backend> {
    most: usize,
    /// Of each picture, its embeddings and when it was last shown.
    known: HashMap<PictureKey, (Tensor<B, 3>, u64)>,
    shown: u64,
}

impl<B: Backend> PictureCache<B> {
    /// A cache of `most` pictures.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            known: HashMap::new(),
            shown: 0,
        }
    }

    /// Sees to it that some pictures have embeddings; how many the tower had to make.
    pub(super) fn encode(
        &mut self,
        pictures: &mut [&mut Picture<B>],
        model: &Bunny<B>,
        device: &B::Device,
    ) -> usize {
        // The same picture twice is one picture.
        let mut new: Vec<Picture<B>> = Vec::new();
        for picture in pictures.iter_mut().filter(|picture| !picture.is_encoded()) {
            match self.known.get(&picture.key) {
                Some((embeddings, _)) => picture.embeddings = Some(embeddings.clone()),
                None if new.iter().any(|one| one.key == picture.key) => {}
                None => new.push(picture.clone()),
            }
        }
        Picture::encode_all(&mut new, model, device);
        for picture in pictures.iter_mut() {
            if let Some(one) = new.iter().find(|one| one.key == picture.key) {
                picture.embeddings.clone_from(&one.embeddings);
            }
            self.shown += 1;
            if let Some(embeddings) = &picture.embeddings {
                let known = (embeddings.clone(), self.shown);
                self.known.insert(picture.key, known);
            }
        }
        while self.known.len() > self.most {
            let oldest = self.known.iter().min_by_key(|(_, (_, shown))| *shown);
            let Some(key) = oldest.map(|(key, _)| *key) else {
                break;
            };
            self.known.remove(&key);
        }
        new.len()
    }
}
