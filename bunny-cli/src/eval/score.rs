//! `bunny-cli eval score`: what a file of answers is worth.

use std::path::PathBuf;

use anyhow::Result;
use bunny_eval::score::Suite;
use bunny_eval::table::{Label, write_report};
use bunny_eval::{Benchmark, Convention, Report, folder, submission};
use serde_json::{Value, json};

use crate::Format;

/// Scores a file of answers: the reference's or LLaVA's JSON lines as they are.
///
/// No model and no pictures are needed. Every figure is that of the convention's own script, its
/// faults included; what was missing, unparsed or drawn at random is counted beside.
///
/// Example: bunny-cli eval score mme --data eval --answers answers.jsonl --out results/bunny
#[derive(Debug, clap::Args)]
pub struct ScoreArgs {
    /// The benchmark
    benchmark: Benchmark,
    /// Its folder, or one that holds folders named as benchmarks are
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The answers
    #[arg(long, value_name = "FILE")]
    answers: PathBuf,
    /// Whose rules they are judged by: reference, lmms-eval or vlmevalkit
    #[arg(long, value_name = "NAME", default_value_t = Convention::Reference)]
    convention: Convention,
    /// Only the first N questions were asked: the figures are marked, and nothing can be submitted
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Write the report into this folder of results, which `eval table` reads
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    label: LabelArgs,
    /// Write the files that the benchmark's server takes into this folder
    #[arg(long, value_name = "DIR")]
    submission: Option<PathBuf>,
    /// How the report is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// What the model of a folder of results is called.
#[derive(Debug, Clone, clap::Args)]
pub struct LabelArgs {
    /// What tables call the model [default: the name of the folder of results]
    #[arg(long, value_name = "NAME", requires = "out")]
    name: Option<String>,
    /// Its vision tower, which places it in table 2: eva or siglip
    #[arg(long, value_name = "NAME", requires = "name")]
    tower: Option<String>,
    /// Its language model, likewise: phi-1.5, stablelm-2 or phi-2
    #[arg(long, value_name = "NAME", requires = "name")]
    language_model: Option<String>,
}

impl LabelArgs {
    /// The label, if a name was given.
    pub fn label(&self) -> Option<Label> {
        Some(Label {
            name: self.name.clone()?,
            vision_tower: self.tower.clone(),
            language_model: self.language_model.clone(),
        })
    }
}

/// Runs the verb.
///
/// # Errors
/// When a file cannot be read or written, or an answer is to no question.
pub fn run(args: ScoreArgs) -> Result<()> {
    let mut suite = Suite::read(args.benchmark, folder(args.benchmark, &args.data)?)?;
    if let Some(limit) = args.limit {
        suite.limit(limit);
    }
    let answers = suite.answers(&args.answers)?;
    let report = suite.score(&answers, args.convention)?;
    let mut written = Vec::new();
    let mut padded = None;
    if let Some(out) = &args.out {
        written.push(write_report(out, &report)?);
        if let Some(label) = args.label.label() {
            label.write(out)?;
        }
    }
    if let Some(folder) = &args.submission {
        let made = submission(&suite, &answers)?;
        for (name, content) in &made.files {
            let path = folder.join(name);
            bunny_base::write_atomic(&path, |file| file.write_all(content))?;
            written.push(path);
        }
        padded = Some((made.padded, made.replaced));
    }
    match args.format {
        Format::Json => {
            let mut value = json!(report);
            value["answers"] = json!(args.answers);
            value["written"] = json!(written);
            value["padded"] = json!(padded.map(|(padded, _)| padded));
            value["replaced_characters"] = json!(padded.map(|(_, replaced)| replaced));
            println!("{value}");
        }
        Format::Text => {
            print(&report);
            if let Some((padded, replaced)) = padded {
                println!(
                    "submission: {padded} rows padded, {replaced} characters replaced by a space"
                );
            }
            for path in &written {
                println!("wrote {}", path.display());
            }
        }
    }
    Ok(())
}

/// Prints a report for people.
pub fn print(report: &Report) {
    let part = if report.partial {
        " (only the first questions: no result)"
    } else {
        ""
    };
    println!(
        "{} by the rules of {}{part}",
        report.benchmark, report.convention
    );
    for (name, value) in &report.scores {
        println!("  {name:<20} {}{}", number(value), intervals(report, name));
    }
    if report.scores.is_empty() {
        println!("  no figure: the right answers are the server's");
    }
    println!(
        "{} of {} questions answered, {} missing, {} repeated, {} lines broken; {} unparsed, {} drawn at random; \
         {:.1} characters an answer",
        report.answered,
        report.questions,
        report.missing,
        report.repeated,
        report.broken_lines,
        report.unparsed,
        report.fallback,
        report.mean_answer_characters
    );
    for (name, value) in &report.categories {
        let score = value
            .get("score")
            .or_else(|| value.get("f1"))
            .map(number)
            .unwrap_or_default();
        let questions = value
            .get("questions")
            .map(Value::to_string)
            .unwrap_or_default();
        println!("  {name:<44} {score:>9} {questions:>7}");
    }
    if let Some(server) = &report.server {
        println!(
            "scored by {} ({}); `eval enter` keeps what it returns",
            server.address, server.phase
        );
    }
    for note in &report.notes {
        println!("note: {note}");
    }
}

fn number(value: &Value) -> String {
    value.as_f64().map_or_else(String::new, |number| {
        let text = format!("{number:.4}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    })
}

/// A score's intervals, each with its method.
fn intervals(report: &Report, score: &str) -> String {
    let methods = report.intervals.get(score).and_then(Value::as_object);
    let told = methods.into_iter().flatten().map(|(method, interval)| {
        format!(
            "  [{}, {}] {method}",
            number(&interval["low"]),
            number(&interval["high"])
        )
    });
    told.collect()
}
