//! Talks about a picture.
//!
//! ```text
//! cargo run --release --example chat
//! cargo run --release --example chat -- --model BAAI/Bunny-v1_0-3B --image cat.jpg
//! ```
//!
//! Without arguments it is the built-in model that talks, about a sample.
#![recursion_limit = "256"]

use std::{
    io::{self, BufRead, IsTerminal, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use anyhow::Result;
use bunny_core::{
    checkpoint::{ModelSource, OpenModel, Precision, builtin},
    generate::{Chat, GenerationOptions, Pipeline},
    input::image::{DecodeOptions, decode, decode_file},
};
use bunny_weights::hub::{Hub, HubSettings, model_files, tower_files};
use burn_flex::Flex;
use clap::Parser;
use image::{RgbImage, imageops};

const SAMPLE: &[u8] = include_bytes!("pictures/shapes.jpg");

/// What is asked about the sample.
const QUESTIONS: [&str; 3] = [
    "What is in the picture?",
    "What number is written in the picture?",
    "Where is the black diamond?",
];

const LIMITS: &str = "\
The built-in model knows its small world alone: drawn shapes, numbers and short words. Whatever
else it is shown, it will take for these. To talk about photographs, take a published model:
--model BAAI/Bunny-v1_0-3B (6.4 GB, downloaded once).";

#[derive(Parser)]
struct Args {
    /// A folder, or an id on the hub; without one, the built-in model
    #[arg(long)]
    model: Option<String>,
    /// The picture to talk about
    #[arg(long)]
    image: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let open = match &args.model {
        Some(model) => published(model)?,
        None => builtin::open()?,
    };
    let precision = match args.model {
        Some(_) => Precision::weights_only(open.weights.stored_type()),
        None => Precision::F32,
    };
    let pipeline = Pipeline::<Flex>::from_open(open, precision, Default::default())?;
    let mut chat = pipeline.chat();

    let mut pictures = Vec::new();
    if let Some(image) = &args.image {
        pictures.push(decode_file(image, DecodeOptions::upright())?);
    } else if args.model.is_none() {
        pictures.push(decode(SAMPLE, DecodeOptions::default())?);
    }
    if let Some(picture) = pictures.first() {
        show(picture)?;
    }
    if args.model.is_none() && args.image.is_none() {
        for question in QUESTIONS {
            println!("> {question}");
            answer(&mut chat, question, &mut pictures)?;
        }
        println!();
    }
    if args.model.is_none() {
        println!("{LIMITS}\n");
    }
    println!("Ask away; an empty line ends.");
    for line in io::stdin().lock().lines() {
        let line = line?;
        if line.trim().is_empty() || line.trim() == "/exit" {
            break;
        }
        answer(&mut chat, &line, &mut pictures)?;
    }
    Ok(())
}

/// Asks, with the pictures the first time, and streams the answer.
fn answer(chat: &mut Chat<Flex>, question: &str, pictures: &mut Vec<RgbImage>) -> Result<()> {
    let options = GenerationOptions::default();
    let mut begun = false;
    chat.ask(question, pictures, &options, |text| {
        // An answer begins with the space that divides it from what was asked.
        print!("{}", if begun { text } else { text.trim_start() });
        begun = true;
        io::stdout()
            .flush()
            .map_or(ControlFlow::Break(()), ControlFlow::Continue)
    })?;
    pictures.clear();
    println!();
    Ok(())
}

/// Draws a picture with half blocks, two pixels a character, where there is a terminal to see it.
fn show(picture: &RgbImage) -> Result<()> {
    const COLUMNS: u32 = 56;
    let mut out = io::stdout().lock();
    if !out.is_terminal() || std::env::var_os("NO_COLOR").is_some() {
        return Ok(());
    }
    let rows = (COLUMNS * picture.height() / picture.width()).clamp(2, 200) & !1;
    let small = imageops::resize(picture, COLUMNS, rows, imageops::FilterType::Triangle);
    for y in (0..rows).step_by(2) {
        for x in 0..COLUMNS {
            let ([r, g, b], [r2, g2, b2]) = (small[(x, y)].0, small[(x, y + 1)].0);
            write!(out, "\x1b[38;2;{r};{g};{b}m\x1b[48;2;{r2};{g2};{b2}m▀")?;
        }
        writeln!(out, "\x1b[0m")?;
    }
    Ok(())
}

fn published(name: &str) -> Result<OpenModel> {
    let mut source = ModelSource::merged(fetch(name, model_files)?);
    if let Some(base) = source.wanted_base()? {
        source.base = Some(fetch(&base, model_files)?);
    }
    if let Some(tower) = source.wanted_tower()? {
        source.vision_tower = Some(fetch(&tower, tower_files)?);
    }
    Ok(source.open()?)
}

/// A folder as it is, a hub id by way of the cache.
fn fetch(name: &str, choose: fn(&[String]) -> Vec<String>) -> Result<PathBuf> {
    if Path::new(name).exists() {
        return Ok(name.into());
    }
    let hub = Hub::new(HubSettings::from_env()?);
    Ok(hub.fetch(&name.parse()?, choose, |file| {
        eprint!(
            "\r{} {} of {} MB",
            file.file,
            file.done >> 20,
            file.total >> 20
        );
    })?)
}
