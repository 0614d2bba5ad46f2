//! `bunny-cli eval enter`: figures that a server returned.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, anyhow};
use bunny_eval::Benchmark;
use bunny_eval::table::Entered;

/// Keeps the figures that a benchmark's server returned, for tables.
///
/// Example: bunny-cli eval enter mmbench-test 69.2 --out results/bunny
#[derive(Debug, clap::Args)]
pub struct EnterArgs {
    /// The benchmark
    benchmark: Benchmark,
    /// The figure, or several as NAME=FIGURE (MME's are perception and cognition)
    #[arg(required = true, value_name = "FIGURE")]
    figures: Vec<Figure>,
    /// The folder of results
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// When it was returned
    #[arg(long, value_name = "DATE")]
    on: Option<String>,
}

/// A figure, and which of its benchmark's it is.
#[derive(Debug, Clone)]
struct Figure {
    name: Option<String>,
    value: f64,
}

impl FromStr for Figure {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (Some(name.to_owned()), value),
            None => (None, text),
        };
        let value = value
            .parse()
            .map_err(|_| anyhow!("`{value}` is no number"))?;
        Ok(Self { name, value })
    }
}

/// Runs the verb.
///
/// # Errors
/// When the benchmark has no such figure, or it cannot be written.
pub fn run(args: EnterArgs) -> Result<()> {
    let figures: Vec<_> = args
        .figures
        .into_iter()
        .map(|figure| (figure.name, figure.value))
        .collect();
    let entered = Entered::new(args.benchmark, &figures, args.on)?;
    let path = entered.write(&args.out)?;
    println!("wrote {}", path.display());
    Ok(())
}
