//! Which model.

use anyhow::{Context, Result};
use bunny_core::{
    checkpoint::{ModelNames, ModelSource, OpenModel, Wanted},
    generate::Pipeline,
};
use burn::tensor::backend::Backend;

use super::MemoryArgs;
use crate::{
    backend::Numbers,
    load::{BUILTIN, builtin, folder, with_option},
};

/// Which model.
#[derive(Debug, Clone, clap::Args)]
pub struct ModelArgs {
    /// The model: a folder, a file in GGUF with its projector file beside it, `org/name[@revision]` on
    /// the hub, or `builtin`, the small one that this program carries
    #[arg(long, short, default_value = BUILTIN)]
    pub model: String,
    #[command(flatten)]
    pub parts: PartsArgs,
    #[command(flatten)]
    pub memory: MemoryArgs,
}

/// What of a model is not in its folder.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PartsArgs {
    /// The language model that a LoRA or projector folder belongs to: a folder or a hub id; the
    /// one it says it was made from unless given
    #[arg(long)]
    pub model_base: Option<String>,
    /// The vision tower, where the model lacks it: a folder, a file of weights (of a model in GGUF its
    /// projector file, mmproj), or a hub id
    #[arg(long)]
    pub vision_tower: Option<String>,
}

impl PartsArgs {
    /// Whether nothing is given.
    pub fn is_empty(&self) -> bool {
        self.model_base.is_none() && self.vision_tower.is_none()
    }
}

/// The model that another is made of.
#[derive(Debug, Clone, clap::Args)]
pub struct SourceArgs {
    /// The model: a folder, a file in GGUF, a hub id, or `builtin`
    pub model: String,
    #[command(flatten)]
    parts: PartsArgs,
}

impl SourceArgs {
    /// The model, to be opened.
    pub fn model(&self) -> ModelArgs {
        ModelArgs {
            parts: self.parts.clone(),
            ..ModelArgs::named(&self.model)
        }
    }
}

impl ModelArgs {
    /// A model that stands alone.
    pub fn named(model: &str) -> Self {
        Self {
            model: model.into(),
            parts: PartsArgs::default(),
            memory: MemoryArgs::default(),
        }
    }

    /// The folders, after downloading what is not here.
    ///
    /// # Errors
    /// When something is neither here nor on the hub.
    pub fn source(&self) -> Result<ModelSource> {
        let PartsArgs {
            model_base,
            vision_tower,
        } = &self.parts;
        let names = ModelNames {
            model: &self.model,
            base: model_base.as_deref(),
            vision_tower: vision_tower.as_deref(),
        };
        ModelSource::find(names, |name, wanted| {
            let found = folder(name, wanted);
            match wanted {
                Wanted::Base if model_base.is_none() => found.with_context(|| {
                    format!(
                        "{} belongs to the language model `{name}`: say where it is with --model-base",
                        self.model
                    )
                }),
                Wanted::VisionTower if vision_tower.is_none() => found.with_context(|| {
                    format!("the vision tower `{name}` is needed too: name one with --vision-tower")
                }),
                _ => found,
            }
        })
    }

    /// Whether it is the model in the program.
    pub fn is_builtin(&self) -> bool {
        self.model == BUILTIN && self.parts.is_empty()
    }

    /// Opens the model's files.
    ///
    /// # Errors
    /// When files are missing or damaged.
    pub fn open(&self) -> Result<OpenModel> {
        match self.is_builtin() {
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
        let stored = open.weights.stored_format();
        let precision = numbers.precision::<B>(&device, stored)?;
        if numbers.is_in_main_memory() {
            let bytes = precision.bytes(&open.config.describe());
            let what = format!("a model of {precision}");
            self.memory
                .require(&what, bytes, "take another --dtype, or --weights int4")?;
        }
        Ok(Pipeline::from_open(open, precision, device)?)
    }
}
