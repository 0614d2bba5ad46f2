//! Stored weights into one merged checkpoint, a tensor at a time, without building the model.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use bunny_weights::{
    CheckpointError, StoredDtype,
    writer::{MAX_SHARD_SIZE, PlannedTensor},
};
use burn::tensor::DType;

use super::{
    OpenModel, WeightSet,
    assemble::repeated,
    folder::{described, float_to_write},
};
use crate::{
    Error,
    config::BunnyConfig,
    nn::{ParameterKind, Weights},
};

impl OpenModel {
    /// Writes the model as a merged checkpoint in `folder`: adapters folded into the weights they
    /// belong to, in f32 before rounding to `dtype`; token tables cut to the vocabulary; configuration
    /// and tokenizer beside.
    ///
    /// What a published tower holds and Bunny never reads (its last layer and its head) is kept,
    /// since the reference asks for it. One tensor is in memory at a time.
    ///
    /// Gives the files written.
    ///
    /// # Errors
    /// When `dtype` is no float, a tensor is missing or cannot be read, an adapter has no weight to go
    /// to, or a file cannot be written.
    pub fn write_merged(
        &self,
        folder: impl AsRef<Path>,
        dtype: StoredDtype,
    ) -> Result<Vec<PathBuf>, Error> {
        let float = float_to_write(folder.as_ref(), dtype)?;
        let plan = self.weights.merged_plan(&self.config, dtype)?;
        let files = described(&self.beside, &self.config, &self.image_processor, dtype);
        let written = files.write(folder, &plan, MAX_SHARD_SIZE, |planned| {
            self.weights.merged_bytes(planned, float)
        })?;
        Ok(written)
    }
}

impl WeightSet {
    /// Every tensor of the merged model that `config` describes.
    pub(super) fn merged_plan(
        &self,
        config: &BunnyConfig,
        dtype: StoredDtype,
    ) -> Result<Vec<PlannedTensor>, CheckpointError> {
        let specs = config.describe();
        let (names, repeated) = (config.family.names(), repeated(config));
        let is_repeated = |name: &str| repeated.iter().any(|start| name.starts_with(start));
        let all: BTreeSet<&str> = self
            .names()
            .filter(|name| !names.is_unused(name) && !is_repeated(name))
            .collect();
        let strays = self.strays(|name| !all.contains(name));
        let published = specs.iter().map(|spec| spec.published.as_str());
        let absent: BTreeSet<&str> = published.filter(|name| !all.contains(name)).collect();
        let tables: BTreeMap<&str, usize> = specs
            .iter()
            .filter(|spec| spec.kind == ParameterKind::Table)
            .map(|spec| (spec.published.as_str(), spec.shape[0]))
            .collect();
        let mut misshapen = Vec::new();
        let mut plan = Vec::with_capacity(all.len());
        for name in all {
            let mut shape = self.shape(name).unwrap_or_default();
            if let (Some(&vocab), Some(rows)) = (tables.get(name), shape.first_mut()) {
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
        if strays.is_empty() && misshapen.is_empty() && absent.is_empty() {
            return Ok(plan);
        }
        Err(CheckpointError::Mismatch {
            place: self.place(),
            missing: absent.into_iter().map(str::to_owned).collect(),
            misshapen,
            unexpected: strays,
        })
    }

    pub(super) fn merged_bytes(
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
