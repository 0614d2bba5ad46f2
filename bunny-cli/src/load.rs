//! A model by whatever name people give: a folder, or an id on a hub.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bunny_core::{
    checkpoint::{ModelSource, OpenModel},
    generate::Pipeline,
};
use burn::tensor::backend::Backend;

use crate::backend::Numbers;

/// The name of the model that this program carries.
pub const BUILTIN: &str = "builtin";

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

/// Says by which option a part is named that the library found missing.
pub fn with_option(error: bunny_core::Error) -> anyhow::Error {
    let option = match &error {
        bunny_core::Error::NoBase { .. } => "--model-base",
        bunny_core::Error::NoTower { .. } => "--vision-tower",
        _ => return error.into(),
    };
    anyhow::Error::from(error).context(format!("a part is missing, which {option} names"))
}

/// Opens the model that this program carries.
///
/// # Errors
/// When it carries none.
#[cfg(feature = "builtin-model")]
pub fn builtin() -> Result<OpenModel> {
    Ok(bunny_core::checkpoint::builtin::open()?)
}

/// Opens the model that this program carries.
///
/// # Errors
/// When it carries none.
#[cfg(not(feature = "builtin-model"))]
pub fn builtin() -> Result<OpenModel> {
    bail!(
        "this program carries no model: build it with `--features builtin-model`, or name one with --model"
    )
}

/// A path that exists, or else a download of the files that `choose` picks.
fn folder(name: &str, choose: Choose) -> Result<PathBuf> {
    let path = Path::new(name);
    if path.exists() {
        return Ok(path.to_path_buf());
    }
    if name == BUILTIN {
        bail!("{BUILTIN} has no folder here: `bunny-cli model unpack DIR` writes it to one");
    }
    let is_id = !name.starts_with(['.', '/', '~']) && name.split('/').count() == 2;
    if !is_id {
        bail!("{name}: no such folder, and no hub id of the form org/name[@revision]");
    }
    download(name, choose).with_context(|| format!("{name}: no such folder here, and as a hub id"))
}

/// Picks the files that are needed, by name.
type Choose = fn(&[String]) -> Vec<String>;

/// The folder of a model, of which at least the configuration is here or fetched.
///
/// # Errors
/// When it is neither here nor on the hub.
pub fn configuration_folder(name: &str) -> Result<PathBuf> {
    folder(name, |names| {
        let json = names
            .iter()
            .filter(|name| name.ends_with(".json") && !name.contains('/'));
        json.cloned().collect()
    })
}

#[cfg(feature = "hub")]
use bunny_weights::hub::{model_files, tower_files};

#[cfg(not(feature = "hub"))]
fn model_files(names: &[String]) -> Vec<String> {
    names.to_vec()
}

#[cfg(not(feature = "hub"))]
use model_files as tower_files;

#[cfg(feature = "hub")]
fn download(id: &str, choose: Choose) -> Result<PathBuf> {
    use bunny_weights::hub::{Hub, HubSettings};

    let hub = Hub::new(HubSettings::from_env()?);
    let mut bar = crate::progress::Download::new();
    Ok(hub.fetch(&id.parse()?, choose, |progress| bar.show(&progress))?)
}

#[cfg(not(feature = "hub"))]
fn download(id: &str, _choose: Choose) -> Result<PathBuf> {
    bail!("{id}: no such folder, and downloads are not built in: build with `--features hub`")
}

/// The folder of a language model, or of a whole model, to train from.
///
/// # Errors
/// When it is neither here nor on the hub.
pub fn model_folder(name: &str) -> Result<PathBuf> {
    folder(name, model_files)
}

/// The folder or file of a vision tower.
///
/// # Errors
/// When it is neither here nor on the hub.
pub fn tower_folder(name: &str) -> Result<PathBuf> {
    folder(name, tower_files)
}
