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

use std::process::ExitCode;

use anyhow::Result;
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
