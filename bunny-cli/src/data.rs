//! `bunny-cli data`: what a Bunny learns from.

mod bar;
pub mod choice;
pub mod condense;
mod coreset;
mod embed;
mod mix;
mod plan;
mod preview;
mod stats;
mod synth;
mod tokens;
mod validate;

use std::{path::Path, process::ExitCode};

use anyhow::{Result, ensure};
use bunny_data::{for_terminal, record::RecordFile};
use clap::Subcommand;

pub use bar::Bar;
pub use choice::show_bytes;

/// Embeds, selects, condenses, mixes, checks and shows what a model learns from.
///
/// Example: bunny-cli data stats bunny_695k.json
#[derive(Debug, Subcommand)]
pub enum DataVerb {
    Embed(Box<embed::EmbedArgs>),
    Coreset(Box<coreset::CoresetArgs>),
    Condense(Box<condense::CondenseArgs>),
    Plan(plan::PlanArgs),
    Mix(mix::MixArgs),
    Validate(validate::ValidateArgs),
    Stats(stats::StatsArgs),
    Preview(preview::PreviewArgs),
    Synth(synth::SynthArgs),
}

/// Runs the verb; the program's exit code.
///
/// # Errors
/// Those of the verb.
pub fn run(verb: DataVerb) -> Result<ExitCode> {
    let done = match verb {
        // Launchers act on its exit codes.
        DataVerb::Coreset(args) => return coreset::run(*args),
        DataVerb::Embed(args) => embed::run(*args),
        DataVerb::Condense(args) => condense::run(*args),
        DataVerb::Plan(args) => plan::run(args),
        DataVerb::Mix(args) => mix::run(args),
        DataVerb::Validate(args) => validate::run(args),
        DataVerb::Stats(args) => stats::run(args),
        DataVerb::Preview(args) => preview::run(args),
        DataVerb::Synth(args) => synth::run(args),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Opens a file of records. One without any is refused: nothing that is said of it would be true of
/// what was meant.
fn open_records(file: &Path) -> Result<RecordFile> {
    let records = RecordFile::open(file)?;
    let name = for_terminal(&file.display().to_string()).into_owned();
    ensure!(!records.is_empty(), "{name}: there are no records in it");
    Ok(records)
}
