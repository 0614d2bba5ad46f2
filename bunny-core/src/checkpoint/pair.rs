//! A pair of towers opened from its folder, as `transformers` saves a `CLIPModel` or a `SiglipModel`.

use std::path::Path;

use bunny_weights::{
    TensorFiles,
    folder::{CONFIG, PREPROCESSOR_CONFIG, PROCESSOR_CONFIG},
};

use super::WeightSet;
use crate::{
    ConfigError, Error,
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
    /// Opens the files of a folder: `config.json`, `preprocessor_config.json` (or `processor_config.json`,
    /// as transformers 5 has it), a tokenizer, and weights.
    ///
    /// # Errors
    /// When a file is missing or damaged, is of another model, or they do not fit each other.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, Error> {
        let folder = folder.as_ref();
        let config = PairConfig::read(folder.join(CONFIG))?;
        let places = config.text.max_position_embeddings;
        let tokenizer = match config.kind {
            PairKind::Clip => CaptionTokenizer::clip(folder, places)?,
            PairKind::Siglip => CaptionTokenizer::siglip(folder, places)?,
        };
        let mut files = [PREPROCESSOR_CONFIG, PROCESSOR_CONFIG]
            .map(|name| folder.join(name))
            .into_iter();
        let (side, kind) = (config.vision.image_size, config.kind);
        let image_processor = match (files.find(|file| file.exists()), kind) {
            (Some(file), _) => {
                let processor = ImageProcessor::from_preprocessor_config(&file)?;
                if processor.size != side {
                    let made = processor.size;
                    return Err(Error::Config(ConfigError::Field {
                        file,
                        field: "size".into(),
                        problem: format!("is {made}, but the tower's `image_size` is {side}"),
                    }));
                }
                processor
            }
            (None, PairKind::Clip) => ImageProcessor::clip(side),
            (None, PairKind::Siglip) => ImageProcessor::siglip(side),
        };
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
