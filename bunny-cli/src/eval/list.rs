//! `bunny-cli eval list`: the benchmarks and their files.

use std::path::PathBuf;

use anyhow::Result;
use bunny_eval::check::{FileState, files};
use bunny_eval::{Benchmark, folder};
use serde_json::json;

use crate::Format;

/// Lists the benchmarks: their files and where they come from, counts, hashes, licences.
///
/// Example: bunny-cli eval list --data eval
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Say what of it is there: a benchmark's folder, or one that holds folders named as they are
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// How the list is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Runs the verb.
///
/// # Errors
/// When the folder cannot be read.
pub fn run(args: ListArgs) -> Result<()> {
    let mut list = Vec::new();
    for benchmark in Benchmark::ALL {
        let there = match &args.data {
            Some(data) => Some(files(benchmark, &folder(benchmark, data)?, false)?),
            None => None,
        };
        list.push((benchmark, there));
    }
    match args.format {
        Format::Json => {
            let told = list.iter().map(|(benchmark, there)| {
                let mut value = json!(benchmark.facts());
                value["name"] = json!(benchmark);
                value["folder"] = json!(benchmark.folder_name());
                value["max_new_tokens"] = json!(benchmark.max_new_tokens());
                value["server"] = json!(benchmark.server());
                value["there"] = json!(there);
                value
            });
            println!(
                "{}",
                json!({"format_version": 1, "benchmarks": told.collect::<Vec<_>>()})
            );
        }
        Format::Text => list
            .iter()
            .for_each(|(benchmark, there)| print(*benchmark, there.as_deref())),
    }
    Ok(())
}

fn print(benchmark: Benchmark, there: Option<&[FileState]>) {
    let facts = benchmark.facts();
    let count = |count: Option<usize>, what: &str| {
        count.map_or_else(String::new, |count| format!(", {count} {what}"))
    };
    println!(
        "{benchmark}: {}{}{} → {}",
        facts.title,
        count(facts.questions, "questions"),
        count(facts.pictures, "pictures"),
        facts.figures
    );
    println!("  licence: {}", facts.licence);
    if let Some(server) = benchmark.server() {
        println!("  scored by {} ({})", server.address, server.phase);
    }
    println!("  in {}/:", benchmark.folder_name());
    for (at, file) in facts.files.iter().enumerate() {
        let state = match there.map(|there| there[at].place.is_some()) {
            None => "",
            Some(true) => "[there] ",
            Some(false) => "[not there] ",
        };
        println!("  {state}{}: {}; from {}", file.name, file.holds, file.from);
        if let Some(blob) = file.blob {
            println!("      git hash-object: {blob}");
        }
    }
}
