//! `bunny-cli eval run`: a model is asked the questions of benchmarks.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bunny_core::generate::Pipeline;
use bunny_core::input::image::Aspect;
use bunny_eval::picture::Pictures;
use bunny_eval::question::PictureRef;
use bunny_eval::run::{Answerer, Job, Model, Options, Shard, WINDOW};
use bunny_eval::score::Suite;
use bunny_eval::table::write_report;
use bunny_eval::{Benchmark, Convention, Question, Template, folder, submission};
use burn::tensor::backend::Backend;
use serde_json::{Value, json};

use super::answerer::{AskArgs, Local, Server, of_model, short_name};
use super::score::{LabelArgs, print};
use super::telling::Telling;
use crate::Format;
use crate::args::{BackendArgs, ModelArgs};
use crate::backend::{Numbers, Work};
use crate::load::BUILTIN;
use crate::progress::Spinner;

/// Asks a model the questions of benchmarks, and scores its answers.
///
/// Each answer is on the disk as soon as it is known: a line of DIR/BENCH.jsonl, in the questions'
/// order, and in BENCH.jsonl.ahead until its turn comes. Killed and started again, it goes on where
/// it stood; rows that were asked otherwise are refused. When all is answered, the report is written
/// beside, and what the benchmark's server takes.
///
/// Example: bunny-cli eval run mme pope --data eval --model ./bunny --out results/bunny
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// The benchmarks
    #[arg(required = true)]
    benchmarks: Vec<Benchmark>,
    /// A benchmark's folder, or one that holds folders named as they are
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// The folder of results: answers, reports, files for servers
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Ask the first N questions only: figures are marked, and nothing is written for a server
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Ask only part K of N, such as 1/4; `eval merge` brings parts together
    #[arg(long, value_name = "K/N", conflicts_with = "limit")]
    shard: Option<Shard>,
    #[command(flatten)]
    ask: AskArgs,
    /// Whose rules answers are judged by: reference, lmms-eval or vlmevalkit
    #[arg(long, value_name = "NAME", default_value_t = Convention::Reference)]
    convention: Convention,
    #[command(flatten)]
    label: LabelArgs,
    #[command(flatten)]
    backend: BackendArgs,
    /// How the result is printed; with `json` progress goes to standard error, as JSON lines
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Runs the verb.
///
/// # Errors
/// When a benchmark or the model cannot be read, something is missing, stored rows were asked
/// otherwise, or the model fails.
pub fn run(args: RunArgs) -> Result<()> {
    let backend = args.backend;
    let url = args.ask.backend_url.clone();
    let running = Running::new(args)?;
    match url {
        None => backend.run(running),
        Some(url) => running.on_server(&url),
    }
}

/// Benchmarks whose files are there.
struct Running {
    args: RunArgs,
    suites: Vec<Suite>,
}

impl Running {
    /// Reads the questions and looks for their pictures: before a model is loaded.
    fn new(args: RunArgs) -> Result<Self> {
        let mut suites = Vec::new();
        for benchmark in &args.benchmarks {
            let mut suite = Suite::read(*benchmark, folder(*benchmark, &args.data)?)?;
            suite.require_scorer(args.convention)?;
            if let Some(limit) = args.limit {
                suite.limit(limit);
            }
            let questions = args.part(suite.questions());
            require_pictures(*benchmark, questions, &Pictures::new(suite.folder()))?;
            suites.push(suite);
        }
        std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
        Ok(Self { args, suites })
    }

    fn on_server(self, url: &str) -> Result<()> {
        let named = Some(&*self.args.model.model).filter(|name| *name != BUILTIN);
        let mut server = Server::new(url, named, self.args.ask.batch.into())?;
        // The server has a template of its own.
        self.ask_all(&mut server, &mut |_, _| {}, None, Vec::new())
    }

    fn ask_all<A: Answerer>(
        self,
        answerer: &mut A,
        prepare: &mut dyn FnMut(&mut A, Benchmark),
        template: Option<Template>,
        more: Vec<(String, String)>,
    ) -> Result<()> {
        let args = &self.args;
        let mut told = Vec::new();
        for suite in &self.suites {
            let benchmark = suite.benchmark();
            prepare(answerer, benchmark);
            let pictures = Pictures::new(suite.folder());
            let path = args.out.join(match args.shard {
                None => format!("{benchmark}.jsonl"),
                Some(shard) => {
                    format!(
                        "{benchmark}.{}.jsonl",
                        shard.to_string().replace('/', "-of-")
                    )
                }
            });
            let most = args.ask.max_new_tokens.map(std::num::NonZero::get);
            let job = Job {
                questions: args.part(suite.questions()),
                prompt: &|question| match template {
                    Some(template) => template.prompt(question),
                    None => question.text.clone(),
                },
                picture: &|picture: &PictureRef| pictures.read(picture),
                clean: &|text| benchmark.clean(template.unwrap_or_default(), text),
                options: Options {
                    max_new_tokens: most.unwrap_or(benchmark.max_new_tokens()),
                    more: more.iter().cloned().collect(),
                },
                window: WINDOW,
            };
            let right = || suite.share_right(&suite.answers(&path).ok()?).ok()?;
            let mut telling = Telling::new(benchmark.to_string(), args.format, &right);
            bunny_eval::run::run(&path, &job, answerer, &mut |progress| {
                telling.show(progress);
            })?;
            let (rows, rate) = telling.rate();
            let seconds = telling.seconds();
            drop(telling);
            let mut value = match args.shard {
                Some(_) => args.part_told(suite, &path),
                None => args.scored(suite, &path)?,
            };
            value["asked"] = json!(rows);
            value["seconds"] = json!(seconds);
            value["rows_per_second"] = json!(rate);
            if args.format == Format::Text {
                println!("{rows} asked in {seconds:.1} s, {rate:.2} a second");
            }
            told.push(value);
        }
        if args.format == Format::Json {
            let model = answerer.model().name;
            println!(
                "{}",
                json!({"format_version": 1, "model": model, "benchmarks": told})
            );
        }
        Ok(())
    }
}

impl Work for Running {
    type Output = ();

    fn run<B: Backend>(self, device: B::Device, numbers: Numbers) -> Result<()> {
        let loaded = Loaded::<B>::new(&self.args.model, device, numbers)?;
        let pipeline = &loaded.pipeline;
        let mut local = Local::new(pipeline, loaded.model, self.args.ask.batch.into());
        let mut prepare = |local: &mut Local<'_, B>, benchmark: Benchmark| {
            let processor = pipeline.image_processor.clone();
            local.processor = if benchmark.pads_pictures() {
                processor
            } else {
                processor.with_aspect(Aspect::Square)
            };
        };
        self.ask_all(
            &mut local,
            &mut prepare,
            Some(loaded.template),
            loaded.options,
        )
    }
}

/// A model that is to be asked.
#[derive(Debug)]
pub struct Loaded<B: Backend> {
    /// It, with its tokenizer and image processor.
    pub pipeline: Pipeline<B>,
    /// The form of its prompts.
    pub template: Template,
    /// What answers hang on besides it and the question, by name.
    pub options: Vec<(String, String)>,
    /// What rows call it.
    pub model: Model,
}

impl<B: Backend> Loaded<B> {
    /// Loads a model.
    ///
    /// # Errors
    /// When it cannot be read, or its template asks no questions.
    pub fn new(model: &ModelArgs, device: B::Device, numbers: Numbers) -> Result<Self> {
        let _shown = Spinner::new(format!("loading {}", model.model));
        let open = model.open()?;
        let template = open.config.family.template_for(&open.tokenizer).name();
        let precision = numbers.precision::<B>(&device, open.weights.stored_format())?;
        let (weights, compute) = (precision.weights, precision.compute);
        Ok(Self {
            template: template.parse().with_context(|| {
                format!("the model's template is `{template}`, which asks no questions")
            })?,
            options: vec![
                ("backend".to_owned(), numbers.backend().to_owned()),
                ("numbers".to_owned(), format!("{weights:?}/{compute:?}")),
            ],
            model: Model {
                name: short_name(&model.model).to_owned(),
                fingerprint: of_model(model)?,
            },
            pipeline: Pipeline::from_open(open, precision, device)?,
        })
    }
}

/// Names the first picture that is not there.
///
/// # Errors
/// When there is one.
pub fn require_pictures(
    what: impl std::fmt::Display,
    questions: &[Question],
    pictures: &Pictures<'_>,
) -> Result<()> {
    let mut seen = HashSet::new();
    let mut missing = Vec::new();
    for picture in questions.iter().flat_map(|question| &question.pictures) {
        if seen.insert(&picture.place) && !pictures.has(picture)? {
            missing.push(&picture.name);
        }
    }
    if let Some(first) = missing.first() {
        bail!(
            "{what}: {} of {} pictures are not there, the first is {first}",
            missing.len(),
            seen.len()
        );
    }
    Ok(())
}

impl RunArgs {
    /// The questions that are asked here.
    fn part<'a>(&self, questions: &'a [Question]) -> &'a [Question] {
        match self.shard {
            None => questions,
            Some(shard) => &questions[shard.range(questions.len())],
        }
    }

    fn part_told(&self, suite: &Suite, path: &Path) -> Value {
        let rows = self.part(suite.questions()).len();
        if self.format == Format::Text {
            println!(
                "{}: {rows} of {} questions; `eval merge` brings parts together",
                path.display(),
                suite.questions().len()
            );
        }
        json!({
            "benchmark": suite.benchmark(),
            "questions": suite.questions().len(),
            "answered": rows,
            "shard": self.shard.map(|shard| shard.to_string()),
            "answers": path,
        })
    }

    fn scored(&self, suite: &Suite, path: &Path) -> Result<Value> {
        let answers = suite.answers(path)?;
        let report = suite.score(&answers, self.convention)?;
        let mut written: Vec<Arc<Path>> = vec![write_report(&self.out, &report)?.into()];
        if let Some(label) = self.label.label() {
            label.write(&self.out)?;
        }
        let mut padded = None;
        if report.server.is_some() && !suite.is_partial() {
            let made = submission(suite, &answers)?;
            for (name, content) in &made.files {
                let path = self
                    .out
                    .join("submission")
                    .join(suite.benchmark().name())
                    .join(name);
                bunny_base::write_atomic(&path, |file| file.write_all(content))?;
                written.push(path.into());
            }
            padded = Some(made.padded);
        }
        if self.format == Format::Text {
            print(&report);
            for path in &written {
                println!("wrote {}", path.display());
            }
        }
        let mut value = json!(report);
        value["answers"] = json!(path);
        value["written"] = written.iter().map(|path| json!(**path)).collect();
        value["padded"] = json!(padded);
        Ok(value)
    }
}
