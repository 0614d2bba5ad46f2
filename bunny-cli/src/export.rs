//! `bunny-cli export`: a model in the form that other programs read.

mod gguf;
mod llava;

use anyhow::Result;
use clap::Subcommand;

/// Writes a model in the form that other programs read.
///
/// Example: bunny-cli export gguf builtin --out small-gguf
#[derive(Debug, Subcommand)]
pub enum ExportVerb {
    Gguf(gguf::GgufArgs),
    Llava(Box<llava::LlavaArgs>),
}

/// Runs the verb.
///
/// # Errors
/// When the model cannot be read, the format cannot hold it, or a file cannot be written.
pub fn run(verb: ExportVerb) -> Result<()> {
    match verb {
        ExportVerb::Gguf(args) => gguf::run(&args),
        ExportVerb::Llava(args) => llava::run(&args),
    }
}
