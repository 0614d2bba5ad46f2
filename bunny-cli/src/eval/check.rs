//! `bunny-cli eval check`: what is wrong with a benchmark's files.

use std::path::PathBuf;

use anyhow::{Result, bail};
use bunny_eval::check::{Check, check, files};
use bunny_eval::{Benchmark, folder};
use serde_json::json;

use crate::Format;

/// Looks for missing pictures and wrong files before a model is loaded.
///
/// Fails if something keeps a benchmark from being asked or scored. Without names, the benchmarks
/// of which a file is there are looked at.
///
/// Example: bunny-cli eval check pope mme --data eval
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The benchmarks
    benchmarks: Vec<Benchmark>,
    /// A benchmark's folder, or one that holds folders named as they are
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Runs the verb.
///
/// # Errors
/// When a folder cannot be read, or something is wrong with a benchmark.
pub fn run(args: CheckArgs) -> Result<()> {
    let mut named = args.benchmarks;
    if named.is_empty() {
        for benchmark in Benchmark::ALL {
            let found = files(benchmark, &folder(benchmark, &args.data)?, false)?;
            named.extend(
                found
                    .iter()
                    .any(|file| file.place.is_some())
                    .then_some(benchmark),
            );
        }
        if named.is_empty() {
            bail!(
                "{}: no file of any benchmark is in it: `eval list` names them",
                args.data.display()
            );
        }
    }
    let mut checks = Vec::new();
    for benchmark in named {
        checks.push(check(benchmark, folder(benchmark, &args.data)?)?);
    }
    match args.format {
        Format::Json => println!("{}", json!({"format_version": 1, "benchmarks": checks})),
        Format::Text => checks.iter().for_each(print),
    }
    let wrong: Vec<&str> = checks
        .iter()
        .filter(|check| !check.problems.is_empty())
        .map(|check| check.benchmark.name())
        .collect();
    if !wrong.is_empty() {
        bail!("{}: not ready", wrong.join(", "));
    }
    Ok(())
}

fn print(check: &Check) {
    let ready = if check.problems.is_empty() {
        "ready"
    } else {
        "not ready"
    };
    println!(
        "{}: {ready}, {} questions, {} pictures in {}",
        check.benchmark,
        check.questions,
        check.pictures,
        check.folder.display()
    );
    for problem in &check.problems {
        println!("  problem: {problem}");
    }
    for remark in &check.remarks {
        println!("  remark: {remark}");
    }
}
