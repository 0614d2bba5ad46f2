//! What is said before the first step.

use std::path::Path;

use anyhow::{Result, bail};
use bunny_core::nn::count;
use bunny_train::{
    TrainError,
    data::{Dataset, Preflight},
    recipe::PicturePolicy,
    report::LearnCounts,
    run::{Job, Stage},
    stages::{
        BunnySetup, BunnyStage, ContrastiveSetup, ContrastiveStage, LanguageSetup, LanguageStage,
        describe_pair,
    },
};

use super::{needed::Needed, stages::Described};
use crate::progress::{Spinner, Voice, tell};

/// What stage `language` will make, how long, and in how much memory.
pub fn language(
    job: &Job<LanguageStage>,
    setup: &LanguageSetup,
    needed: &Needed,
    ranks: usize,
) -> Result<()> {
    let rows = job.stage.data(setup, &job.stage.training().data_path)?;
    let plan = job.stage.plan(&rows, ranks, 0)?;
    println!("language");
    for (what, count) in [
        ("parameters", setup.decoder.parameters()),
        ("vocabulary", setup.decoder.vocab_size as u64),
        ("tokens", rows.tokens() as u64),
        ("rows", rows.len() as u64),
        ("steps", plan.total()),
    ] {
        println!("  {what:<12} {count:>16}");
    }
    let of = format!("rows of {} positions", job.stage.recipe.model_max_length);
    needed.say(&of, LanguageStage::LESS_MEMORY);
    Ok(())
}

/// What stage `contrastive` will make, how long, and in how much memory.
pub fn contrastive(
    job: &Job<ContrastiveStage>,
    setup: &ContrastiveSetup,
    needed: &Needed,
) -> Result<()> {
    let pairs = job.stage.data(setup, &job.stage.training().data_path)?;
    let plan = job.stage.plan(&pairs, 1, 0)?;
    let vocab_size = setup.tokenizer.vocab_size();
    let specs = describe_pair(&job.stage.recipe, &setup.vision, vocab_size);
    println!("contrastive");
    for (what, count) in [
        ("parameters", count(&specs)),
        ("pairs", pairs.len() as u64),
        ("steps", plan.total()),
    ] {
        println!("  {what:<12} {count:>16}");
    }
    let of = format!("{} pairs", job.stage.training().per_device_train_batch_size);
    needed.say(&of, ContrastiveStage::LESS_MEMORY);
    Ok(())
}

/// The files of a stage's records, each with a word for its split.
fn splits(stage: &impl Stage) -> impl Iterator<Item = (&Path, &'static str)> {
    let training = stage.training();
    let eval = training.eval_data_path.as_deref();
    let eval = eval.map(|file| (file, " evaluation"));
    std::iter::once((&*training.data_path, "")).chain(eval)
}

/// Looks at all pairs, lets `voice` say what it finds, and stops where the run would.
///
/// # Errors
/// When records are no pairs, or name pictures that are not there and none may be skipped.
pub fn scan_pairs(
    job: &Job<ContrastiveStage>,
    setup: &ContrastiveSetup,
    voice: Voice,
) -> Result<()> {
    for (file, split) in splits(&job.stage) {
        let pairs = job.stage.data(setup, file)?;
        let spinner = Spinner::new("looking at all records");
        let found = pairs.scan();
        drop(spinner);
        voice(format_args!(
            "contrastive:{split} {} records, {} with captions longer than {} tokens and cut",
            pairs.len(),
            found.cut,
            job.stage.recipe.text.max_position_embeddings
        ));
        for fault in &found.faults {
            tell(format_args!("  {fault}"));
        }
        refuse(
            found.faulty,
            found.missing_pictures,
            job.stage.recipe.missing_pictures,
        )?;
    }
    Ok(())
}

/// What learns, how long, and in how much memory.
pub fn bunny(
    job: &Job<BunnyStage>,
    setup: &BunnySetup,
    needed: &Needed,
    ranks: usize,
    longest: Option<usize>,
) -> Result<()> {
    let (recipe, config) = (&job.stage.recipe, &setup.open.config);
    let counts = LearnCounts::new(config, recipe);
    println!("{}", job.stage.kind);
    println!("  parameters   {:>16}", config.parameters().total());
    println!("  learn        {:>16}", counts.total());
    for (part, count) in [
        ("projector", counts.projector),
        ("LoRA", counts.lora),
        ("language", counts.language),
        ("tower", counts.tower),
    ] {
        if count > 0 {
            println!("    {part:<10} {count:>16}");
        }
    }
    let data = job.stage.data(setup, &recipe.training.data_path)?;
    let plan = job.stage.plan(&data, ranks, 0)?;
    println!("  records      {:>16}", data.len());
    println!("  steps        {:>16}", plan.total());
    let positions = longest.unwrap_or(usize::MAX).min(recipe.model_max_length);
    let of = match longest {
        Some(_) => format!("the longest record, of {positions} positions"),
        None => format!("rows of {positions} positions"),
    };
    needed.say(&of, BunnyStage::LESS_MEMORY);
    Ok(())
}

/// Looks at all records, lets `voice` say what it finds, and stops where the run would. Gives the
/// positions of the longest one.
///
/// # Errors
/// When records cannot be learnt from, or name pictures that are not there and none may be skipped.
pub fn scan_records(job: &Job<BunnyStage>, setup: &BunnySetup, voice: Voice) -> Result<usize> {
    let mut longest = 0;
    for (file, split) in splits(&job.stage) {
        let spinner = Spinner::new("looking at all records");
        let dataset = job.stage.data(setup, file)?;
        let found = Preflight::scan(&dataset);
        drop(spinner);
        say_found(job, &found, split, voice);
        refuse(
            found.faulty,
            found.missing_pictures,
            job.stage.recipe.missing_pictures,
        )?;
        if found.learnt == 0 && file == job.stage.training().data_path {
            bail!(TrainError::NothingLearnt {
                file: file.to_owned(),
                without_picture: found.missing_pictures,
                without_answer: found.unlearnt,
            });
        }
        longest = longest.max(found.longest);
    }
    Ok(longest)
}

fn say_found(job: &Job<BunnyStage>, found: &Preflight, split: &str, voice: Voice) {
    voice(format_args!(
        "{}:{split} {} records, {} with pictures; {} longer than {} positions and cut, the longest \
         has {}",
        job.stage.kind,
        found.records,
        found.with_picture,
        found.cut,
        job.stage.recipe.model_max_length,
        found.longest
    ));
    for (count, what) in [
        (
            found.unused_pictures,
            "name a picture that no turn has a place for: it is left out",
        ),
        (
            found.unlearnt,
            "are cut before their first answer: nothing is learnt from them",
        ),
        (found.missing_pictures, "name a picture that is not there"),
    ] {
        if count > 0 {
            voice(format_args!("  {count} {what}"));
        }
    }
    for told in found.notes.iter().chain(&found.faults) {
        tell(format_args!("  {told}"));
    }
}

/// Stops where records cannot be learnt from, or lack a picture and may not be left out.
fn refuse(faulty: usize, missing_pictures: usize, policy: PicturePolicy) -> Result<()> {
    if faulty > 0 {
        bail!("records that cannot be learnt from: {faulty}; mend them or take them out");
    }
    if missing_pictures > 0 && policy == PicturePolicy::Error {
        bail!(
            "records without their picture: {missing_pictures}; mend them, or leave them out with \
             --set missing_pictures=skip"
        );
    }
    Ok(())
}
