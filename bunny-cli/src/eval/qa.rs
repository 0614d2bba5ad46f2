//! `bunny-cli eval qa`: questions of one's own.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use bunny_eval::compare::compare_own;
use bunny_eval::qa::{self, Item, Metric, QaReport};
use bunny_eval::{Answers, Folder};
use serde_json::json;

use super::ask::{Asking, OwnArgs, file_name};
use super::compare;
use crate::Format;
use crate::args::{BackendArgs, ForceArgs, ModelArgs};
use crate::files::refuse_same_file;

/// Asks a model questions of one's own, and scores its answers.
///
/// FILE is LLaVA's JSON (of each conversation the first question and its answer), JSON lines (`question`,
/// `answer`, `image`), or a TSV or CSV with such columns; several right answers are a list. Answers
/// are kept as `eval run` keeps them. With --answers nothing is asked; with --against too, two files
/// of answers are compared.
///
/// Example: bunny-cli eval qa questions.tsv --images pictures --metric contains --out answers.jsonl
#[derive(Debug, clap::Args)]
pub struct QaArgs {
    #[command(flatten)]
    own: OwnArgs,
    /// How answers are judged: exact, contains, vqa, choice, yes-no or anls
    #[arg(long, value_name = "NAME", default_value_t = Metric::Exact)]
    metric: Metric,
    /// Where answers are kept [default: FILE with `.answers.jsonl` for its ending]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Judge these answers; no model is asked
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    answers: Option<PathBuf>,
    /// Compare --answers with these
    #[arg(long, value_name = "FILE", requires = "answers")]
    against: Option<PathBuf>,
    /// Write the questions that changed sides to this page
    #[arg(long, value_name = "FILE", requires = "against")]
    page: Option<PathBuf>,
    #[command(flatten)]
    over: ForceArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    backend: BackendArgs,
    /// How the result is printed; with `json` progress goes to standard error, as JSON lines
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Runs the verb.
///
/// # Errors
/// When a file, a picture or the model cannot be read, or the model fails.
pub fn run(args: QaArgs) -> Result<()> {
    let read = [
        Some(&args.own.file),
        args.answers.as_ref(),
        args.against.as_ref(),
    ];
    let page = args.page.as_slice();
    args.over.allow(page, read.into_iter().flatten())?;
    let items = qa::read(&args.own.file, args.own.form()?)?;
    if items.is_empty() {
        bail!("{}: there is no question in it", args.own.file.display());
    }
    let given = args.answers.clone();
    let answers = match given {
        Some(answers) => answers,
        None => {
            let out = args
                .out
                .clone()
                .unwrap_or_else(|| args.own.file.with_extension("answers.jsonl"));
            refuse_same_file([&out], [&args.own.file])?;
            let right = |answers: &Answers| {
                let report = qa::score(&items, answers, args.metric).ok()?;
                let answered = report.answered as f64;
                (answered > 0.0).then(|| report.score / 100.0 * report.questions as f64 / answered)
            };
            Asking {
                own: &args.own,
                model: &args.model,
                questions: qa::questions(&items),
                out: &out,
                format: args.format,
                right: &right,
            }
            .run(args.backend)?;
            out
        }
    };
    let read = |path: &Path| Answers::read(path, bunny_eval::answer::BrokenLines::Refuse);
    if let Some(against) = &args.against {
        return args.compared(&items, &read(&answers)?, &read(against)?);
    }
    let report = qa::score(&items, &read(&answers)?, args.metric)?;
    match args.format {
        Format::Text => print(&report, &answers),
        Format::Json => {
            let mut value = json!(report);
            value["answers"] = json!(answers);
            println!("{value}");
        }
    }
    Ok(())
}

impl QaArgs {
    fn compared(&self, items: &[Item], a: &Answers, b: &Answers) -> Result<()> {
        let name = file_name(&self.own.file);
        let comparison = compare_own(&name, items, a, b, self.metric)?;
        if let Some(page) = &self.page {
            let folder = Folder::open(self.own.images()?)?;
            let names = [&self.answers, &self.against]
                .map(|path| path.as_deref().map(file_name).unwrap_or_default());
            let questions = qa::questions(items);
            let text = comparison.page(&questions, &folder, [&names[0], &names[1]], 200)?;
            bunny_base::write_atomic(page, |file| file.write_all(text.as_bytes()))?;
        }
        match self.format {
            Format::Text => compare::print(&comparison),
            Format::Json => println!("{}", json!(comparison)),
        }
        Ok(())
    }
}

fn print(report: &QaReport, answers: &Path) {
    let interval = report.intervals.iter().map(|(method, interval)| {
        let side = |name: &str| interval[name].as_f64().unwrap_or_default();
        format!("  [{:.2}, {:.2}] {method}", side("low"), side("high"))
    });
    println!(
        "{} by `{}`: {:.2} %{}",
        answers.display(),
        report.metric,
        report.score,
        interval.collect::<String>()
    );
    println!(
        "{} of {} questions answered, {} missing, {} unparsed",
        report.answered, report.questions, report.missing, report.unparsed
    );
}
