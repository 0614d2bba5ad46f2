//! `bunny-cli eval`: how well a model answers.

mod picture_world;

use anyhow::Result;
use clap::Subcommand;

/// What to examine a model with.
#[derive(Debug, Subcommand)]
pub enum EvalVerb {
    /// Ask the test questions of a world that `data synth` drew
    PictureWorld(picture_world::PictureWorldArgs),
}

/// Runs the verb.
///
/// # Errors
/// Those of the verb.
pub fn run(verb: EvalVerb) -> Result<()> {
    match verb {
        EvalVerb::PictureWorld(args) => picture_world::run(args),
    }
}
