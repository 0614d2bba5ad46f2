//! `bunny-cli export`: a model in the form that other programs read.

mod llava;

use anyhow::Result;
use clap::Subcommand;

/// Writes a model in the form that other programs read.
///
/// Example: bunny-cli export llava builtin --out small-llava
#[derive(Debug, Subcommand)]
pub enum ExportVerb {
    Llava(Box<llava::LlavaArgs>),
}

/// Runs the verb.
///
/// # Errors
/// When the model cannot be read, the format cannot hold it, or a file cannot be written.
pub fn run(verb: ExportVerb) -> Result<()> {
    match verb {
        ExportVerb::Llava(args) => llava::run(&args),
    }
}
