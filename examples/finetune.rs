//! Teaches the built-in model something new, from labelled pictures, and shows what it answers before
//! and after. All of it learns: a model this small has no words to spare that adapters could steer.
//!
//! ```text
//! cargo run --release --example finetune
//! cargo run --release --example finetune -- --pictures DIR --question "What is it?" --out my-bunny
//! ```
//!
//! `DIR` has a folder a label, with the label's pictures in it: a fifth of them is kept for the
//! test. Without `DIR` it learns ten flags, which it draws itself.
#![recursion_limit = "256"]

use std::{
    fs,
    io::{self, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use bunny_core::{
    checkpoint::{ModelSource, Precision, builtin},
    generate::{GenerationOptions, Pipeline},
    input::image::{DecodeOptions, decode_file},
};
use bunny_train::{
    merge,
    recipe::{BunnyRecipe, StageKind, TrainingArguments},
    run::Job,
    stages::{BunnyStage, ModelPaths},
};
use bunny_weights::StoredDtype;
use burn::backend::Autodiff;
use burn_flex::Flex;
use clap::Parser;
use image::{Rgb, RgbImage};
use serde_json::json;

#[derive(Parser)]
struct Args {
    /// A folder of folders of pictures, named for what they show; without one, drawn flags
    #[arg(long)]
    pictures: Option<PathBuf>,
    /// What is asked about each
    #[arg(long, default_value = "What is it?")]
    question: String,
    /// How often each picture is seen
    #[arg(long, default_value_t = 12.0)]
    epochs: f64,
    /// Where the tuned model goes; nowhere without it
    #[arg(long)]
    out: Option<PathBuf>,
}

/// A picture and what it shows.
struct Labelled {
    file: PathBuf,
    label: String,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let folder = tempfile::tempdir()?;
    let pictures = match &args.pictures {
        Some(pictures) => pictures.clone(),
        None => draw_flags(&folder.path().join("flags"))?,
    };
    let (learnt, kept) = split(&pictures)?;
    println!(
        "{} pictures to learn, {} kept for the test",
        learnt.len(),
        kept.len()
    );

    let base = folder.path().join("builtin");
    builtin::write(&base)?;
    examine("before", &ModelSource::merged(&base), &kept, &args.question)?;

    let records: Vec<_> = learnt
        .iter()
        .enumerate()
        .map(|(at, Labelled { file, label })| {
            json!({
                "id": at,
                "image": file.strip_prefix(&pictures).unwrap_or(file),
                "conversations": [
                    {"from": "human", "value": format!("<image>\n{}", args.question)},
                    {"from": "gpt", "value": label},
                ],
            })
        })
        .collect();
    let data = folder.path().join("records.json");
    fs::write(&data, serde_json::to_vec(&records)?)?;
    let run = folder.path().join("run");
    tune(&base, &pictures, data, &run, args.epochs)?;

    let tuned = ModelSource::merged(run);
    examine("after", &tuned, &kept, &args.question)?;
    if let Some(out) = &args.out {
        merge::merge(&tuned, out, StoredDtype::F16)?;
        println!("bunny-cli chat --model {} talks with it", out.display());
    }
    Ok(())
}

/// The pictures under `folder`, their paths seen from there: those to learn, and every fifth.
fn split(folder: &Path) -> Result<(Vec<Labelled>, Vec<Labelled>)> {
    let sorted = |folder: &Path| -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
        let mut paths = entries.collect::<Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    };
    let (mut learnt, mut kept) = (Vec::new(), Vec::new());
    for shelf in sorted(folder)?.iter().filter(|path| path.is_dir()) {
        for (at, file) in sorted(shelf)?.into_iter().enumerate() {
            let label = shelf
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into();
            let one = Labelled { file, label };
            if at % 5 == 4 { &mut kept } else { &mut learnt }.push(one);
        }
    }
    ensure!(
        !kept.is_empty(),
        "{}: wants a folder a label, with at least five pictures each",
        folder.display()
    );
    Ok((learnt, kept))
}

/// Fine-tunes the language model, the projector and the tower.
fn tune(base: &Path, pictures: &Path, data_path: PathBuf, run: &Path, epochs: f64) -> Result<()> {
    let stage = BunnyStage {
        kind: StageKind::Finetune,
        paths: ModelPaths {
            model: base.to_path_buf(),
            vision_tower: Some(base.join("siglip-tower")),
            ..ModelPaths::default()
        },
        recipe: BunnyRecipe {
            model_name_or_path: base.display().to_string(),
            image_folder: Some(pictures.to_path_buf()),
            unfreeze_vision_tower: true,
            gradient_checkpointing: false,
            training: TrainingArguments {
                data_path,
                learning_rate: 5e-4,
                num_train_epochs: epochs,
                per_device_train_batch_size: 8,
                dataloader_num_workers: 1,
                ..TrainingArguments::default()
            },
            ..BunnyRecipe::default()
        },
    };
    let job = Job::new(stage, run);
    job.run::<Autodiff<Flex>>(Precision::F32, &Default::default(), &mut |step, total| {
        print!("\rstep {} of {total}, loss {:.3}  ", step.step, step.loss);
        io::stdout().flush().ok();
    })?;
    println!();
    Ok(())
}

/// Asks about every picture, shows a few answers, and counts the right ones.
fn examine(when: &str, source: &ModelSource, kept: &[Labelled], question: &str) -> Result<()> {
    let pipeline = Pipeline::<Flex>::load(source, Precision::F32, Default::default())?;
    let options = GenerationOptions {
        max_new_tokens: 24,
        ..GenerationOptions::default()
    };
    let mut right = 0;
    println!("\n{when}: {question}");
    for (at, Labelled { file, label }) in kept.iter().enumerate() {
        let picture = decode_file(file, DecodeOptions::upright())?;
        let go_on = |_: &str| ControlFlow::Continue(());
        let answer = pipeline.chat().ask(question, &[picture], &options, go_on)?;
        let text = answer.text.trim();
        right += usize::from(text == label);
        if at % kept.len().div_ceil(8) == 0 {
            println!("  {label:<16} {text}");
        }
    }
    println!("  {right} of {} right", kept.len());
    Ok(())
}

const RED: [u8; 3] = [200, 30, 40];
const WHITE: [u8; 3] = [245, 245, 245];
const BLUE: [u8; 3] = [20, 60, 150];
const GREEN: [u8; 3] = [10, 130, 60];
const YELLOW: [u8; 3] = [250, 205, 20];
const BLACK: [u8; 3] = [15, 15, 15];
const ORANGE: [u8; 3] = [245, 130, 30];

/// Flags of three stripes: upright or lying, and their colours.
const FLAGS: [(&str, bool, [[u8; 3]; 3]); 10] = [
    ("France", true, [BLUE, WHITE, RED]),
    ("Italy", true, [GREEN, WHITE, RED]),
    ("Belgium", true, [BLACK, YELLOW, RED]),
    ("Ireland", true, [GREEN, WHITE, ORANGE]),
    ("Romania", true, [BLUE, YELLOW, RED]),
    ("Germany", false, [BLACK, RED, YELLOW]),
    ("Netherlands", false, [RED, WHITE, BLUE]),
    ("Hungary", false, [RED, WHITE, GREEN]),
    ("Lithuania", false, [YELLOW, GREEN, RED]),
    ("Bulgaria", false, [WHITE, GREEN, RED]),
];

/// Draws each flag in 25 sizes, places and lights.
fn draw_flags(folder: &Path) -> Result<PathBuf> {
    for (name, upright, stripes) in FLAGS {
        let shelf = folder.join(name);
        fs::create_dir_all(&shelf)?;
        for at in 0..25 {
            let (width, height) = (60 + at % 5 * 9, 44 + at / 5 * 6);
            let (left, top) = (at * 7 % (112 - width), at * 11 % (112 - height));
            let light = 70 + at * 13 % 31; // per cent
            let ground = [150 + (at * 5 % 60) as u8; 3];
            let picture = RgbImage::from_fn(112, 112, |x, y| {
                let (x, y) = (x.wrapping_sub(left), y.wrapping_sub(top));
                if x >= width || y >= height {
                    return Rgb(ground);
                }
                let stripe = if upright {
                    3 * x / width
                } else {
                    3 * y / height
                };
                Rgb(stripes[stripe as usize].map(|shade| (u32::from(shade) * light / 100) as u8))
            });
            picture.save(shelf.join(format!("{at:02}.png")))?;
        }
    }
    Ok(folder.to_path_buf())
}
