//! Which model.

use anyhow::{Context, Result};
use bunny_core::{
    checkpoint::{ModelSource, OpenModel},
    generate::Pipeline,
};
use burn::tensor::backend::Backend;

use crate::{
    backend::Numbers,
    load::{BUILTIN, builtin, folder, model_files, tower_files, with_option},
};

/// Which model.
#[derive(Debug, Clone, clap::Args)]
pub struct ModelArgs {
    /// The model: a folder, `org/name[@revision]` on the hub, or `builtin`, the small one that this
    /// program carries
    #[arg(long, short, default_value = BUILTIN)]
    pub model: String,
    /// The language model that a LoRA or projector folder belongs to: a folder or a hub id; the
    /// one it says it was made from unless given
    #[arg(long)]
    pub model_base: Option<String>,
    /// The vision tower, where the model lacks it: a folder, a file of weights, or a hub id
    #[arg(long)]
    pub vision_tower: Option<String>,
}

impl ModelArgs {
    /// A model that stands alone.
    pub fn named(model: &str) -> Self {
        Self {
            model: model.into(),
            model_base: None,
            vision_tower: None,
        }
    }

    /// The folders, after downloading what is not here.
    ///
    /// # Errors
    /// When something is neither here nor on the hub.
    pub fn source(&self) -> Result<ModelSource> {
        let mut source = ModelSource {
            model: folder(&self.model, model_files)?,
            base: None,
            vision_tower: None,
        };
        if let Some(base) = &self.model_base {
            source.base = Some(folder(base, model_files)?);
        } else if let Some(base) = source.wanted_base()? {
            let found = folder(&base, model_files).with_context(|| {
                format!(
                    "{} belongs to the language model `{base}`: say where it is with --model-base",
                    self.model
                )
            })?;
            source.base = Some(found);
        }
        if let Some(tower) = &self.vision_tower {
            source.vision_tower = Some(folder(tower, tower_files)?);
        }
        if source.vision_tower.is_none()
            && let Some(tower) = source.wanted_tower()?
        {
            let found = folder(&tower, tower_files).with_context(|| {
                format!("the vision tower `{tower}` is needed too: name one with --vision-tower")
            })?;
            source.vision_tower = Some(found);
        }
        Ok(source)
    }

    /// Opens the model's files.
    ///
    /// # Errors
    /// When files are missing or damaged.
    pub fn open(&self) -> Result<OpenModel> {
        match self.model == BUILTIN && self.model_base.is_none() && self.vision_tower.is_none() {
            true => builtin(),
            false => self.source()?.open().map_err(with_option),
        }
    }

    /// Loads the model onto a device.
    ///
    /// # Errors
    /// When files are missing or damaged, or do not fit each other.
    pub fn load<B: Backend>(&self, device: B::Device, numbers: Numbers) -> Result<Pipeline<B>> {
        let open = self.open()?;
        let stored = open.weights.stored_type();
        let precision = numbers.precision::<B>(&device, stored)?;
        Ok(Pipeline::from_open(open, precision, device)?)
    }
}
