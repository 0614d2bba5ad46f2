//! `bunny-cli eval table`: the paper's tables from results.

use std::path::PathBuf;

use anyhow::Result;
use bunny_eval::Convention;
use bunny_eval::table::{Layout, Table, TableForm};

use crate::args::ForceArgs;

/// Makes the paper's tables from folders of results, beside the published figures.
///
/// A folder holds what `eval score --out` and `eval enter` wrote for one model, or such folders.
/// Figures of a server go before figures of one's own. In brackets stand 95 % intervals.
///
/// Example: bunny-cli eval table results/bunny --format markdown
#[derive(Debug, clap::Args)]
pub struct TableArgs {
    /// The folders of results
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// 1: models below others of their size; 2: vision towers by language models
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    table: u8,
    /// Stand every model beside this published one [default: the one of the same parts]
    #[arg(long, value_name = "NAME")]
    beside: Option<String>,
    /// Whose rules the answers were judged by
    #[arg(long, value_name = "NAME", default_value_t = Convention::Reference)]
    convention: Convention,
    /// How the table is written: markdown, latex, html or json
    #[arg(long, value_name = "FORM", default_value_t = TableForm::Markdown)]
    format: TableForm,
    /// Write it to this file [default: to standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    over: ForceArgs,
}

/// Runs the verb.
///
/// # Errors
/// When a result cannot be read, or the table cannot be written.
pub fn run(args: TableArgs) -> Result<()> {
    args.over.allow(args.out.as_slice(), &args.folders)?;
    let layout = if args.table == 1 {
        Layout::Models
    } else {
        Layout::Combinations
    };
    let table = Table::of(
        &args.folders,
        args.convention,
        layout,
        args.beside.as_deref(),
    )?;
    let text = table.written(args.format)?;
    match &args.out {
        Some(path) => {
            bunny_base::write_atomic(path, |file| file.write_all(text.as_bytes()))?;
            println!("wrote {}", path.display());
        }
        None => println!("{}", text.trim_end()),
    }
    Ok(())
}
