//! Both towers of a CLIP, named as in `transformers`' `CLIPModel`.
//!
//! A picture's vector is made of its class token, a caption's of the place of its end of text.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};

use super::{TextTower, whole};
use crate::{
    config::{ClipConfig, PairConfig, TextConfig},
    model::tower::Clip,
    nn::{Builder, Linear, Mode},
};

/// Pictures and captions to vectors in one space.
#[derive(Module, Debug)]
pub struct ClipPair<B: Backend> {
    /// The vision tower with all its layers.
    pub tower: Clip<B>,
    /// A class token to a vector; no bias.
    pub visual_projection: Linear<B>,
    /// The text tower; its head is `text_projection` in files, without a bias.
    pub text_model: TextTower<B>,
}

impl<B: Backend> ClipPair<B> {
    /// Towers whose parameters are those below `builder`.
    pub fn new(config: &PairConfig, builder: &Builder<'_, B>) -> Self {
        let projection = |name: &str, inputs: usize| {
            Linear::new(&builder.child(name), inputs, config.projection_dim, false)
        };
        let blocks = whole(&config.vision);
        Self {
            tower: Clip::new(&ClipConfig { blocks }, builder),
            visual_projection: projection("visual_projection", config.vision.hidden_size),
            text_model: TextTower::new(&config.text, &builder.child("text_model"), || {
                projection("text_projection", config.text.layers.hidden_size)
            }),
        }
    }

    /// One vector a picture.
    ///
    /// # Shapes
    /// `[pictures, 3, size, size]` → `[pictures, projection]`
    pub fn pictures(&self, pixels: Tensor<B, 4>) -> Tensor<B, 2> {
        let seen = self.tower.encode(pixels);
        let [pictures, _, hidden] = seen.dims();
        let class = seen.narrow(1, 0, 1).reshape([pictures, hidden]);
        let class = self.tower.vision_model.post_layernorm.forward(class);
        self.visual_projection.forward(class, &Mode::PREFILL)
    }

    /// One vector a caption; ids behind a caption's end are not looked at.
    ///
    /// # Shapes
    /// `captions` → `[captions, projection]`
    pub fn captions(&self, captions: &[Vec<i32>], config: &TextConfig) -> Tensor<B, 2> {
        let read: Vec<usize> = captions.iter().map(|ids| config.read_of(ids)).collect();
        let places = read.iter().copied().max().unwrap_or_default().max(1);
        let mut ids = vec![0; captions.len() * places];
        for ((row, caption), read) in ids.chunks_exact_mut(places).zip(captions).zip(&read) {
            row[..*read].copy_from_slice(&caption[..*read]);
        }
        let ends: Vec<usize> = read.iter().map(|read| read.saturating_sub(1)).collect();
        self.text_model.ends_of(&ids, places, &ends)
    }
}
