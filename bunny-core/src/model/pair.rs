//! Pairs of towers: pictures and captions to vectors in one space, whose cosine says how well they fit.
//!
//! What data is selected with, and what a vision tower is trained in. A Bunny itself reads only the
//! vision tower of one.

mod clip;
mod siglip;
mod text;

use burn::tensor::{DType, Tensor, backend::Backend};

pub use clip::ClipPair;
pub use siglip::{PoolingAttention, PoolingHead, SiglipPair};
pub use text::{Table, TextEmbeddings, TextEncoder, TextTower};

use super::tower::stack_pixels;
use crate::{
    Error,
    config::{PairConfig, PairKind, SiglipConfig},
    input::image::Pixels,
    nn::{Builder, NameTable, ParameterSpec, Part, Precision, Weights, describe},
};

/// A pair of towers on its device.
#[derive(Debug)]
pub struct Pair<B: Backend> {
    towers: Towers<B>,
    config: PairConfig,
    precision: Precision,
    device: B::Device,
}

#[allow(
    clippy::large_enum_variant,
    reason = "there is one of them, and it is not moved"
)]
#[derive(Debug)]
enum Towers<B: Backend> {
    Clip(ClipPair<B>),
    Siglip(SiglipPair<B>),
}

/// A tower in a Bunny leaves out its last layer; in a pair all of them take part.
fn whole(vision: &SiglipConfig) -> SiglipConfig {
    SiglipConfig {
        num_hidden_layers: vision.num_hidden_layers + 1,
        ..vision.clone()
    }
}

/// Every parameter of a pair of `config`, in the order in which it is built.
pub fn describe_pair(config: &PairConfig) -> Vec<ParameterSpec> {
    describe(&NameTable::SAME, |builder| {
        Towers::new(config, &builder.of(Part::VisionTower))
    })
}

impl<B: Backend> Towers<B> {
    fn new(config: &PairConfig, builder: &Builder<'_, B>) -> Self {
        match config.kind {
            PairKind::Clip => Self::Clip(ClipPair::new(config, builder)),
            PairKind::Siglip => {
                Self::Siglip(SiglipPair::new(&config.vision, &config.text, builder))
            }
        }
    }
}

impl<B: Backend> Pair<B> {
    /// A pair from stored weights.
    ///
    /// # Errors
    /// When tensors are missing, misshapen, unexpected or not floats; all of them are listed.
    pub fn load(
        config: &PairConfig,
        weights: &dyn Weights,
        precision: Precision,
        device: &B::Device,
    ) -> Result<Self, Error> {
        weights.read_ahead();
        let towers = Builder::build(weights, &NameTable::SAME, precision, device, |builder| {
            Towers::new(config, &builder.of(Part::VisionTower))
        })?;
        Ok(Self {
            towers,
            config: config.clone(),
            precision,
            device: device.clone(),
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &PairConfig {
        &self.config
    }

    /// One vector a picture, of whatever length: `get_image_features` of `transformers`.
    ///
    /// # Shapes
    /// `pictures` → `[pictures, projection_dim]`, f32
    pub fn pictures(&self, pictures: &[&Pixels]) -> Tensor<B, 2> {
        let pixels = stack_pixels::<B>(pictures.iter().copied(), &self.device);
        let pixels = pixels.cast(self.precision.compute);
        let vectors = match &self.towers {
            Towers::Clip(pair) => pair.pictures(pixels),
            Towers::Siglip(pair) => pair.pictures(pixels),
        };
        vectors.cast(DType::F32)
    }

    /// One vector a caption, of whatever length: `get_text_features` of `transformers`. Captions are as
    /// [`CaptionTokenizer`](crate::input::tokenizer::CaptionTokenizer) gives them, at least one. Those of
    /// a CLIP may be of any lengths, and take as long as the longest.
    ///
    /// # Shapes
    /// `captions` → `[captions, projection_dim]`, f32
    ///
    /// # Errors
    /// [`Error::NoSuchToken`] for an id that the table has no row for.
    pub fn captions(&self, captions: &[Vec<i32>]) -> Result<Tensor<B, 2>, Error> {
        let rows = self.config.text.vocab_size;
        let is_in_table = |id: &&i32| usize::try_from(**id).is_ok_and(|id| id < rows);
        if let Some(id) = captions.iter().flatten().find(|id| !is_in_table(id)) {
            return Err(Error::NoSuchToken {
                id: u32::try_from(*id).unwrap_or(u32::MAX),
                rows,
            });
        }
        let vectors = match &self.towers {
            Towers::Clip(pair) => pair.captions(captions, &self.config.text),
            Towers::Siglip(pair) => pair.captions(&captions.concat()),
        };
        Ok(vectors.cast(DType::F32))
    }
}
