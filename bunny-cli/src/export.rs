//! `bunny-cli export`: models for other programs.

mod gguf;

use anyhow::Result;
use clap::Subcommand;

/// Writes a model in the form that other programs read.
///
/// Example: bunny-cli export gguf builtin --out small-gguf
#[derive(Debug, Subcommand)]
pub enum ExportVerb {
    Gguf(gguf::GgufArgs),
}

/// Runs the verb.
///
/// # Errors
/// When the model cannot be read, the form has no place for it, or a file cannot be written.
pub fn run(verb: ExportVerb) -> Result<()> {
    match verb {
        ExportVerb::Gguf(args) => gguf::run(&args),
    }
}
