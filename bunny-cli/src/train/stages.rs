//! Stages on a backend: what is said before, the run, what is said after.

use std::time::Instant;

use anyhow::{Context, Result};
use bunny_core::{checkpoint::Precision, nn::count};
use bunny_train::{
    TrainError,
    data::Texts,
    recipe::StageKind,
    reduce::Reduction,
    report::MemoryPlan,
    run::{Job, Outcome, Stage},
    stages::{BunnyStage, ContrastiveStage, LanguageStage, describe_pair},
};
use burn::{backend::Autodiff, tensor::backend::Backend};

use super::{
    needed::Needed,
    peak, progress, report,
    summary::{self, Summary},
};
use crate::{
    Format,
    args::{BackendArgs, MemoryArgs},
    backend::{Numbers, Work},
    progress::{Voice, say, say_json, tell},
};

/// What is done beside the run.
#[derive(Debug, Clone, Copy)]
pub struct RunOptions {
    /// Say what the stage will take, and do not run it.
    pub dry_run: bool,
    /// In a dry run, look at all records too.
    pub scan: bool,
    /// Data-parallel ranks.
    pub ranks: usize,
    /// Where their gradients are summed.
    pub reduction: Reduction,
    /// The peak of a device, in TFLOP/s, where another is meant than is known.
    pub peak_tflops: Option<f64>,
    /// The positions of the longest record, where it is known.
    pub longest: Option<usize>,
    /// Whether more memory may be taken than there is.
    pub memory: MemoryArgs,
    /// No stage comes after it.
    pub is_last: bool,
    /// How it is said how the stage went.
    pub format: Format,
}

/// What the command line says of a stage.
pub trait Described: Stage + Sized {
    /// Says what will learn, how long and in how much memory; `longest` are the positions of the
    /// longest record, where that was looked for.
    fn describe(
        job: &Job<Self>,
        setup: &Self::Setup,
        needed: &Needed,
        ranks: usize,
        longest: Option<usize>,
    ) -> Result<()>;

    /// Whether records can be looked at before the first step.
    const SCANS: bool = true;

    /// Looks at all records, lets `voice` say what it finds, and stops where the run would. Gives the
    /// positions of the longest, where records have different lengths.
    fn scan(_job: &Job<Self>, _setup: &Self::Setup, _voice: Voice) -> Result<Option<usize>> {
        Ok(None)
    }

    /// What makes it take less memory.
    const LESS_MEMORY: &str;

    /// What a rank takes of memory at rows of at most `longest` positions, where that is known.
    fn memory(
        job: &Job<Self>,
        setup: &Self::Setup,
        precision: Precision,
        longest: Option<usize>,
    ) -> MemoryPlan;

    /// What reading the records takes of main memory, beside what a rank takes.
    ///
    /// # Errors
    /// When they cannot be read.
    fn records(_job: &Job<Self>, _setup: &Self::Setup) -> Result<u64> {
        Ok(0)
    }

    /// What is to be known before the first step.
    fn announce(_job: &Job<Self>, _setup: &Self::Setup) {}

    /// What can be done next with what the last stage has left.
    fn say_next(_job: &Job<Self>) {}
}

impl Described for LanguageStage {
    // Of texts all is learnt.
    const SCANS: bool = false;

    const LESS_MEMORY: &str = "take a smaller per_device_train_batch_size (and more \
         gradient_accumulation_steps) or model_max_length, or gradient_checkpointing = true";

    fn describe(
        job: &Job<Self>,
        setup: &Self::Setup,
        needed: &Needed,
        ranks: usize,
        _longest: Option<usize>,
    ) -> Result<()> {
        report::language(job, setup, needed, ranks)
    }

    fn memory(
        job: &Job<Self>,
        setup: &Self::Setup,
        precision: Precision,
        _longest: Option<usize>,
    ) -> MemoryPlan {
        MemoryPlan::of_language(&setup.decoder, &job.stage.recipe, precision)
    }

    fn records(job: &Job<Self>, setup: &Self::Setup) -> Result<u64> {
        let training = job.stage.training();
        let files = std::iter::once(&training.data_path).chain(&training.eval_data_path);
        let bytes = files.map(|file| Texts::open(file)?.packing_bytes(&setup.tokenizer));
        Ok(bytes.sum::<Result<u64, TrainError>>()?)
    }
}

impl Described for ContrastiveStage {
    const LESS_MEMORY: &str = "take a smaller per_device_train_batch_size, fewer layers, or a smaller \
         image_size";

    fn describe(
        job: &Job<Self>,
        setup: &Self::Setup,
        needed: &Needed,
        _ranks: usize,
        _longest: Option<usize>,
    ) -> Result<()> {
        report::contrastive(job, setup, needed)
    }

    fn memory(
        job: &Job<Self>,
        setup: &Self::Setup,
        precision: Precision,
        _longest: Option<usize>,
    ) -> MemoryPlan {
        let recipe = &job.stage.recipe;
        let specs = describe_pair(recipe, &setup.vision, setup.tokenizer.vocab_size());
        MemoryPlan::of_pairs(&setup.vision, count(&specs), recipe, precision)
    }

    fn scan(job: &Job<Self>, setup: &Self::Setup, voice: Voice) -> Result<Option<usize>> {
        report::scan_pairs(job, setup, voice)?;
        Ok(None)
    }
}

impl Described for BunnyStage {
    const LESS_MEMORY: &str = "take a smaller per_device_train_batch_size (and more \
         gradient_accumulation_steps) or model_max_length, lora_enable = true, or a --dtype of 16 bits";

    fn describe(
        job: &Job<Self>,
        setup: &Self::Setup,
        needed: &Needed,
        ranks: usize,
        longest: Option<usize>,
    ) -> Result<()> {
        report::bunny(job, setup, needed, ranks, longest)
    }

    fn scan(job: &Job<Self>, setup: &Self::Setup, voice: Voice) -> Result<Option<usize>> {
        report::scan_records(job, setup, voice).map(Some)
    }

    fn memory(
        job: &Job<Self>,
        setup: &Self::Setup,
        precision: Precision,
        longest: Option<usize>,
    ) -> MemoryPlan {
        let mut recipe = job.stage.recipe.clone();
        if let Some(longest) = longest {
            recipe.model_max_length = recipe.model_max_length.min(longest);
        }
        MemoryPlan::new(&setup.open.config, &recipe, precision)
    }

    fn announce(job: &Job<Self>, setup: &Self::Setup) {
        // In pre-training it nearly always is.
        if setup.has_new_projector && job.stage.kind != StageKind::Pretrain {
            tell(format_args!(
                "{}: the projector is new, its weights drawn at random",
                job.stage.kind
            ));
        }
    }

    fn say_next(job: &Job<Self>) {
        summary::say_next(job);
    }
}

/// A job of whichever stage.
pub trait AnyJob {
    /// Opens what the stage starts from, looks at all its records, and lets `voice` say what it finds.
    /// Gives the positions of the longest, where that is what memory hangs on.
    fn look_at(&self, voice: Voice) -> Result<Option<usize>>;

    /// Runs it on the backend asked for, or only says what it would take. Gives whether it came to its
    /// end.
    fn run(&self, backend: BackendArgs, options: RunOptions) -> Result<bool>;
}

impl<S: Described> AnyJob for Job<S> {
    fn look_at(&self, voice: Voice) -> Result<Option<usize>> {
        if !S::SCANS {
            return Ok(None);
        }
        let setup = self.preview();
        let setup = setup.with_context(|| format!("stage {}", self.stage.kind()))?;
        S::scan(self, &setup, voice)
    }

    fn run(&self, backend: BackendArgs, options: RunOptions) -> Result<bool> {
        backend.run(OnBackend { job: self, options })
    }
}

struct OnBackend<'a, S> {
    job: &'a Job<S>,
    options: RunOptions,
}

impl<S: Described> Work for OnBackend<'_, S> {
    /// Whether it came to its end.
    type Output = bool;

    fn run<B: Backend>(self, device: B::Device, numbers: Numbers) -> Result<bool> {
        let Self { job, options } = self;
        let precision =
            |setup: &S::Setup| numbers.precision::<B>(&device, job.stage.stored_format(setup));
        let ranks = match S::SHARES_STEPS {
            true => options.ranks,
            false => 1,
        };
        let needed = |setup: &S::Setup, precision, longest| -> Result<Needed> {
            let plan = S::memory(job, setup, precision, longest);
            Ok(Needed::new(plan, numbers, ranks, S::records(job, setup)?))
        };
        if options.dry_run {
            let setup = job.preview()?;
            let longest = match options.scan && S::SCANS {
                true => S::scan(job, &setup, say)?,
                false => None,
            };
            let needed = needed(&setup, precision(&setup)?, longest)?;
            S::describe(job, &setup, &needed, options.ranks, longest)?;
            return Ok(true);
        }
        let setup = job.setup()?;
        let precision = precision(&setup)?;
        if numbers.is_in_main_memory() {
            let what = match ranks {
                1 => job.stage.kind().to_string(),
                _ => format!("{} with {ranks} ranks", job.stage.kind()),
            };
            let bytes = needed(&setup, precision, options.longest)?.total();
            options.memory.require(&what, bytes, S::LESS_MEMORY)?;
        }
        S::announce(job, &setup);
        let devices = numbers.devices::<B>(&device, options.ranks);
        let distinct = (0..devices.len())
            .filter(|at| !devices[..*at].contains(&devices[*at]))
            .count();
        let peak = options.peak_tflops;
        let peak = peak.or_else(|| peak::tflops::<B>(&device, numbers, precision));
        let peak = peak.map(|peak| peak * distinct as f64);
        let began = Instant::now();
        let mut steps = progress::Steps::new(job.stage.kind().name(), peak);
        let outcome = job.run_on::<Autodiff<B>>(
            &setup,
            precision,
            &devices,
            options.reduction,
            &mut |line, total| steps.show(line, total),
        )?;
        drop(steps);
        say_left_out(&outcome);
        if outcome.is_complete() {
            let summary = Summary::of(job, &outcome, began.elapsed())?;
            match options.format {
                Format::Json => say_json(&summary)?,
                Format::Text => summary.say(),
            }
            if options.is_last && options.format == Format::Text {
                S::say_next(job);
            }
        }
        Ok(outcome.is_complete())
    }
}

/// Says which records nothing was learnt from.
fn say_left_out(outcome: &Outcome) {
    for (split, left_out) in [
        ("", &outcome.left_out),
        ("evaluation ", &outcome.eval_left_out),
    ] {
        for (records, why) in [
            (&left_out.without_picture, "left out for their pictures"),
            (&left_out.without_answer, "cut before their first answer"),
        ] {
            if !records.is_empty() {
                tell(format_args!("{split}records {why}: {}", records.len()));
            }
        }
    }
}
