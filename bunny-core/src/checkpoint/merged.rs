//! Stored weights into one merged checkpoint, a tensor at a time, without building the model.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use bunny_weights::{
    CheckpointError, StoredDtype, TensorFiles,
    adapter::Adapter,
    writer::{MAX_SHARD_SIZE, PlannedTensor, SIDE_FILES, copy_side_files, write_folder},
};
use burn::tensor::DType;
use serde_json::{Value, json};

use super::{
    OpenModel, WeightSet,
    export::{float_to_write, write_json, write_tower},
    source::TOWER,
};
use crate::{Error, config::BunnyConfig, nn::Weights};

impl OpenModel {
    /// Writes the model as a merged checkpoint in `folder`: adapters folded into the weights they
    /// belong to, in f32 before rounding to `dtype`; token tables cut to the vocabulary; configuration
    /// beside, and the tokenizer's files where there are any. `config` is the `config.json` to start from.
    ///
    /// What a published tower holds and Bunny never reads (its last layer and its head) is kept,
    /// since the reference asks for it. One tensor is in memory at a time.
    ///
    /// Gives the files written.
    ///
    /// # Errors
    /// When `dtype` is no float, a tensor cannot be read, an adapter has no weight to go to, or a file
    /// cannot be written.
    pub fn write_merged(
        &self,
        folder: impl AsRef<Path>,
        mut config: Value,
        dtype: StoredDtype,
    ) -> Result<Vec<PathBuf>, Error> {
        let folder = folder.as_ref();
        let float = float_to_write(folder, dtype)?;
        let plan = self.weights.merged_plan(&self.config, dtype)?;
        let mut written = write_folder(folder, &plan, MAX_SHARD_SIZE, |planned| {
            self.weights.merged_bytes(planned, float)
        })?;
        if let Some(tokenizer) = &self.tokenizer_folder {
            // The base's own configuration is not this model's.
            let names = SIDE_FILES.iter().filter(|name| **name != "config.json");
            let names: Vec<&str> = names.copied().collect();
            let copied = copy_side_files(tokenizer, folder, &names)?;
            written.extend(copied.iter().map(|name| folder.join(name)));
        }
        config["torch_dtype"] = json!(dtype.torch_name());
        config["vocab_size"] = json!(self.config.decoder.vocab_size);
        config["mm_hidden_size"] = json!(self.config.vision.hidden_size());
        let vision = &self.config.vision;
        if let Some((tower, files)) = write_tower(folder, vision, &self.image_processor)? {
            config["mm_vision_tower"] = json!(tower);
            written.extend(files);
        }
        written.push(write_json(folder.join("config.json"), &config)?);
        Ok(written)
    }
}

impl WeightSet {
    /// Every tensor of the merged model that `config` describes.
    fn merged_plan(
        &self,
        config: &BunnyConfig,
        dtype: StoredDtype,
    ) -> Result<Vec<PlannedTensor>, CheckpointError> {
        let names = config.family.names();
        let tied = config.decoder.tie_word_embeddings;
        let computed = config.vision.computed(TOWER);
        let is_computed = |name: &str| computed.iter().any(|start| name.starts_with(start));
        let all: BTreeSet<&str> = self
            .parts
            .iter()
            .flat_map(TensorFiles::names)
            .filter(|name| !names.is_unused(name) && !is_computed(name))
            .filter(|name| !tied || *name != "lm_head.weight")
            .collect();
        let targets = self.adapter.iter().flat_map(Adapter::targets);
        let strays: Vec<String> = targets
            .filter(|target| !all.contains(&*format!("{target}.weight")))
            .map(|target| format!("adapter of {target}"))
            .collect();
        let mut misshapen = Vec::new();
        let mut plan = Vec::with_capacity(all.len());
        for name in all {
            let shape = self.parts.iter().find_map(|part| part.shape(name));
            let mut shape = shape.unwrap_or_default().to_vec();
            if matches!(name, "model.embed_tokens.weight" | "lm_head.weight")
                && let Some(rows) = shape.first_mut()
            {
                let vocab = config.decoder.vocab_size;
                if *rows < vocab {
                    misshapen.push(format!(
                        "{name} has {rows} rows, the tokenizer {vocab} tokens"
                    ));
                }
                *rows = vocab;
            }
            plan.push(PlannedTensor {
                name: name.to_owned(),
                dtype,
                shape,
            });
        }
        // Each part comes from a file of its own, which may not have been there.
        let parts = [
            "model.layers.",
            "model.mm_projector.",
            "model.vision_tower.",
        ];
        let absent = parts.into_iter().filter(|start| !self.has_any(start));
        let missing: Vec<String> = absent.map(|start| format!("{start}*")).collect();
        if strays.is_empty() && misshapen.is_empty() && missing.is_empty() {
            return Ok(plan);
        }
        Err(CheckpointError::Mismatch {
            place: self.place(),
            missing,
            misshapen,
            unexpected: strays,
        })
    }

    fn merged_bytes(
        &self,
        planned: &PlannedTensor,
        float: DType,
    ) -> Result<Vec<u8>, CheckpointError> {
        let stored = self
            .take(&planned.name)
            .ok_or_else(|| CheckpointError::NoWeights {
                folder: self.place().into(),
                hint: "",
            })?;
        let rows = planned.shape.first().copied().unwrap_or(1);
        let columns = planned.shape.iter().skip(1).product();
        Ok(self.rows(&stored, 0..rows, columns, float)?.to_vec())
    }
}
