//! Teaches the built-in model something new, from labelled pictures, and shows what it answers before
//! and after. All of it learns: a model this small has no words to spare that adapters could steer.
//!
//! `cargo run --release --example finetune -- --pictures DIR --question "What is it?" --out my-bunny`
//!
//! `DIR` has a folder a label, with the label's pictures in it: a fifth of them is kept for the
//! test. Without `DIR` it learns ten flags, which it draws itself.
mod flags;
mod labelled;

use std::{fs, io::Write, ops::ControlFlow, path::PathBuf};

use anyhow::{Context, Result, ensure};
use bunny_core::{
    checkpoint::{ModelSource, Precision, builtin},
    generate::{GenerationOptions, Pipeline},
    input::image::{DecodeOptions, decode_file},
};
use bunny_train::{
    merge,
    recipe::{BunnyRecipe, TrainingArguments},
    run::Job,
    stages::BunnyStage,
};
use bunny_weights::StoredDtype;
use burn::backend::Autodiff;
use burn_flex::Flex;
use clap::Parser;
use serde_json::{Value, json};

#[derive(Parser)]
struct Args {
    /// A folder of folders of pictures, named for what they show; without one, drawn flags
    #[arg(long)]
    pictures: Option<PathBuf>,
    /// What is asked about each
    #[arg(long, default_value = "What is it?")]
    question: String,
    /// Where the tuned model goes; nowhere without it
    #[arg(long)]
    out: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let folder = tempfile::tempdir()?;
    if let Some(out) = &args.out {
        ensure!(!out.exists(), "{}: is there already", out.display());
        fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    }
    let pictures = args.pictures.unwrap_or(folder.path().join("flags"));
    if pictures.starts_with(folder.path()) {
        flags::draw(&pictures)?;
    }
    let (kept, learnt) = labelled::pictures(&pictures)?;
    ensure!(!kept.is_empty(), "no label has five pictures");

    let base = folder.path().join("builtin");
    builtin::write(&base)?;
    examine(&ModelSource::merged(&base), &kept, &args.question)?;

    let records = learnt.iter().enumerate().map(|(at, (file, label))| {
        let question = format!("<image>\n{}", args.question);
        json!({"id": at, "image": file.strip_prefix(&pictures).unwrap_or(file), "conversations": [
            {"from": "human", "value": question}, {"from": "gpt", "value": label},
        ]})
    });
    let data_path = folder.path().join("records.json");
    fs::write(&data_path, records.collect::<Value>().to_string())?;
    let recipe = BunnyRecipe {
        model_name_or_path: base.display().to_string(),
        image_folder: Some(pictures),
        unfreeze_vision_tower: true,
        gradient_checkpointing: false,
        training: TrainingArguments {
            data_path,
            learning_rate: 5e-4,
            num_train_epochs: 12.0,
            ..TrainingArguments::default()
        },
        ..BunnyRecipe::default()
    };
    let stage = BunnyStage::finetune(base, recipe);
    let job = Job::new(stage, folder.path().join("run"));
    job.run::<Autodiff<Flex>>(Precision::F32, &Default::default(), &mut |step, total| {
        print!("\rstep {} of {total}, loss {:.3}  ", step.step, step.loss);
        std::io::stdout().flush().ok();
    })?;

    let tuned = ModelSource::merged(&job.folder);
    examine(&tuned, &kept, &args.question)?;
    if let Some(out) = &args.out {
        merge::merge(&tuned, out, StoredDtype::F16)?;
        println!("bunny-cli chat --model {} talks with it", out.display());
    }
    Ok(())
}

/// Asks about every picture, shows a few answers, and counts the right ones.
fn examine(source: &ModelSource, kept: &[(PathBuf, String)], question: &str) -> Result<()> {
    let pipeline = Pipeline::<Flex>::load(source, Precision::F32, Default::default())?;
    let mut right = 0;
    println!("\n{question}");
    for (at, (file, label)) in kept.iter().enumerate() {
        let picture = [decode_file(file, DecodeOptions::upright())?];
        let go_on = |_: &str| ControlFlow::Continue(());
        let options = GenerationOptions::default();
        let answer = pipeline.chat().ask(question, &picture, &options, go_on)?;
        let said = answer.text.trim();
        right += usize::from(said == label);
        if at % kept.len().div_ceil(8) == 0 {
            println!("  {label:<16} {said}");
        }
    }
    println!("  {right} of {} right", kept.len());
    Ok(())
}
