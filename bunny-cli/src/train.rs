//! `bunny-cli train`: the stages of a recipe, one after another.

mod inspect;
mod progress;
mod report;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result, bail};
use bunny_train::{
    metrics, plot,
    recipe::{Override, Recipe, StageKind, StageRecipe},
    start::{Places, Start},
    trainer::Job,
};
use burn::{backend::Autodiff, tensor::backend::Backend};
use clap::{Subcommand, ValueEnum};

use crate::{
    backend::{BackendArgs, Numbers, Work},
    load,
};

/// Trains a model: the projector on captions, then the language model on conversations.
///
/// Without RECIPE it takes ./bunny.toml, else the recipe of bunny-phi-2-siglip over data/.
///
/// Example: bunny-cli train recipes/tiny.toml --out runs/tiny
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment, args_conflicts_with_subcommands = true)]
pub struct TrainArgs {
    #[command(subcommand)]
    verb: Option<TrainVerb>,
    #[command(flatten)]
    run: RunArgs,
}

/// What else can be done with recipes and runs.
#[derive(Debug, Subcommand)]
enum TrainVerb {
    /// Shows records as the model sees them: the prompt, the picture, and what is learnt
    Inspect(inspect::InspectArgs),
    /// Draws a run's curves as SVG
    Plot {
        /// The folder of a stage, with metrics.jsonl in it
        run: PathBuf,
        /// Where the drawing goes; curves.svg in the run's folder unless given
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

/// How a recipe is run.
#[derive(Debug, clap::Args)]
struct RunArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    backend: BackendArgs,
    /// Only this stage
    #[arg(long, value_enum)]
    stage: Option<StageName>,
    /// Where each stage's folder goes; runs/NAME unless given
    #[arg(long)]
    out: Option<PathBuf>,
    /// Go on where a run in the same folder stopped
    #[arg(long)]
    resume: bool,
    /// Say what will learn, the memory and the steps, look at all records, and end
    #[arg(long)]
    dry_run: bool,
    /// Do not look at all records before the first step
    #[arg(long)]
    no_scan: bool,
}

/// Which recipe.
#[derive(Debug, clap::Args)]
struct RecipeArgs {
    /// The recipe's file
    recipe: Option<PathBuf>,
    /// A value in the place of the recipe's, as in finetune.learning_rate=1e-4; for both stages
    /// without the stage's name
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<Override>,
}

/// A stage by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StageName {
    /// The projector learns.
    Pretrain,
    /// The language model learns.
    Finetune,
}

impl StageName {
    fn kind(self) -> StageKind {
        match self {
            Self::Pretrain => StageKind::Pretrain,
            Self::Finetune => StageKind::Finetune,
        }
    }
}

impl RecipeArgs {
    fn read(&self) -> Result<Recipe> {
        let own = Path::new("bunny.toml");
        let recipe = match &self.recipe {
            Some(file) => Recipe::read(file, &self.overrides)?,
            None if own.exists() => Recipe::read(own, &self.overrides)?,
            None => Recipe::built_in(&self.overrides)?,
        };
        Ok(recipe)
    }
}

/// Runs the verb.
///
/// # Errors
/// When something is missing or contradictory, or training fails.
pub fn run(args: TrainArgs) -> Result<()> {
    match args.verb {
        Some(TrainVerb::Inspect(args)) => inspect::run(args),
        Some(TrainVerb::Plot { run, out }) => {
            let steps = metrics::read(&run.join(metrics::METRICS_FILE))?;
            let out = out.unwrap_or_else(|| run.join("curves.svg"));
            std::fs::write(&out, plot::svg(&steps))
                .with_context(|| format!("{}: cannot write", out.display()))?;
            println!("{}", out.display());
            Ok(())
        }
        None => train(args.run),
    }
}

fn train(args: RunArgs) -> Result<()> {
    let recipe = args.recipe.read()?;
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| Path::new("runs").join(&recipe.name));
    let wanted = args.stage.map(StageName::kind);
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    ctrlc::set_handler(move || {
        // The second time, at once.
        if told.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("stopping after this step; once more to stop at once");
    })?;
    let stages: Vec<_> = recipe
        .stages
        .into_iter()
        .filter(|(kind, _)| wanted.is_none_or(|wanted| wanted == *kind))
        .collect();
    if let (true, Some(wanted)) = (stages.is_empty(), wanted) {
        bail!("{}: it has no stage {wanted}", recipe.origin.display());
    }
    for (kind, stage) in stages {
        let job = Job {
            kind,
            places: places(kind, &stage, &out, args.dry_run)?,
            recipe: stage,
            folder: out.join(kind.name()),
            resume: args.resume,
            stop: stop.clone(),
        };
        args.backend.run(Stage {
            job: &job,
            dry_run: args.dry_run,
            scan: !args.no_scan,
        })?;
        if stop.load(Ordering::Relaxed) {
            bail!("stopped before the end: go on with --resume");
        }
    }
    Ok(())
}

/// The folders a stage's names stand for, after downloading what is not here.
fn places(kind: StageKind, recipe: &StageRecipe, out: &Path, dry_run: bool) -> Result<Places> {
    for (key, path) in [
        ("data_path", Some(&recipe.data_path)),
        ("image_folder", recipe.image_folder.as_ref()),
    ] {
        let Some(path) = path else { continue };
        // A range of shards is looked up by the data crate.
        let is_pattern = path.to_string_lossy().contains(['{', '*']);
        if !path.exists() && !is_pattern {
            bail!("{kind}.{key}: there is no {}", path.display());
        }
    }
    let before = out.join(StageKind::Pretrain.name());
    let projector = match &recipe.pretrain_mm_mlp_adapter {
        Some(path) => Some(PathBuf::from(path)),
        None if kind == StageKind::Finetune && before.join("config.json").exists() => Some(before),
        None => None,
    };
    if let Some(projector) = projector.as_ref().filter(|path| !dry_run && !path.exists()) {
        bail!(
            "{kind}.pretrain_mm_mlp_adapter: there is no {}",
            projector.display()
        );
    }
    let tower = recipe.vision_tower.as_deref();
    Ok(Places {
        model: load::model_folder(&recipe.model_name_or_path)
            .with_context(|| format!("{kind}.model_name_or_path"))?,
        vision_tower: tower
            .map(|tower| load::tower_folder(tower).with_context(|| format!("{kind}.vision_tower")))
            .transpose()?,
        projector,
        adapter: recipe.init_adapter.as_ref().map(PathBuf::from),
    })
}

/// One stage on a backend.
struct Stage<'a> {
    job: &'a Job,
    dry_run: bool,
    scan: bool,
}

impl Work for Stage<'_> {
    type Output = ();

    fn run<B: Backend>(self, device: B::Device, numbers: Numbers) -> Result<()> {
        let job = self.job;
        let start = Start::open(&job.recipe, &job.places)?;
        let precision = numbers.precision::<B>(&device, start.open.weights.stored_type())?;
        if self.dry_run {
            report::plan(job, &start, precision)?;
        }
        if self.dry_run || self.scan {
            report::scan(job, &start)?;
        }
        if self.dry_run {
            return Ok(());
        }
        let mut progress = progress::Steps::new(job.kind.name());
        let outcome = job.run::<Autodiff<B>>(precision, &device, &mut |line, total| {
            progress.show(line, total);
        })?;
        drop(progress);
        if outcome.skipped > 0 {
            eprintln!(
                "{} records were left out for their pictures",
                outcome.skipped
            );
        }
        if outcome.is_complete() {
            println!("{}", job.folder.display());
        }
        Ok(())
    }
}
