//! `bunny-cli data preview`: a page of records with their pictures.

use std::path::PathBuf;

use anyhow::Result;
use bunny_data::images::ImageSource;
use bunny_data::preview::{PreviewOptions, preview};
use bunny_data::write_whole;
use serde_json::json;

use super::open_records;
use crate::Format;
use crate::args::ForceArgs;

/// Writes a page of sampled records with their pictures inside it.
///
/// Example: bunny-cli data preview bunny_695k.json --images images --out preview.html
#[derive(Debug, clap::Args)]
pub struct PreviewArgs {
    /// The records: a JSON array, JSON lines or Parquet
    file: PathBuf,
    /// Where the pictures are: a folder, a tar, or shards as `shards/{00000..00231}.tar`
    #[arg(long, value_name = "PATH")]
    images: Option<PathBuf>,
    /// The page
    #[arg(long, value_name = "FILE", default_value = "preview.html")]
    out: PathBuf,
    /// How many records
    #[arg(long, value_name = "N", default_value_t = 50)]
    count: usize,
    /// Which ones, by chance
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// The longer side of a picture on the page, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 256,
          value_parser = clap::value_parser!(u32).range(16..=4096))]
    thumbnail: u32,
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
pub fn run(args: PreviewArgs) -> Result<()> {
    args.over.allow(
        &[&args.out],
        [Some(&args.file), args.images.as_ref()]
            .into_iter()
            .flatten(),
    )?;
    let file = open_records(&args.file)?;
    let images = args.images.as_ref().map(ImageSource::open).transpose()?;
    let mut options = PreviewOptions::default();
    options.images = images.as_ref();
    options.count = args.count;
    options.seed = args.seed;
    options.thumbnail = args.thumbnail;
    let page = preview(&file, &options)?;
    write_whole(&args.out, page.as_bytes())?;
    let shown = args.count.min(file.len());
    match args.format {
        Format::Text => println!("{}: {shown} of {} records", args.out.display(), file.len()),
        Format::Json => {
            // A path that is no text is shown as well as it can be.
            let page = args.out.to_string_lossy();
            println!(
                "{}",
                json!({"format_version": 1, "page": page, "shown": shown, "records": file.len()})
            );
        }
    }
    Ok(())
}
