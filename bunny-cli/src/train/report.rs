//! What is said before the first step.

use std::path::Path;

use anyhow::{Result, bail};
use bunny_core::checkpoint::Precision;
use bunny_train::{
    data::{Pairs, PicturePolicy, Preflight, Source, Steps},
    report::{LearnCounts, MemoryPlan},
    stages::{ContrastiveJob, Job, LanguageJob, Start},
};

use super::stages::How;
use crate::progress::{Spinner, say, tell};

/// What stage `language` will make, and how long.
pub fn language(job: &LanguageJob, how: How) -> Result<()> {
    let start = job.preview()?;
    let training = &job.recipe.training;
    let steps = Steps::new(training, start.rows.len(), how.ranks, 0)?;
    println!("language");
    for (what, count) in [
        ("parameters", start.decoder.parameters()),
        ("vocabulary", start.decoder.vocab_size as u64),
        ("tokens", start.rows.tokens() as u64),
        ("rows", start.rows.len() as u64),
        ("steps", steps.total()),
    ] {
        println!("  {what:<12} {count:>16}");
    }
    Ok(())
}

/// What stage `contrastive` will make, and how long, if `plan` is wanted; with `scan` looks at all
/// pairs, and stops where the run would.
pub fn contrastive(job: &ContrastiveJob, plan: bool, scan: bool) -> Result<()> {
    let start = job.open()?;
    let training = &job.recipe.training;
    let pairs = job.pairs(&start, &training.data_path)?;
    if plan {
        let steps = Steps::new(training, pairs.len(), 1, 0)?;
        let vocab_size = start.tokenizer.vocab_size();
        println!("contrastive");
        for (what, count) in [
            ("parameters", job.recipe.parameters(vocab_size)),
            ("pairs", pairs.len() as u64),
            ("steps", steps.total()),
        ] {
            println!("  {what:<12} {count:>16}");
        }
    }
    if !scan {
        return Ok(());
    }
    scan_pairs(job, &pairs, "")?;
    match &training.eval_data_path {
        Some(path) => scan_pairs(job, &job.pairs(&start, path)?, " evaluation"),
        None => Ok(()),
    }
}

fn scan_pairs(job: &ContrastiveJob, pairs: &Pairs<'_>, split: &str) -> Result<()> {
    let spinner = Spinner::new("looking at all records");
    let found = pairs.scan();
    drop(spinner);
    say(format_args!(
        "contrastive:{split} {} records, {} with captions longer than {} tokens and cut",
        pairs.len(),
        found.cut,
        job.recipe.text.max_position_embeddings
    ));
    for fault in &found.faults {
        tell(format_args!("  {fault}"));
    }
    refuse(
        found.faulty,
        found.missing_pictures,
        job.recipe.missing_pictures,
    )
}

/// What learns, how long, and in how much memory.
pub fn plan(job: &Job, start: &Start, precision: Precision, how: How) -> Result<()> {
    let (recipe, config) = (&job.recipe, &start.open.config);
    let counts = LearnCounts::new(config, recipe);
    println!("{}", job.kind);
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
    let records = bunny_data::record::RecordFile::open(&recipe.training.data_path)?;
    let steps = Steps::of_records(recipe, &records, how.ranks, 0)?;
    println!("  records      {:>16}", records.len());
    println!("  steps        {:>16}", steps.total());
    let memory = MemoryPlan::new(config, recipe, precision);
    let giga = |bytes: u64| bytes as f64 / 1e9;
    println!(
        "  memory       {:>13.2} GB, computed for rows of full length",
        giga(memory.total())
    );
    for (part, bytes) in [
        ("weights", memory.weights),
        ("learners", memory.learners),
        ("kept", memory.kept),
        ("one layer", memory.layer),
        ("scores", memory.scores),
    ] {
        println!("    {part:<10} {:>13.2} GB", giga(bytes));
    }
    Ok(())
}

/// Looks at all records, and stops where the run would.
///
/// # Errors
/// When records cannot be learnt from, or name pictures that are not there and none may be skipped.
pub fn scan(job: &Job, start: &Start) -> Result<()> {
    let training = &job.recipe.training;
    scan_records(job, start, &training.data_path, "")?;
    match &training.eval_data_path {
        Some(path) => scan_records(job, start, path, " evaluation"),
        None => Ok(()),
    }
}

fn scan_records(job: &Job, start: &Start, records: &Path, split: &str) -> Result<()> {
    let spinner = Spinner::new("looking at all records");
    let dataset = job.dataset(start, records)?;
    let found = Preflight::scan(&dataset);
    drop(spinner);
    say(format_args!(
        "{}:{split} {} records, {} with pictures; {} longer than {} positions and cut, the longest \
         has {}",
        job.kind,
        found.records,
        found.with_picture,
        found.cut,
        job.recipe.model_max_length,
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
            say(format_args!("  {count} {what}"));
        }
    }
    for told in found.notes.iter().chain(&found.faults) {
        tell(format_args!("  {told}"));
    }
    refuse(
        found.faulty,
        found.missing_pictures,
        job.recipe.missing_pictures,
    )
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
