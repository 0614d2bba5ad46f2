//! `bunny-cli data stats`: what is in a dataset.

use std::path::PathBuf;

use anyhow::{Context, Result};
use bunny_data::images::ImageSource;
use bunny_data::stats::{StatsOptions, stats};
use bunny_data::validate::TokenCounter;
use bunny_data::write_whole;

use super::bar::Bar;
use super::open_records;
use super::tokens::TokenArgs;
use crate::Format;
use crate::args::ForceArgs;

/// Counts what is in a dataset: sources, turns, lengths, pictures and their sizes.
///
/// Example: bunny-cli data stats bunny_695k.json --images images --html stats.html
#[derive(Debug, clap::Args)]
pub struct StatsArgs {
    /// The records: a JSON array, JSON lines or Parquet
    file: PathBuf,
    /// Where the pictures are: a folder, a tar, or shards as `shards/{00000..00231}.tar`
    #[arg(long, value_name = "PATH")]
    images: Option<PathBuf>,
    /// How many of the distinct pictures are looked at
    #[arg(long, value_name = "N", default_value_t = 10_000, requires = "images")]
    picture_sample: usize,
    #[command(flatten)]
    tokens: TokenArgs,
    /// Write a page with plots to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    over: ForceArgs,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Runs the verb.
///
/// # Errors
/// When a file cannot be read or written, or there are no records.
pub fn run(args: StatsArgs) -> Result<()> {
    args.over.allow(
        args.html.as_slice(),
        [Some(&args.file), args.images.as_ref()]
            .into_iter()
            .flatten(),
    )?;
    let file = open_records(&args.file)?;
    let images = args.images.as_ref().map(ImageSource::open).transpose()?;
    let counter = args.tokens.counter()?;
    let mut options = StatsOptions::default();
    options.images = images.as_ref();
    options.picture_sample = args.picture_sample;
    options.tokens = counter.as_ref().map(|counter| counter as &dyn TokenCounter);
    let bar = Bar::new("counting");
    let stats = stats(&file, &options, &|done, total| bar.show(done, total))?;
    drop(bar);
    if let Some(path) = &args.html {
        write_whole(path, stats.to_html().as_bytes())?;
    }
    match args.format {
        Format::Text => print!("{}", stats.to_text()),
        Format::Json => {
            let text = serde_json::to_string(&stats).with_context(|| {
                let file = args.file.display();
                format!("{file}: its counts cannot be told as JSON: take --format text")
            })?;
            println!("{text}");
        }
    }
    Ok(())
}
