//! `bunny-cli eval merge`: the parts of several machines as one file of answers.

use std::path::PathBuf;

use anyhow::Result;
use bunny_eval::run::merge;
use bunny_eval::score::Suite;
use bunny_eval::{Benchmark, folder};

use crate::args::ForceArgs;

/// Brings files of answers together in the questions' order; each question must be in one of them.
///
/// Example: bunny-cli eval merge gqa part1.jsonl part2.jsonl --data eval --out answers.jsonl
#[derive(Debug, clap::Args)]
pub struct MergeArgs {
    /// The benchmark
    benchmark: Benchmark,
    /// The files of answers
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The benchmark's folder, or one that holds folders named as benchmarks are
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where the answers go
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    over: ForceArgs,
}

/// Runs the verb.
///
/// # Errors
/// When a file cannot be read, or questions are answered twice or nowhere.
pub fn run(args: MergeArgs) -> Result<()> {
    args.over.allow(&[&args.out], &args.files)?;
    let suite = Suite::read(args.benchmark, folder(args.benchmark, &args.data)?)?;
    let same = |question: &_, prompt: &str| suite.is_asked(question, prompt);
    let merged = merge(args.benchmark, suite.questions(), &args.files, same)?;
    bunny_base::write_atomic(&args.out, |file| file.write_all(merged.text.as_bytes()))?;
    println!("{}: {} answers", args.out.display(), merged.rows);
    Ok(())
}
