//! A model by whatever name people give: a folder, or an id on a hub.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bunny_core::checkpoint::OpenModel;

/// The name of the model that this program carries.
pub const BUILTIN: &str = "builtin";

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
///
/// # Errors
/// When it is neither here nor on the hub.
pub fn folder(name: &str, choose: Choose) -> Result<PathBuf> {
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
pub type Choose = fn(&[String]) -> Vec<String>;

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
pub use bunny_weights::hub::{model_files, tower_files};

/// The files of a model.
#[cfg(not(feature = "hub"))]
pub fn model_files(names: &[String]) -> Vec<String> {
    names.to_vec()
}

#[cfg(not(feature = "hub"))]
pub use model_files as tower_files;

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
