//! A pair of towers opened from its folder, as `transformers` saves a `CLIPModel` or a `SiglipModel`.

use std::path::Path;

use bunny_weights::{
    TensorFiles,
    folder::{CONFIG, PREPROCESSOR_CONFIG},
};

use super::WeightSet;
use crate::{
    Error,
    config::{PairConfig, PairKind},
    input::{
        image::{Aspect, ImageProcessor},
        tokenizer::CaptionTokenizer,
    },
    nn::{WeightFormat, Weights, held_as},
};

/// A pair of towers whose files are open and whose weights can be read.
#[derive(Debug)]
pub struct OpenPair {
    /// Its sizes.
    pub config: PairConfig,
    /// Its weights under their published names.
    pub weights: WeightSet,
    /// Captions to ids.
    pub tokenizer: CaptionTokenizer,
    /// Pictures to pixels, prepared as the model's own: CLIP's middle, SigLIP's whole, squeezed.
    pub image_processor: ImageProcessor,
}

/// What files hold that a pair of vectors does not need.
const LEFT_ASIDE: [&str; 3] = [
    "vision_model.embeddings.position_ids",
    "text_model.embeddings.position_ids",
    // Of a CLIP: what cosines are multiplied with.
    "logit_scale",
];

impl OpenPair {
    /// Opens the files of a folder: `config.json`, `preprocessor_config.json`, a tokenizer, and weights.
    ///
    /// # Errors
    /// When a file is missing or damaged, is of another model, or they do not fit each other.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, Error> {
        let folder = folder.as_ref();
        let file = folder.join(CONFIG);
        let config = PairConfig::read(&file)?;
        let places = config.text.max_position_embeddings;
        let tokenizer = match config.kind {
            PairKind::Clip => CaptionTokenizer::clip(folder, places)?,
            PairKind::Siglip => CaptionTokenizer::siglip(folder, places)?,
        };
        let own = folder.join(PREPROCESSOR_CONFIG);
        let image_processor = match (own.exists(), config.kind) {
            (true, _) => ImageProcessor::from_preprocessor_config(own)?,
            (false, PairKind::Clip) => ImageProcessor::clip(config.vision.image_size),
            (false, PairKind::Siglip) => ImageProcessor::siglip(config.vision.image_size),
        };
        if image_processor.size != config.vision.image_size {
            let problem = format!(
                "is {}, and {PREPROCESSOR_CONFIG} makes pictures of {}",
                config.vision.image_size, image_processor.size
            );
            let fields = crate::Fields::read(file)?;
            return Err(fields.invalid("vision_config.image_size", problem).into());
        }
        let left_aside = match config.kind {
            PairKind::Clip => &LEFT_ASIDE[..],
            PairKind::Siglip => &LEFT_ASIDE[..2],
        };
        let weights = WeightSet::new(folder.display().to_string())
            .with(TensorFiles::open_folder(folder)?)
            .leaving_aside(left_aside.iter().map(|name| (*name).to_owned()));
        Ok(Self {
            image_processor: image_processor.with_aspect(Aspect::Square),
            config,
            weights,
            tokenizer,
        })
    }

    /// The format that its weights are stored in.
    pub fn stored_format(&self) -> WeightFormat {
        let table = "text_model.embeddings.token_embedding.weight";
        let stored = self.weights.take(table).map(|stored| stored.dtype);
        stored
            .and_then(held_as)
            .and_then(WeightFormat::of_floats)
            .unwrap_or(WeightFormat::F32)
    }
}
