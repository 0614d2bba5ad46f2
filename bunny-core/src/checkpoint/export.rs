//! From a model back to published files: the inverse of building one.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use bunny_weights::{CheckpointError, ModelFolder, StoredDtype, convert, writer::PlannedTensor};
use burn::tensor::{Tensor, backend::Backend};

use super::folder::{described, float_to_write};
use crate::{
    Bunny, Error,
    input::image::ImageProcessor,
    nn::{WeightFormat, visit_parameters},
};

/// A parameter of a model, by its published name.
///
/// What is held in several blocks or layers and is one tensor in files is one here.
#[derive(Debug, Clone)]
pub struct NamedParameter<B: Backend> {
    /// The published name.
    pub name: String,
    /// Its published shape.
    pub shape: Vec<usize>,
    /// Its numbers, flat, in pieces to be put end to end.
    pub pieces: Vec<Tensor<B, 1>>,
}

impl<B: Backend> NamedParameter<B> {
    /// The numbers in type `dtype`, little endian.
    fn bytes(&self, dtype: StoredDtype) -> Vec<u8> {
        let mut bytes = Vec::new();
        for piece in &self.pieces {
            let data = piece.clone().into_data();
            let values: Vec<f32> = data.iter::<f32>().collect();
            bytes.extend(convert::from_f32(&values, dtype).expect("weights are floats"));
        }
        bytes
    }
}

impl<B: Backend> Bunny<B> {
    /// Every parameter by its published name, in the order of the model. Adapters that are not
    /// merged are not among them.
    pub fn named_parameters(&self) -> Vec<NamedParameter<B>> {
        let specs = self.config().describe();
        let mut found: Vec<NamedParameter<B>> = Vec::with_capacity(specs.len());
        let mut places: HashMap<String, usize> = HashMap::with_capacity(specs.len());
        visit_parameters(self, &specs, |parameter| {
            if parameter.lora.is_some() {
                return;
            }
            let name = &parameter.spec.published;
            let piece = parameter.numbers();
            match places.get(name) {
                // Another block of a table, or the next rows of what is one tensor in files.
                Some(&place) => {
                    found[place].shape[0] += parameter.shape[0];
                    found[place].pieces.push(piece);
                }
                None => {
                    places.insert(name.clone(), found.len());
                    found.push(NamedParameter {
                        name: name.clone(),
                        shape: parameter.shape,
                        pieces: vec![piece],
                    });
                }
            }
        });
        found
    }

    /// Writes the model as a merged checkpoint, in shards of at most `max_shard_size` bytes, with what
    /// lies `beside` it: as [`OpenModel::beside`](super::OpenModel::beside) where it was loaded from
    /// files, or nothing but a tokenizer. Its own configuration goes over the one there. A tower that
    /// is not published says its sizes, and how `image_processor` prepares its pictures, in a folder
    /// of its own.
    ///
    /// Gives the files written.
    ///
    /// # Errors
    /// When the model is packed, `dtype` is no float, or a file cannot be written; files that were there before are then
    /// whole.
    pub fn save(
        &self,
        folder: impl AsRef<Path>,
        dtype: StoredDtype,
        max_shard_size: u64,
        beside: &ModelFolder,
        image_processor: &ImageProcessor,
    ) -> Result<Vec<PathBuf>, Error> {
        float_to_write(folder.as_ref(), dtype)?;
        if let WeightFormat::Packed(packing) = self.language_model_format() {
            let packing = packing.to_string();
            return Err(Error::Packed { packing });
        }
        let parameters = self.named_parameters();
        let plan: Vec<_> = parameters
            .iter()
            .map(|parameter| PlannedTensor {
                name: parameter.name.clone(),
                dtype,
                shape: parameter.shape.clone(),
            })
            .collect();
        let by_name: HashMap<&str, _> = parameters
            .iter()
            .map(|parameter| (parameter.name.as_str(), parameter))
            .collect();
        let files = described(beside, self.config(), image_processor, dtype);
        let written = files.write(folder, &plan, max_shard_size, |planned| {
            let parameter = by_name[planned.name.as_str()];
            Ok::<_, CheckpointError>(parameter.bytes(planned.dtype))
        })?;
        Ok(written)
    }
}
