//! `bunny-cli eval gallery`: pictures, questions and answers as a page.

use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::{Context, Result};
use bunny_core::generate::GenerationOptions;
use bunny_core::input::image::{DecodeOptions, decode};
use bunny_eval::gallery::{Exhibit, Shown, read, written};
use burn::tensor::backend::Backend;
use serde_json::json;

use super::answerer::short_name;
use crate::Format;
use crate::args::{BackendArgs, ForceArgs, ModelArgs};
use crate::backend::{Numbers, Work};
use crate::data::Bar;
use crate::progress::Spinner;

/// Asks a model about pictures in several turns, and writes all that was said as one page.
///
/// FILE is a list of prompts: their `kind`, `image` and `turns`. The project has one of eight kinds,
/// examples/gallery.json. The page needs no other file.
///
/// Example: bunny-cli eval gallery --model ./bunny --prompts examples/gallery.json --out page.html
#[derive(Debug, clap::Args)]
pub struct GalleryArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The prompts; pictures are named from where it is
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,
    /// Where the page goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The most tokens an answer may have
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    max_new_tokens: u32,
    #[command(flatten)]
    backend: BackendArgs,
    #[command(flatten)]
    over: ForceArgs,
    /// How the result is printed; `json` says all that the page does
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Runs the verb.
///
/// # Errors
/// When a file or the model cannot be read, or a conversation is too long for the model.
pub fn run(args: GalleryArgs) -> Result<()> {
    let exhibits = read(&args.prompts)?;
    let folder = args.prompts.parent().unwrap_or(".".as_ref());
    let mut read = vec![args.prompts.clone()];
    let mut shown = Vec::new();
    for exhibit in exhibits {
        let picture = match &exhibit.image {
            None => None,
            Some(image) => {
                let path = folder.join(image);
                let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
                read.push(path);
                Some(bytes)
            }
        };
        shown.push(Shown {
            exhibit,
            answers: Vec::new(),
            picture,
        });
    }
    args.over.allow(&[&args.out], &read)?;
    args.backend.run(Showing { args, shown })
}

struct Showing {
    args: GalleryArgs,
    shown: Vec<Shown>,
}

impl Work for Showing {
    type Output = ();

    fn run<B: Backend>(self, device: B::Device, numbers: Numbers) -> Result<()> {
        let Self { args, mut shown } = self;
        let pipeline = {
            let _shown = Spinner::new(format!("loading {}", args.model.model));
            args.model.load::<B>(device, numbers)?
        };
        let options = GenerationOptions {
            max_new_tokens: args.max_new_tokens as usize,
            ..GenerationOptions::default()
        };
        let total = shown.len() as u64;
        let bar = Bar::new("asking");
        for (at, one) in shown.iter_mut().enumerate() {
            bar.show(at as u64, total);
            let Exhibit { image, turns, .. } = &one.exhibit;
            let mut chat = pipeline.chat();
            let mut pictures = Vec::new();
            if let Some(bytes) = &one.picture {
                let decoded = decode(bytes, DecodeOptions::upright());
                pictures.push(decoded.with_context(|| image.clone().unwrap_or_default())?);
            }
            for turn in turns {
                let answer = chat.ask(turn, &pictures, &options, |_| ControlFlow::Continue(()))?;
                one.answers.push(answer.text);
                // It is shown once.
                pictures.clear();
            }
        }
        drop(bar);
        let name = short_name(&args.model.model);
        let page = written(name, &shown);
        bunny_base::write_atomic(&args.out, |file| file.write_all(page.as_bytes()))?;
        match args.format {
            Format::Text => println!("{}: {total} prompts", args.out.display()),
            Format::Json => println!(
                "{}",
                json!({"format_version": 1, "model": name, "page": args.out, "prompts": shown})
            ),
        }
        Ok(())
    }
}
