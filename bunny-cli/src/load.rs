//! A model by whatever name people give: a folder, or an id on a hub.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use bunny_core::{
    checkpoint::{OpenModel, Wanted},
    config::presets::Preset,
};

/// The name of the model that this program carries.
pub const BUILTIN: &str = "builtin";

/// Says by which option a part is named that the library found missing.
pub fn with_option(error: bunny_core::Error) -> anyhow::Error {
    let option = match &error {
        bunny_core::Error::NoBase { .. } => "--model-base",
        bunny_core::Error::NoTower { .. } | bunny_core::Error::NoProjector { .. } => {
            "--vision-tower"
        }
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

/// The card of the model that this program carries, if it carries one.
pub fn builtin_card() -> &'static str {
    #[cfg(feature = "builtin-model")]
    return bunny_core::checkpoint::builtin::CARD;
    #[cfg(not(feature = "builtin-model"))]
    ""
}

/// A path that exists, or else a download of what is `wanted` of it. Names of `model list` stand for
/// what was published of them.
///
/// # Errors
/// When it is neither here nor on the hub.
pub fn folder(name: &str, wanted: Wanted) -> Result<PathBuf> {
    let path = Path::new(name);
    if path.exists() {
        return Ok(path.to_path_buf());
    }
    if name == BUILTIN {
        bail!("{BUILTIN} has no folder here: `bunny-cli model unpack DIR` writes it to one");
    }
    let published = Preset::named(name).map_or(name, |preset| preset.weights);
    download(published, wanted)
}

#[cfg(feature = "hub")]
fn download(name: &str, wanted: Wanted) -> Result<PathBuf> {
    use anyhow::Context;
    use bunny_core::{Error, checkpoint::fetch};
    use bunny_weights::hub::{Hub, HubSettings};

    let hub = Hub::new(HubSettings::from_env()?);
    let mut bar = crate::progress::Download::new();
    match fetch(name, wanted, &hub, |progress| bar.show(&progress)) {
        Err(error @ Error::NoSuchModel { .. }) => Err(error.into()),
        found => found.with_context(|| format!("{name}: no such folder here, and as a hub id")),
    }
}

#[cfg(not(feature = "hub"))]
fn download(name: &str, _wanted: Wanted) -> Result<PathBuf> {
    bail!("{name}: no such folder, and downloads are not built in: build with `--features hub`")
}
