//! `bunny-cli eval prompts`: what a model is asked.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::Result;
use bunny_eval::{Benchmark, Question, Template, folder, questions};
use serde_json::{Value, json};

/// Prints every prompt of a benchmark as the tokenizer gets it, one JSON object a line.
///
/// No pictures and no model are needed; `image` (or `images`, where there is none) names them.
///
/// Example: bunny-cli eval prompts pope --data eval
#[derive(Debug, clap::Args)]
pub struct PromptsArgs {
    /// The benchmark
    benchmark: Benchmark,
    /// Its folder, or one that holds folders named as benchmarks are
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The form of the prompt: bunny, phi3, minicpm or llama
    #[arg(long, value_name = "NAME", default_value_t = Template::Bunny)]
    template: Template,
    /// The first N questions only
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// Runs the verb.
///
/// # Errors
/// When the questions cannot be read.
pub fn run(args: PromptsArgs) -> Result<()> {
    let questions = questions(args.benchmark, &folder(args.benchmark, &args.data)?)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    for question in questions.iter().take(args.limit.unwrap_or(usize::MAX)) {
        writeln!(out, "{}", line(question, args.template))?;
    }
    Ok(out.flush()?)
}

fn line(question: &Question, template: Template) -> Value {
    let mut line = json!({"question_id": question.id});
    match &question.pictures[..] {
        [picture] => line["image"] = json!(picture.name),
        pictures => {
            line["images"] = pictures
                .iter()
                .map(|picture| picture.name.clone())
                .collect();
        }
    }
    line["prompt"] = json!(template.prompt(question));
    line
}
