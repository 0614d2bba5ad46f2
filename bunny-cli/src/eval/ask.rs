//! `bunny-cli ask`: a file of questions answered, without a score.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bunny_eval::picture::Pictures;
use bunny_eval::qa::{self, Form};
use bunny_eval::question::PictureRef;
use bunny_eval::run::{Answerer, Job, Options, WINDOW};
use bunny_eval::{Answers, Folder, Question, Template};
use burn::tensor::backend::Backend;
use serde_json::json;

use super::answerer::{AskArgs, Local, Server};
use super::run::{Loaded, require_pictures};
use super::telling::Telling;
use crate::Format;
use crate::args::{BackendArgs, ModelArgs};
use crate::backend::{Numbers, Work};
use crate::files::refuse_same_file;
use crate::load::BUILTIN;

/// Answers a file of questions, one line an answer.
///
/// Questions are JSON lines (`question` or `text`, and perhaps `image`, `question_id`), LLaVA's JSON,
/// a TSV or a CSV. Killed and started again, it goes on where it stood.
///
/// Example: bunny-cli ask questions.jsonl --images pictures --out answers.jsonl
#[derive(Debug, clap::Args)]
pub struct AskFileArgs {
    #[command(flatten)]
    own: OwnArgs,
    /// Where the answers go
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    backend: BackendArgs,
    /// How the result is printed; with `json` progress goes to standard error, as JSON lines
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// A file of questions, and how they are asked.
#[derive(Debug, Clone, clap::Args)]
pub struct OwnArgs {
    /// The questions
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The folder of their pictures [default: the folder of FILE]
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// The form of FILE: json, jsonl, tsv or csv [default: what its name says]
    #[arg(long, value_name = "FORM")]
    form: Option<String>,
    /// Said behind every question, on a line of its own
    #[arg(long, value_name = "TEXT")]
    instruction: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
}

impl OwnArgs {
    /// The form of the file.
    ///
    /// # Errors
    /// When its name says none.
    pub fn form(&self) -> Result<Form> {
        let found = match &self.form {
            Some(name) => name.parse().ok(),
            None => Form::of(&self.file),
        };
        found.with_context(|| {
            format!(
                "{}: its form is not known: say --form json, jsonl, tsv or csv",
                self.file.display()
            )
        })
    }

    /// The folder of the pictures.
    ///
    /// # Errors
    /// When the file is in none.
    pub fn images(&self) -> Result<PathBuf> {
        match (&self.images, self.file.parent()) {
            (Some(images), _) => Ok(images.clone()),
            (None, Some(parent)) if parent.as_os_str().is_empty() => Ok(".".into()),
            (None, Some(parent)) => Ok(parent.to_owned()),
            (None, None) => bail!("{}: no file", self.file.display()),
        }
    }
}

/// What a path ends in.
pub fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// The most tokens of an answer, unless said otherwise.
const MAX_NEW_TOKENS: usize = 128;

/// Runs the verb.
///
/// # Errors
/// When a file, a picture or the model cannot be read, there is no question, stored rows were asked otherwise, or the
/// model fails.
pub fn run(args: AskFileArgs) -> Result<()> {
    refuse_same_file([&args.out], [&args.own.file])?;
    let items = qa::read_questions(&args.own.file, args.own.form()?)?;
    if items.is_empty() {
        bail!("{}: there is no question in it", args.own.file.display());
    }
    let questions = qa::questions(&items);
    let asked = questions.len();
    Asking {
        own: &args.own,
        model: &args.model,
        questions,
        out: &args.out,
        format: args.format,
        right: &|_| None,
    }
    .run(args.backend)?;
    match args.format {
        Format::Text => println!("{}: {asked} answers", args.out.display()),
        Format::Json => println!(
            "{}",
            json!({"format_version": 1, "answers": args.out, "questions": asked})
        ),
    }
    Ok(())
}

/// Questions of one's own on their way to a model.
pub struct Asking<'a> {
    /// The file and how it is asked.
    pub own: &'a OwnArgs,
    /// The model.
    pub model: &'a ModelArgs,
    /// The questions.
    pub questions: Vec<Question>,
    /// Where answers are kept.
    pub out: &'a Path,
    /// How progress is told.
    pub format: Format,
    /// The share of right answers among some.
    pub right: &'a dyn Fn(&Answers) -> Option<f64>,
}

impl std::fmt::Debug for Asking<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asking")
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

impl Asking<'_> {
    /// Asks what is not answered yet.
    ///
    /// # Errors
    /// When a picture or the model cannot be read, stored rows were asked otherwise, or the model
    /// fails.
    pub fn run(mut self, backend: BackendArgs) -> Result<()> {
        if let Some(instruction) = &self.own.instruction {
            for question in &mut self.questions {
                question.text = format!("{}\n{instruction}", question.text);
            }
        }
        let folder = Folder::open(self.own.images()?)?;
        let file = self.own.file.display();
        require_pictures(file, &self.questions, &Pictures::new(&folder))?;
        if let Some(parent) = self.out.parent() {
            std::fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        }
        match &self.own.ask.backend_url {
            None => backend.run(self),
            Some(url) => {
                let named = Some(&*self.model.model).filter(|name| *name != BUILTIN);
                let mut server = Server::new(url, named, self.own.ask.batch.into())?;
                self.ask_all(&mut server, None, Vec::new())
            }
        }
    }

    fn ask_all(
        &self,
        answerer: &mut dyn Answerer,
        template: Option<Template>,
        more: Vec<(String, String)>,
    ) -> Result<()> {
        let folder = Folder::open(self.own.images()?)?;
        let pictures = Pictures::new(&folder);
        let most = self.own.ask.max_new_tokens.map(std::num::NonZero::get);
        let job = Job {
            questions: &self.questions,
            prompt: &|question| match template {
                Some(template) => template.prompt(question),
                None => question.text.clone(),
            },
            picture: &|picture: &PictureRef| pictures.read(picture),
            clean: &|text| text.trim().to_owned(),
            options: Options {
                max_new_tokens: most.unwrap_or(MAX_NEW_TOKENS),
                more: more.into_iter().collect(),
            },
            window: WINDOW,
        };
        let right = || {
            let answers = Answers::read(self.out, bunny_eval::answer::BrokenLines::Count);
            (self.right)(&answers.ok()?)
        };
        let mut telling = Telling::new(file_name(&self.own.file), self.format, &right);
        bunny_eval::run::run(self.out, &job, answerer, &mut |progress| {
            telling.show(progress);
        })?;
        Ok(())
    }
}

impl Work for Asking<'_> {
    type Output = ();

    fn run<B: Backend>(self, device: B::Device, numbers: Numbers) -> Result<()> {
        let loaded = Loaded::<B>::new(self.model, device, numbers)?;
        let batch = self.own.ask.batch.into();
        let mut local = Local::new(&loaded.pipeline, loaded.model, batch);
        self.ask_all(&mut local, Some(loaded.template), loaded.options)
    }
}
