//! `bunny-cli data`: what a Bunny learns from.

mod bar;
mod choice;
mod coreset;
mod mix;
mod plan;
mod preview;
mod stats;
mod synth;
mod tokens;
mod validate;

use anyhow::Result;
use clap::Subcommand;

pub use bar::Bar;

/// What to do with data.
#[derive(Debug, Subcommand)]
pub enum DataVerb {
    /// Select the few rows of a big image-text set that are worth learning from
    Coreset(Box<coreset::CoresetArgs>),
    /// What a selection would cost on this machine
    Plan(plan::PlanArgs),
    /// Build a dataset from parts, by a recipe
    Mix(mix::MixArgs),
    /// Find what is wrong with a dataset, and leave it out
    Validate(validate::ValidateArgs),
    /// Count what is in a dataset
    Stats(stats::StatsArgs),
    /// Show sampled records with their pictures, as a page
    Preview(preview::PreviewArgs),
    /// Draw a small world of pictures with captions, conversations and questions
    Synth(synth::SynthArgs),
}

/// Runs the verb.
///
/// # Errors
/// Those of the verb.
pub fn run(verb: DataVerb) -> Result<()> {
    match verb {
        DataVerb::Coreset(args) => coreset::run(*args),
        DataVerb::Plan(args) => plan::run(args),
        DataVerb::Mix(args) => mix::run(args),
        DataVerb::Validate(args) => validate::run(args),
        DataVerb::Stats(args) => stats::run(args),
        DataVerb::Preview(args) => preview::run(args),
        DataVerb::Synth(args) => synth::run(args),
    }
}
