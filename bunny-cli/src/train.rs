//! `bunny-cli train`: the stages of a recipe, one after another.

mod inspect;
mod needed;
mod peak;
mod plot;
mod progress;
mod report;
mod stages;
mod summary;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result, bail};
use bunny_core::checkpoint::Wanted;
use bunny_train::{
    recipe::{BunnyRecipe, Override, Recipe, StageKind, StageRecipe},
    reduce::Reduction,
    run::{Job, checkpoint},
    stages::{BunnyStage, ContrastiveStage, LanguageStage, ModelPaths, PROJECTOR_WEIGHTS},
};
use clap::{Subcommand, ValueEnum};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stages::{AnyJob, RunOptions};

use crate::{
    Format,
    args::{BackendArgs, MemoryArgs},
    keys, load,
    progress::{Voice, say, tell},
    recipe::{self, Kind},
    shell, signals,
};

/// Trains a model: the projector on captions, then the language model on conversations.
///
/// A recipe may also make the parts from nothing, before: a tokenizer and a language model from
/// texts, a vision tower from pictures and captions.
///
/// Without RECIPE it takes ./bunny.toml, else the recipe of bunny-phi-2-siglip over data/.
///
/// Example: bunny-cli train recipes/tiny.toml --out runs/tiny
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct TrainArgs {
    #[command(subcommand)]
    verb: Option<TrainVerb>,
    #[command(flatten)]
    run: RunArgs,
}

/// What else can be done with recipes and runs.
#[derive(Debug, Subcommand)]
enum TrainVerb {
    Inspect(inspect::InspectArgs),
    /// Lists the keys of a recipe: type, what it is unless given, and what it does.
    ///
    /// Example: bunny-cli train keys --format markdown
    Keys(keys::KeysArgs),
    Plot(plot::PlotArgs),
}

/// How a recipe is run.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
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
    /// Data-parallel ranks: each takes per_device_train_batch_size records of a step. On CUDA every
    /// rank takes the next device; on a CPU they divide its cores, and two on two cores train small
    /// models fastest. Stage contrastive, which compares all pairs of a batch, has one
    #[arg(long, default_value = "1", value_name = "N")]
    ranks: std::num::NonZeroUsize,
    /// Where the gradients of several ranks are summed
    #[arg(long, value_enum, default_value = "memory", value_name = "WHERE")]
    reduce: ReduceName,
    /// A device's dense peak in the type of the activations, in TFLOP/s, of which the utilisation (MFU) is
    /// a share [default: of known NVIDIA GPUs as their data sheets say, of a processor as it is measured]
    #[arg(long)]
    peak_tflops: Option<f64>,
    /// Do not look at all records before the first step
    #[arg(long)]
    no_scan: bool,
    /// How it is said how the stages went: json writes one line for each that ends, and what else is
    /// said goes to standard error
    #[arg(long, value_enum, default_value_t = Format::Text, conflicts_with = "dry_run")]
    format: Format,
    #[command(flatten)]
    memory: MemoryArgs,
}

/// Which recipe.
#[derive(Debug, clap::Args)]
struct RecipeArgs {
    /// The recipe: a file, or a name of `bunny-cli recipe list`
    recipe: Option<PathBuf>,
    #[arg(long = "recipe", hide = true, value_parser = without_flag)]
    _recipe: Option<String>,
    /// A value in the place of the recipe's, as in finetune.learning_rate=1e-4; for all stages
    /// without the stage's name
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<Override>,
}

/// Other tools have a flag for it.
fn without_flag(file: &str) -> Result<String, String> {
    Err(format!(
        "the recipe goes without a flag: bunny-cli train {}",
        shell::word(file)
    ))
}

/// A [`Reduction`] by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReduceName {
    /// On the device that the ranks share, or else in main memory, in the order of the ranks.
    Memory,
    /// On the CUDA devices, by NVIDIA's NCCL, which has to be installed.
    Nccl,
}

/// A stage by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StageName {
    /// A tokenizer and a language model are made.
    Language,
    /// A vision tower is made.
    Contrastive,
    /// The projector learns.
    Pretrain,
    /// The language model learns.
    Finetune,
}

impl StageName {
    fn kind(self) -> StageKind {
        match self {
            Self::Language => StageKind::Language,
            Self::Contrastive => StageKind::Contrastive,
            Self::Pretrain => StageKind::Pretrain,
            Self::Finetune => StageKind::Finetune,
        }
    }
}

impl RecipeArgs {
    fn read(&self) -> Result<Recipe> {
        let own = Path::new("bunny.toml");
        let recipe = match &self.recipe {
            Some(file) if file.exists() => Recipe::read(file, &self.overrides)?,
            Some(name) => match recipe::named(name, Kind::Training) {
                Some(carried) => Recipe::parse(name, carried.text, &self.overrides)?,
                // The error is of the file.
                None => Recipe::read(name, &self.overrides)?,
            },
            None if own.exists() => Recipe::read(own, &self.overrides)?,
            None => Recipe::built_in(&self.overrides)?,
        };
        Ok(recipe)
    }
}

impl RunArgs {
    /// The stages of a recipe in `out`, gone on with where they were; `pretrain` learns from records and
    /// pictures that need not be there yet.
    ///
    /// # Errors
    /// When the recipe cannot be followed, or names what is not here.
    pub fn of_data(
        recipe: PathBuf,
        stage: Option<StageName>,
        set: &[String],
        [records, pictures]: [&Path; 2],
        out: &Path,
        backend: BackendArgs,
        memory: MemoryArgs,
    ) -> Result<Self> {
        let mut overrides: Vec<Override> = set
            .iter()
            .map(|set| set.parse())
            .collect::<Result<_, _>>()?;
        for (key, path) in [("data_path", records), ("image_folder", pictures)] {
            let Some(text) = path.to_str() else {
                bail!("{}: its name is no text", path.display());
            };
            overrides.push(Override::text(StageKind::Pretrain, key, text));
        }
        let run = Self {
            recipe: RecipeArgs {
                recipe: Some(recipe),
                _recipe: None,
                overrides,
            },
            backend,
            stage,
            out: Some(out.to_owned()),
            resume: true,
            dry_run: false,
            ranks: std::num::NonZeroUsize::MIN,
            reduce: ReduceName::Memory,
            peak_tflops: None,
            no_scan: false,
            format: Format::Text,
            memory,
        };
        let read = run.recipe.read()?;
        let stages = wanted(read.stages, stage, &read.origin)?;
        require_data(&read.origin, &stages, Some(records))?;
        Ok(run)
    }

    /// Trains.
    ///
    /// # Errors
    /// When something is missing or contradictory, or training fails.
    pub fn run(self) -> Result<()> {
        train(self)
    }
}

/// Runs the verb.
///
/// # Errors
/// When something is missing or contradictory, or training fails.
pub fn run(args: TrainArgs) -> Result<()> {
    match args.verb {
        Some(TrainVerb::Inspect(args)) => inspect::run(args),
        Some(TrainVerb::Keys(args)) => keys::print(
            &args,
            "the keys of a training recipe",
            bunny_train::recipe::schema(),
        ),
        Some(TrainVerb::Plot(args)) => plot::run(args),
        None => train(args.run),
    }
}

fn train(args: RunArgs) -> Result<()> {
    if args.dry_run {
        signals::end_with_the_reader();
    }
    keep_freed_memory();
    let backend = args.backend.without_cache()?;
    let recipe = args.recipe.read()?;
    let out = args.out.clone().unwrap_or_else(|| recipe.folder());
    let recipe = recipe.with_results_in(&out);
    let origin = recipe.origin;
    let stages = wanted(recipe.stages, args.stage, &origin)?;
    require_data(&origin, &stages, None)?;
    let stop = Arc::new(AtomicBool::new(false));
    let jobs = Jobs {
        out: &out,
        resume: args.resume,
        stop: stop.clone(),
    };
    let voice: Voice = match args.format {
        Format::Text => say,
        Format::Json => tell,
    };
    let mut looked_at = Vec::new();
    if !args.dry_run {
        for (kind, _) in &stages {
            checkpoint::last(&out.join(kind.name()), args.resume)?;
        }
        // What would stop a later stage is told before the first one starts.
        for (kind, stage) in &stages {
            let ready = !args.no_scan && missing_source(stage, &out).is_none();
            let longest = match ready {
                true => jobs.rehearsal(*kind, stage)?.look_at(voice)?,
                false => None,
            };
            looked_at.push((ready || args.no_scan).then_some(longest));
        }
    }
    if !args.dry_run {
        stop_cleanly(stop)?;
    }
    let options = RunOptions {
        dry_run: args.dry_run,
        scan: !args.no_scan,
        ranks: args.ranks.into(),
        reduction: match args.reduce {
            ReduceName::Memory => Reduction::Memory,
            ReduceName::Nccl => Reduction::Nccl,
        },
        peak_tflops: args.peak_tflops,
        longest: None,
        memory: args.memory,
        is_last: true,
        format: args.format,
    };
    for (at, (kind, stage)) in stages.iter().enumerate() {
        // A stage can be looked at before its projector is made, and not run.
        let projector = match stage {
            StageRecipe::Bunny(stage) if !args.dry_run => missing_projector(stage, &out),
            _ => None,
        };
        if let Some(source) = missing_source(stage, &out).or(projector) {
            let source = source.display();
            if !args.dry_run {
                bail!("{kind} starts from {source}, which is yet to be made by an earlier stage");
            }
            println!("{kind}\n  starts from {source}, which is yet to be made");
            continue;
        }
        let longest = match looked_at.get(at) {
            Some(None) => jobs.rehearsal(*kind, stage)?.look_at(voice)?,
            Some(Some(longest)) => *longest,
            None => None,
        };
        let job = match args.dry_run {
            true => jobs.rehearsal(*kind, stage)?,
            false => jobs.job(*kind, stage)?,
        };
        let options = RunOptions {
            longest,
            is_last: at + 1 == stages.len(),
            ..options
        };
        let is_complete = job.run(backend, options)?;
        if !is_complete {
            bail!("stopped before the end: go on with --resume");
        }
    }
    Ok(())
}

/// Has the run end with a checkpoint when it is told to end: by Ctrl-C, or by whoever started it.
fn stop_cleanly(stop: Arc<AtomicBool>) -> Result<()> {
    ctrlc::set_handler(move || {
        // The second time, at once.
        if stop.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        tell(format_args!(
            "stopping, with a checkpoint; once more to stop at once"
        ));
    })?;
    Ok(())
}

/// Every step takes and frees the same buffers: they stay with the program. As it is, glibc gives
/// large ones back at once and takes new pages, which the system has to empty, for all threads in
/// turn; pictures on their way to a GPU take longest by that.
fn keep_freed_memory() {
    // SAFETY: both calls set a number of the allocator.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20); // the most that it takes
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

/// What a stage's records are read with that an earlier one has yet to make in `out`.
fn missing_source<'a>(stage: &'a StageRecipe, out: &Path) -> Option<&'a Path> {
    let sources: Vec<&Path> = match stage {
        StageRecipe::Language(_) => Vec::new(),
        StageRecipe::Contrastive(stage) => stage.tokenizer.iter().map(AsRef::as_ref).collect(),
        StageRecipe::Bunny(stage) => [Some(&stage.model_name_or_path), stage.vision_tower.as_ref()]
            .into_iter()
            .flatten()
            .map(Path::new)
            .collect(),
    };
    let mut sources = sources.into_iter();
    sources.find(|path| is_yet_to_be_made(path, out))
}

/// The projector that a stage starts from, if an earlier one has yet to make it in `out`.
fn missing_projector<'a>(stage: &'a BunnyRecipe, out: &Path) -> Option<&'a Path> {
    let projector = stage.pretrain_mm_mlp_adapter.as_deref().map(Path::new);
    projector.filter(|path| is_yet_to_be_made(path, out))
}

/// A stage makes its folder when it starts, and writes its description with the results.
fn is_yet_to_be_made(path: &Path, out: &Path) -> bool {
    path.starts_with(out) && !path.is_file() && !path.join("config.json").exists()
}

/// The stages that are run: all, or one.
fn wanted(
    mut stages: Vec<(StageKind, StageRecipe)>,
    only: Option<StageName>,
    origin: &Path,
) -> Result<Vec<(StageKind, StageRecipe)>> {
    if let Some(only) = only.map(StageName::kind) {
        stages.retain(|(kind, _)| *kind == only);
        if stages.is_empty() {
            bail!("{}: it has no stage {only}", origin.display());
        }
    }
    Ok(stages)
}

/// Refuses stages that name files or folders that are not here, but for what is `yet` to be made.
fn require_data(
    origin: &Path,
    stages: &[(StageKind, StageRecipe)],
    yet: Option<&Path>,
) -> Result<()> {
    let missing = stages.iter().flat_map(|stage| missing_data(stage, yet));
    let missing: Vec<String> = missing.collect();
    if !missing.is_empty() {
        bail!(
            "{}: what it names is not here: {}",
            origin.display(),
            missing.join(", ")
        );
    }
    Ok(())
}

/// The files and folders that a stage names and that are not here, each behind its key.
fn missing_data((kind, stage): &(StageKind, StageRecipe), yet: Option<&Path>) -> Vec<String> {
    let training = stage.training();
    let mut named = vec![
        ("data_path", Some(&*training.data_path)),
        ("eval_data_path", training.eval_data_path.as_deref()),
        ("image_folder", stage.image_folder()),
    ];
    if let StageRecipe::Bunny(stage) = stage {
        let adapter = stage.init_adapter.as_deref().map(Path::new);
        named.push(("init_adapter", adapter));
    }
    // A range of shards is looked up by the data crate.
    let is_pattern = |path: &Path| path.to_string_lossy().contains(['{', '*']);
    named
        .into_iter()
        .filter_map(|(key, path)| Some((key, path?)))
        .filter(|(_, path)| !path.exists() && !is_pattern(path) && Some(*path) != yet)
        .map(|(key, path)| format!("{kind}.{key} = {}", path.display()))
        .collect()
}

/// Stages as they are run from here.
struct Jobs<'a> {
    /// Each stage has a folder of its name in it.
    out: &'a Path,
    resume: bool,
    stop: Arc<AtomicBool>,
}

impl Jobs<'_> {
    fn job(&self, kind: StageKind, stage: &StageRecipe) -> Result<Box<dyn AnyJob>> {
        Ok(match stage.clone() {
            StageRecipe::Language(recipe) => self.of(kind, LanguageStage { recipe }),
            StageRecipe::Contrastive(recipe) => self.of(kind, ContrastiveStage { recipe }),
            StageRecipe::Bunny(recipe) => {
                let paths = paths(kind, &recipe, self.out)?;
                let stage = BunnyStage {
                    kind,
                    recipe,
                    paths,
                };
                self.of(kind, stage)
            }
        })
    }

    fn of<S>(&self, kind: StageKind, stage: S) -> Box<dyn AnyJob>
    where
        Job<S>: AnyJob + 'static,
    {
        Box::new(Job {
            stage,
            folder: self.out.join(kind.name()),
            resume: self.resume,
            stop: self.stop.clone(),
        })
    }

    /// The stage as it is looked at before it runs: its records do not depend on the projector, and
    /// any will do for one that is yet to be made.
    fn rehearsal(&self, kind: StageKind, stage: &StageRecipe) -> Result<Box<dyn AnyJob>> {
        match stage {
            StageRecipe::Bunny(recipe) if missing_projector(recipe, self.out).is_some() => {
                let stage = StageRecipe::Bunny(BunnyRecipe {
                    pretrain_mm_mlp_adapter: None,
                    freeze_mm_mlp_adapter: false,
                    ..recipe.clone()
                });
                self.job(kind, &stage)
            }
            stage => self.job(kind, stage),
        }
    }
}

/// The folders a stage's names stand for, after downloading what is not here.
fn paths(kind: StageKind, recipe: &BunnyRecipe, out: &Path) -> Result<ModelPaths> {
    // A pre-training by another recipe serves as well as one by this.
    let before = out.join(StageKind::Pretrain.name());
    let is_made = || before.join(PROJECTOR_WEIGHTS).exists();
    let projector = match &recipe.pretrain_mm_mlp_adapter {
        Some(path) => Some(PathBuf::from(path)),
        None if kind == StageKind::Finetune && is_made() => Some(before),
        None => None,
    };
    if let Some(projector) = projector.as_ref().filter(|path| !path.exists()) {
        bail!(
            "{kind}.pretrain_mm_mlp_adapter: there is no {}",
            projector.display()
        );
    }
    let tower = recipe.vision_tower.as_deref();
    Ok(ModelPaths {
        model: load::folder(&recipe.model_name_or_path, Wanted::Model)
            .with_context(|| format!("{kind}.model_name_or_path"))?,
        vision_tower: tower
            .map(|tower| {
                load::folder(tower, Wanted::VisionTower)
                    .with_context(|| format!("{kind}.vision_tower"))
            })
            .transpose()?,
        projector,
        adapter: recipe.init_adapter.as_ref().map(PathBuf::from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_a_stage_that_was_stopped_is_yet_to_be_made() {
        let out = tempfile::tempdir().unwrap();
        let tower = out.path().join("contrastive");
        let stage = StageRecipe::Bunny(BunnyRecipe {
            vision_tower: Some(tower.display().to_string()),
            ..BunnyRecipe::default()
        });
        assert_eq!(missing_source(&stage, out.path()), Some(&*tower));
        std::fs::create_dir(&tower).unwrap();
        std::fs::write(tower.join("metrics.jsonl"), "").unwrap();
        assert_eq!(missing_source(&stage, out.path()), Some(&*tower));
        std::fs::write(tower.join("config.json"), "{}").unwrap();
        assert_eq!(missing_source(&stage, out.path()), None);
    }
}
