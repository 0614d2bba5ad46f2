//! Two GGUF files opened as a model.

use std::collections::{BTreeMap, BTreeSet};

use bunny_weights::{
    CheckpointError, ModelFolder, StoredTensor,
    folder::CONFIG,
    gguf::{GgufFile, GgufTensor},
    packed::{PackedTensor, RowOrder},
};

use super::{
    architecture::Architecture, fields::scalars, find::GgufFiles, names, projector::ProjectorFile,
    vocabulary,
};
use crate::{
    Error, Fields,
    checkpoint::{OpenModel, WeightSet},
    config::{BunnyConfig, VisionConfig},
    input::image::ImageProcessor,
    nn::{ParameterSpec, Part},
};

/// A model's two files, and what they say.
struct Model {
    text: GgufFile,
    projector: ProjectorFile,
    architecture: &'static Architecture,
    fields: Fields,
    config: BunnyConfig,
    image_processor: ImageProcessor,
}

impl Model {
    fn open(files: &GgufFiles) -> Result<Self, Error> {
        let text = GgufFile::open(&files.text)?;
        let projector = ProjectorFile::open(GgufFile::open(files.projector()?)?)?;
        let said = scalars(&text);
        let architecture = Architecture::named(&said)?;
        let rows = vocabulary::count(&text)?;
        let mut json = architecture.config_json(&said, rows, |name| text.get(name).is_some())?;
        let tower = Fields::of(projector.file().path(), projector.tower_json()?);
        let vision = VisionConfig::from_fields(&tower)?;
        json.extend(projector.config_json(&vision));
        for (field, id) in vocabulary::ends(&text) {
            json.insert(field.into(), id.into());
        }
        let fields = Fields::of(text.path(), json);
        let config = BunnyConfig::from_fields(&fields, Some(&tower))?;
        let image_processor = projector.image_processor(config.vision.image_size())?;
        Ok(Self {
            image_processor: image_processor.with_aspect(config.image_aspect_ratio),
            text,
            projector,
            architecture,
            fields,
            config,
        })
    }

    /// The tensor of the language model that is a parameter, with what it is called and how its rows lie.
    fn find_text(&self, spec: &ParameterSpec) -> Option<(String, Option<GgufTensor>, RowOrder)> {
        let decoder = &self.config.decoder;
        let name = names::of_text(&spec.local)?;
        let order = self.architecture.order_of(decoder, &spec.local);
        let found = self.text.get(&name).cloned().or_else(|| {
            // Older files have queries, keys and values in one.
            let (query, shared) = (decoder.query_size(), decoder.key_value_size());
            let (start, part) = match name.split_once(".attn_") {
                Some((layer, rest)) => (layer, rest.split_once('.')?),
                None => return None,
            };
            let rows = match part.0 {
                "q" => 0..query,
                "k" => query..query + shared,
                "v" => query + shared..query + 2 * shared,
                _ => return None,
            };
            let fused = self.text.get(&format!("{start}.attn_qkv.{}", part.1))?;
            (fused.shape[0] == query + 2 * shared).then(|| fused.some_rows(rows))
        });
        Some((name, found, order))
    }

    /// All weights under their published names.
    fn weights(&self) -> Result<WeightSet, Error> {
        let mut used = BTreeSet::new();
        let mut floats: [Vec<StoredTensor>; 2] = Default::default();
        let mut packed = BTreeMap::new();
        let (mut missing, mut misshapen) = (Vec::new(), Vec::new());
        for spec in self.config.describe() {
            let of_text = spec.part == Part::LanguageModel;
            let found = match of_text {
                true => self.find_text(&spec),
                false => {
                    let found = self.projector.find(&spec);
                    found.map(|(name, tensor)| (name, tensor.cloned(), RowOrder::Same))
                }
            };
            let Some((name, Some(tensor), order)) = found else {
                if let Some(stored) = self.projector.left_out(&spec) {
                    floats[1].push(stored);
                    continue;
                }
                missing.push(found.map_or(spec.published, |(name, ..)| name));
                continue;
            };
            used.insert(tensor.name.clone());
            let stored = tensor
                .floats(&spec.published)
                .filter(|_| order == RowOrder::Same);
            if let Some(stored) = stored {
                floats[usize::from(!of_text)].push(stored);
                continue;
            }
            match PackedTensor::of_blocks(&spec.published, &tensor, order) {
                Some(weight) => drop(packed.insert(spec.published, weight)),
                None => {
                    let (shape, kind) = (&tensor.shape, tensor.kind.name());
                    misshapen.push(format!(
                        "{name} is {shape:?} of {kind}, expected {:?}",
                        spec.shape
                    ));
                }
            }
        }
        let is_left = |name: &&str| !used.contains(*name);
        // Bunny's Phi has no bias on its head.
        let of_text = self
            .text
            .names()
            .filter(is_left)
            .filter(|name| *name != "output.bias");
        let others = self.projector.file().names().filter(is_left);
        let others = others.filter(|name| !self.projector.is_unused(name));
        let unexpected: Vec<String> = of_text.chain(others).map(str::to_owned).collect();
        let place = self.text.path().display().to_string();
        if !(missing.is_empty() && misshapen.is_empty() && unexpected.is_empty()) {
            return Err(Error::Checkpoint(CheckpointError::Mismatch {
                place,
                missing,
                misshapen,
                unexpected,
            }));
        }
        let [text, projector] = floats;
        Ok(WeightSet::new(place)
            .with(self.text.as_tensor_files(text)?)
            .with(self.projector.file().as_tensor_files(projector)?)
            .with_packed(packed))
    }
}

impl GgufFiles {
    /// The model's sizes and choices; no weights are read.
    pub fn configuration(&self) -> Result<BunnyConfig, Error> {
        Ok(Model::open(self)?.config)
    }

    /// Opens the model, and checks what can be checked without reading weights.
    pub fn open(&self) -> Result<OpenModel, Error> {
        let model = Model::open(self)?;
        let weights = model.weights()?;
        let read = vocabulary::read(&model.text, model.architecture)?;
        let Model {
            fields,
            mut config,
            image_processor,
            ..
        } = model;
        config.decoder.vocab_size = read.tokenizer.vocab_size();
        let [tokenizer, tokenizer_config] = vocabulary::file_names();
        let beside = ModelFolder::new()
            .with_json(CONFIG, fields.values().clone().into())
            .with_bytes(tokenizer, read.json.tokenizer.into_bytes())
            .with_bytes(tokenizer_config, read.json.config.into_bytes());
        Ok(OpenModel {
            config,
            weights,
            tokenizer: read.tokenizer,
            image_processor,
            beside,
        })
    }
}
