//! `bunny-cli data validate`: what is wrong with a dataset.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bunny_data::images::{ImageSource, PictureCheck};
use bunny_data::validate::{
    RecordStage, Report, TokenCounter, ValidateOptions, WARNINGS, validate, write_fixed,
};
use bunny_data::{for_terminal, write_whole};
use clap::builder::PossibleValuesParser;

use super::bar::Bar;
use super::open_records;
use super::tokens::TokenArgs;
use crate::Format;
use crate::args::ForceArgs;

/// Looks for what is wrong with a dataset: roles, placeholders, answers, ids, lengths, pictures.
///
/// Fails if there are errors, unless they are fixed.
///
/// Example: bunny-cli data validate bunny_695k.json --images images --fix clean.json
#[derive(Debug, clap::Args)]
pub struct ValidateArgs {
    /// The records: a JSON array, JSON lines or Parquet
    file: PathBuf,
    /// Where the pictures are: a folder, a tar, or shards as `shards/{00000..00231}.tar`
    #[arg(long, value_name = "PATH")]
    images: Option<PathBuf>,
    /// How closely pictures are looked at
    #[arg(long, value_enum, default_value_t = Pictures::Whole, requires = "images")]
    pictures: Pictures,
    /// Which stage the records are for
    #[arg(long, value_enum, default_value_t = Stage::Finetune)]
    stage: Stage,
    #[command(flatten)]
    tokens: TokenArgs,
    /// Conversations of more tokens are too long
    #[arg(long, value_name = "N", requires = "tokenizer")]
    max_tokens: Option<usize>,
    /// Write a copy without the records that have errors
    #[arg(long, value_name = "FILE")]
    fix: Option<PathBuf>,
    /// Where to list what the copy leaves out [default: the copy's name and .dropped.jsonl]
    #[arg(long, value_name = "FILE", requires = "fix")]
    dropped: Option<PathBuf>,
    /// Problems that are no errors, but reason to leave a record out
    #[arg(long, value_name = "PROBLEM", value_delimiter = ',', requires = "fix",
          value_parser = PossibleValuesParser::new(WARNINGS))]
    drop: Vec<String>,
    /// Write the whole report to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// How many findings are printed
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    over: ForceArgs,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl ValidateArgs {
    /// Where to list what a copy leaves out.
    fn dropped_beside(&self, copy: &Path) -> PathBuf {
        let mut beside = copy.as_os_str().to_owned();
        beside.push(".dropped.jsonl");
        self.dropped.clone().unwrap_or(beside.into())
    }

    /// What is written.
    fn outputs(&self) -> Vec<PathBuf> {
        let dropped = self.fix.as_ref().map(|copy| self.dropped_beside(copy));
        let outputs = [self.fix.clone(), dropped, self.report.clone()];
        outputs.into_iter().flatten().collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Pictures {
    /// Not at all
    None,
    /// That they are there
    Exist,
    /// That they are whole, and what their names say
    Whole,
    /// That they decode
    Decode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Stage {
    Pretrain,
    Finetune,
}

/// Runs the verb.
///
/// # Errors
/// When a file cannot be read or written, there are no records, or errors were found and not fixed.
pub fn run(args: ValidateArgs) -> Result<()> {
    let outputs = args.outputs();
    let read = [Some(&args.file), args.images.as_ref()];
    args.over.allow(&outputs, read.into_iter().flatten())?;
    refuse_twice(&outputs)?;
    let file = open_records(&args.file)?;
    let images = args.images.as_ref().map(ImageSource::open).transpose()?;
    let counter = args.tokens.counter()?;
    let mut options = ValidateOptions::default();
    options.images = images.as_ref();
    options.tokens = counter.as_ref().map(|counter| counter as &dyn TokenCounter);
    options.max_tokens = args.max_tokens;
    options.pictures = match args.pictures {
        Pictures::None => PictureCheck::None,
        Pictures::Exist => PictureCheck::Exist,
        Pictures::Whole => PictureCheck::Whole,
        Pictures::Decode => PictureCheck::Decode,
    };
    options.stage = match args.stage {
        Stage::Pretrain => RecordStage::Pretrain,
        Stage::Finetune => RecordStage::Finetune,
    };
    let bar = Bar::new("looking");
    let report = validate(&file, &options, &|done, total| bar.show(done, total))?;
    drop(bar);

    if let Some(path) = &args.report {
        write_whole(path, &serde_json::to_vec_pretty(&report)?)?;
    }
    let fixed = match &args.fix {
        None => None,
        Some(out) => {
            let dropped = args.dropped_beside(out);
            let also: BTreeSet<String> = args.drop.iter().cloned().collect();
            let bar = Bar::new("writing");
            let fixed = write_fixed(&file, &report, out, &dropped, &also, &|done, total| {
                bar.show(done, total)
            })?;
            Some((fixed, out, dropped))
        }
    };
    match args.format {
        Format::Json => {
            let mut json = serde_json::to_value(&report).with_context(|| {
                let file = args.file.display();
                format!("{file}: its report cannot be told as JSON: take --format text")
            })?;
            json["fixed"] = serde_json::to_value(fixed.as_ref().map(|(fixed, ..)| fixed))?;
            println!("{json}");
        }
        Format::Text => {
            print_report(&report, args.limit);
            if let Some((fixed, out, dropped)) = &fixed {
                println!("{}: {} records kept", out.display(), fixed.kept);
                println!("{}: {} records dropped", dropped.display(), fixed.dropped);
            }
        }
    }
    if fixed.is_none() && report.records_with_errors > 0 {
        bail!(
            "{}: {} of {} records have errors; --fix FILE writes a copy without them",
            args.file.display(),
            report.records_with_errors,
            report.records
        );
    }
    Ok(())
}

/// Refuses to write one file twice, by whatever paths it is named.
fn refuse_twice(outputs: &[PathBuf]) -> Result<()> {
    for (at, output) in outputs.iter().enumerate() {
        let is_same = |other: &&PathBuf| place(other) == place(output);
        if let Some(other) = outputs[..at].iter().find(is_same) {
            bail!(
                "{}: it would be written over {}: name another file to write",
                output.display(),
                other.display()
            );
        }
    }
    Ok(())
}

/// Where a file stands, or will.
fn place(path: &Path) -> PathBuf {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let in_folder = || Some(folder.canonicalize().ok()?.join(path.file_name()?));
    let there = path.canonicalize().ok();
    there.or_else(in_folder).unwrap_or_else(|| path.to_owned())
}

fn print_report(report: &Report, limit: usize) {
    println!(
        "{}: {} records, {} pictures looked at, {} records with errors",
        for_terminal(&report.file.display().to_string()),
        report.records,
        report.pictures,
        report.records_with_errors
    );
    for (kind, count) in &report.counts {
        let weight = if WARNINGS.contains(kind) {
            "warning"
        } else {
            "error"
        };
        println!("  {kind:<28} {count:>9}  {weight}");
    }
    for finding in report.findings.iter().take(limit) {
        println!(
            "record {} ({}): {}",
            finding.record,
            for_terminal(&finding.id),
            finding.problem
        );
    }
    if let Some(more) = report
        .findings
        .len()
        .checked_sub(limit)
        .filter(|more| *more > 0)
    {
        println!("… and {more} more; --report FILE writes them all");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_is_written_twice_by_whatever_paths() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("below")).unwrap();
        let in_folder = |name: &str| folder.path().join(name);
        let (clean, other) = (in_folder("clean.json"), in_folder("other.json"));
        refuse_twice(&[clean.clone(), other.clone()]).unwrap();
        // Neither is there yet.
        let detour = in_folder("below/../clean.json");
        let error = refuse_twice(&[other, clean, detour])
            .unwrap_err()
            .to_string();
        assert!(error.contains("below/../clean.json: "), "{error}");
    }
}
