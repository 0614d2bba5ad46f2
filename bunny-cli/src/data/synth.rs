//! `bunny-cli data synth`: a small world of pictures to learn from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use bunny_data::picture_world::{WorldOptions, write_world};

use super::bar::Bar;
use crate::Format;

/// Draws a small world of pictures, to train a small Bunny on and to examine it.
///
/// Pictures show coloured shapes, numbers and words. Written are captions for the first stage, of
/// which 55 % are right, 15 % wrong, 15 % vague and 15 % duplicates, with embeddings from which
/// `data coreset` selects; conversations for the second stage; questions of a test, about
/// combinations of shape and colour that training never sees; and plain text for a language model.
/// The same seed gives the same files.
///
/// Example: bunny-cli data synth --out world --pairs 100000 --conversations 50000 --seed 1
#[derive(Debug, clap::Args)]
pub struct SynthArgs {
    /// The folder to write, which must not hold anything yet
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Pictures with captions
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pairs: u64,
    /// Conversations, one in ten of them without a picture
    #[arg(long, value_name = "M", default_value_t = 20_000)]
    conversations: u64,
    /// Questions of the test, over all types
    #[arg(long, value_name = "Q", default_value_t = 2_200)]
    questions: u64,
    /// Lines of plain text
    #[arg(long, value_name = "T", default_value_t = 50_000)]
    texts: u64,
    /// What everything hangs on
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Runs the verb.
///
/// # Errors
/// When the folder holds something, or a file cannot be written.
pub fn run(args: SynthArgs) -> Result<()> {
    let options = WorldOptions {
        seed: args.seed,
        pairs: args.pairs,
        conversations: args.conversations,
        questions: args.questions,
        texts: args.texts,
    };
    let bar = Bar::new("drawing");
    let manifest = write_world(&args.out, &options, &|done, total| bar.show(done, total))?;
    drop(bar);
    match args.format {
        Format::Json => println!("{}", serde_json::to_string(&manifest)?),
        Format::Text => {
            let listed = |counts: &BTreeMap<String, u64>| {
                let parts: Vec<String> = counts
                    .iter()
                    .map(|(name, count)| format!("{count} {name}"))
                    .collect();
                parts.join(", ")
            };
            let [with, without] = manifest.conversations;
            println!("pretrain.json   {}", listed(&manifest.pairs));
            println!("finetune.json   {with} with a picture, {without} without");
            println!("test.json       {}", listed(&manifest.questions));
            println!("texts.jsonl     {} lines", manifest.texts);
        }
    }
    Ok(())
}
