//! A model put together from parts that were published apart: where training starts.

use std::path::{Path, PathBuf};

use bunny_weights::TensorFiles;

use super::{
    OpenModel, WeightSet,
    source::{TOWER, configuration, folder_of, image_processor, open_tower, projector, unused},
};
use crate::{Error, Fields, config::BunnyConfig, input::tokenizer::Tokenizer};

/// The parts of a model that is yet to be one.
#[derive(Debug)]
pub struct Parts {
    /// The folder of the language model, or of a whole Bunny to go on from.
    pub language_model: PathBuf,
    /// The vision tower, a folder or a file of weights, where the folder above holds none.
    pub vision_tower: Option<PathBuf>,
    /// Tensors under their published names that go before those of the folder above: a projector,
    /// or what learnt beside an adapter. Of two of one name, the first holds.
    pub learnt: Vec<TensorFiles>,
}

impl Parts {
    /// Sizes and choices of the model that `fields`, its `config.json`, describes, the vocabulary
    /// being the tokenizer's.
    ///
    /// # Errors
    /// When `fields` describe no model, or there is no tokenizer.
    pub fn configuration(&self, fields: &Fields) -> Result<(BunnyConfig, Tokenizer), Error> {
        let tower_folder = self.vision_tower.as_deref().map(folder_of);
        let mut config = configuration(fields, tower_folder)?;
        let tokenizer = Tokenizer::from_folder(&self.language_model)?;
        config.decoder.vocab_size = tokenizer.vocab_size();
        Ok((config, tokenizer))
    }

    /// Opens the files of the model that `fields`, its `config.json`, describes.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the tower is nowhere to be found.
    pub fn open(self, fields: &Fields) -> Result<OpenModel, Error> {
        let (config, tokenizer) = self.configuration(fields)?;
        let image_processor =
            image_processor(&config, self.vision_tower.as_deref().map(folder_of))?;
        let place = self.language_model.display().to_string();
        let mut weights = WeightSet::new(place).leaving_aside(unused(&config));
        for learnt in self.learnt {
            weights = weights.with(learnt);
        }
        weights = weights.with(TensorFiles::open_folder(&self.language_model)?);
        if !weights.has_any(TOWER) {
            let tower = self.vision_tower.ok_or_else(|| Error::NoTower {
                folder: self.language_model.clone(),
                tower: config.vision_tower.clone(),
            })?;
            weights = weights.with(open_tower(&tower)?);
        }
        Ok(OpenModel {
            config,
            weights,
            tokenizer,
            image_processor,
            tokenizer_folder: Some(self.language_model),
        })
    }
}

/// A projector's tensors under their published names, from its folder or file.
///
/// # Errors
/// When there is no such file, or it holds anything but tensors.
pub fn open_projector(path: impl AsRef<Path>) -> Result<TensorFiles, Error> {
    projector(path.as_ref())
}
