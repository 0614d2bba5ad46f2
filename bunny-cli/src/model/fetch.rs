//! `bunny-cli model fetch`: a model and all it needs, downloaded ahead.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bunny_core::checkpoint::{
    Hub, HubSettings, ModelNames, ModelSource, Wanted, fetch as fetch_files, needed,
};

use crate::{data::show_bytes, load::BUILTIN, progress::Download, shell};

/// Downloads a model and all it needs into the cache that is shared with Python's tools.
///
/// What there is to download is said before; a download that was cut goes on where it stood when it is
/// started again. Nothing that is here is downloaded twice.
///
/// Example: bunny-cli model fetch BAAI/Bunny-v1_0-3B
#[derive(Debug, clap::Args)]
pub struct FetchArgs {
    /// A name of `model list`, or `org/name[@revision]` on the hub
    model: String,
    /// The language model that a LoRA or projector folder belongs to, where that is another than the
    /// one it says
    #[arg(long)]
    model_base: Option<String>,
    /// The vision tower, where that is another than the one the model says
    #[arg(long)]
    vision_tower: Option<String>,
}

/// Runs the verb.
///
/// # Errors
/// When there is no such model, or it cannot be downloaded.
pub fn run(args: &FetchArgs) -> Result<()> {
    if args.model == BUILTIN {
        bail!("{BUILTIN} is in this program: there is nothing to download");
    }
    let hub = Hub::new(HubSettings::from_env()?);
    let names = ModelNames {
        model: &args.model,
        base: args.model_base.as_deref(),
        vision_tower: args.vision_tower.as_deref(),
    };
    let source = ModelSource::find(names, |name, wanted| part(name, wanted, &hub))?;
    println!("{}", source.model.display());
    let mut command = format!("bunny-cli chat --model {}", shell::word(&args.model));
    for (flag, value) in [
        ("--model-base", &args.model_base),
        ("--vision-tower", &args.vision_tower),
    ] {
        if let Some(value) = value {
            command += &format!(" {flag} {}", shell::word(value));
        }
    }
    println!("\nto talk with it   {command}");
    Ok(())
}

/// One of the repositories that a model needs: says what of it is not here, and has it here.
fn part(name: &str, wanted: Wanted, hub: &Hub) -> Result<PathBuf> {
    if Path::new(name).exists() {
        println!("{name}: is here");
        return Ok(name.into());
    }
    let files = needed(name, wanted, hub).with_context(|| name.to_owned())?;
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    let here: u64 = files.iter().map(|file| file.here).sum();
    println!(
        "{name}: {} files, {}, of which {} to download",
        files.len(),
        show_bytes(bytes as f64),
        show_bytes(bytes.saturating_sub(here) as f64),
    );
    let mut bar = Download::new();
    fetch_files(name, wanted, hub, |progress| bar.show(&progress)).with_context(|| name.to_owned())
}
