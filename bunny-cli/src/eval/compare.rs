//! `bunny-cli eval compare`: two models on the same questions.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bunny_eval::compare::{Comparison, compare};
use bunny_eval::score::Suite;
use bunny_eval::{Benchmark, Convention, folder};
use serde_json::json;

use crate::Format;
use crate::args::ForceArgs;

/// Compares two models question by question: McNemar's test, the paired bootstrap, changed sides.
///
/// A and B are files of answers, or folders of files named as benchmarks are (`mme.jsonl`).
///
/// Example: bunny-cli eval compare old/mme.jsonl new/mme.jsonl --data eval --page changed.html
#[derive(Debug, clap::Args)]
pub struct CompareArgs {
    /// The first model's answers
    a: PathBuf,
    /// The second model's answers
    b: PathBuf,
    /// The folder of the benchmark, or one that holds folders named as benchmarks are
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The benchmark [default: what the files' names say]
    #[arg(long, value_name = "BENCH")]
    benchmark: Option<Benchmark>,
    /// Whose rules the answers are judged by
    #[arg(long, value_name = "NAME", default_value_t = Convention::Reference)]
    convention: Convention,
    /// Write the questions that changed sides to this page, with their pictures
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// How many questions the page shows
    #[arg(long, value_name = "N", default_value_t = 200)]
    limit: usize,
    #[command(flatten)]
    over: ForceArgs,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Runs the verb.
///
/// # Errors
/// When a file cannot be read, or there is nothing to compare.
pub fn run(args: CompareArgs) -> Result<()> {
    let pairs = args.pairs()?;
    if pairs.len() > 1 && args.page.is_some() {
        bail!("a page is of one benchmark: name it with --benchmark");
    }
    let answers = pairs.iter().flat_map(|(_, a, b)| [a, b]);
    args.over.allow(args.page.as_slice(), answers)?;
    let mut told = Vec::new();
    for (benchmark, a, b) in pairs {
        let suite = Suite::read(benchmark, folder(benchmark, &args.data)?)?;
        let comparison = compare(
            &suite,
            &suite.answers(&a)?,
            &suite.answers(&b)?,
            args.convention,
        )?;
        if let Some(page) = &args.page {
            let (a, b) = (args.a.to_string_lossy(), args.b.to_string_lossy());
            let text = comparison.page(suite.questions(), suite.folder(), [&a, &b], args.limit)?;
            bunny_base::write_atomic(page, |file| file.write_all(text.as_bytes()))?;
        }
        told.push(comparison);
    }
    match args.format {
        Format::Json => println!("{}", json!({"format_version": 1, "benchmarks": told})),
        Format::Text => told.iter().for_each(print),
    }
    Ok(())
}

impl CompareArgs {
    /// The benchmarks that both have answers to.
    fn pairs(&self) -> Result<Vec<(Benchmark, PathBuf, PathBuf)>> {
        if self.a.is_file() && self.b.is_file() {
            let named = || self.a.file_stem()?.to_str()?.parse().ok();
            let benchmark = self.benchmark.or_else(named).with_context(|| {
                format!(
                    "{}: its name says no benchmark: say --benchmark",
                    self.a.display()
                )
            })?;
            return Ok(vec![(benchmark, self.a.clone(), self.b.clone())]);
        }
        let of = |folder: &Path, benchmark: Benchmark| folder.join(format!("{benchmark}.jsonl"));
        let all = Benchmark::ALL
            .into_iter()
            .filter(|one| self.benchmark.is_none_or(|only| only == *one));
        let pairs: Vec<_> = all
            .map(|benchmark| (benchmark, of(&self.a, benchmark), of(&self.b, benchmark)))
            .filter(|(_, a, b)| a.is_file() && b.is_file())
            .collect();
        if pairs.is_empty() {
            bail!(
                "{} and {} have no file of answers in common, such as mme.jsonl",
                self.a.display(),
                self.b.display()
            );
        }
        Ok(pairs)
    }
}

/// Prints a comparison for people.
pub fn print(comparison: &Comparison) {
    println!(
        "{} by the rules of {}: {} questions, {} right with both, {} with A alone, {} with B alone, {} with neither; \
         McNemar p = {:.4}",
        comparison.benchmark,
        comparison.convention,
        comparison.paired,
        comparison.both_right,
        comparison.only_a,
        comparison.only_b,
        comparison.both_wrong,
        comparison.mcnemar_p
    );
    for figure in &comparison.figures {
        let interval = figure.interval.map_or_else(String::new, |interval| {
            format!(" [{:+.3}, {:+.3}]", interval.low, interval.high)
        });
        println!(
            "  {:<12} {:.3} → {:.3}, {:+.3}{interval}",
            figure.name, figure.a, figure.b, figure.difference
        );
    }
}
