//! `bunny-cli eval`: how well a model answers.

mod picture_world;

use anyhow::Result;
use clap::Subcommand;

/// Examines how well a model answers.
///
/// Example: bunny-cli eval picture-world --data world
#[derive(Debug, Subcommand)]
pub enum EvalVerb {
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
