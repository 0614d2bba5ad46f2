//! Talks about a picture.
//!
//! ```text
//! cargo run --release --example chat -- --model BAAI/Bunny-v1_0-3B --image cat.jpg
//! ```
#![recursion_limit = "256"]

use std::{
    io::{self, BufRead, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use bunny_core::{
    checkpoint::{
        ModelSource, Precision,
        hub::{Hub, HubSettings, model_files},
    },
    generate::{GenerationOptions, Pipeline},
    image_processor::{DecodeOptions, decode_file},
};
use burn_flex::Flex;
use clap::Parser;

#[derive(Parser)]
struct Args {
    /// A folder, or an id on the hub
    #[arg(long)]
    model: Option<String>,
    /// The picture to talk about
    #[arg(long)]
    image: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let model = args
        .model
        .context("name a model: --model BAAI/Bunny-v1_0-3B downloads a published one (6.4 GB)")?;

    let mut source = ModelSource::merged(fetch(&model)?);
    if let Some(tower) = source.wanted_tower()? {
        source.vision_tower = Some(fetch(&tower)?);
    }
    let open = source.open()?;
    let precision = Precision::weights_only(open.weights.stored_type());
    let pipeline = Pipeline::<Flex>::from_open(open, precision, Default::default())?;

    let mut pictures = Vec::new();
    if let Some(image) = &args.image {
        pictures.push(decode_file(image, DecodeOptions::upright())?);
    }
    let mut chat = pipeline.chat();
    let options = GenerationOptions::default();
    println!("Ask away; an empty line ends.");
    for line in io::stdin().lock().lines() {
        let line = line?;
        if line.trim().is_empty() || line.trim() == "/exit" {
            break;
        }
        chat.ask(&line, &pictures, &options, |text| {
            print!("{text}");
            io::stdout()
                .flush()
                .map_or(ControlFlow::Break(()), ControlFlow::Continue)
        })?;
        pictures.clear();
        println!();
    }
    Ok(())
}

/// A folder as it is, a hub id by way of the cache.
fn fetch(name: &str) -> Result<PathBuf> {
    if Path::new(name).exists() {
        return Ok(name.into());
    }
    let hub = Hub::new(HubSettings::from_env()?);
    Ok(hub.fetch(&name.parse()?, model_files, |file| {
        eprint!(
            "\r{} {} of {} MB",
            file.file,
            file.done >> 20,
            file.total >> 20
        );
    })?)
}
