//! Stages on a backend: what is said before, the run, what is said after.

use anyhow::Result;
use bunny_core::checkpoint::Precision;
use bunny_train::{
    TrainError,
    recipe::StageKind,
    reduce::Reduction,
    run::{Observer, Outcome},
    stages::{ContrastiveJob, Job, LanguageJob, Start},
};
use burn::{
    backend::Autodiff,
    tensor::{DType, backend::Backend},
};

use super::{progress, report};
use crate::{
    backend::{Numbers, Work},
    progress::{say, tell},
};

/// What is done beside the run.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// Say what the stage will take, and do not run it.
    pub dry_run: bool,
    /// In a dry run, look at all records too.
    pub scan: bool,
    /// Data-parallel ranks.
    pub ranks: usize,
    /// Where their gradients are summed.
    pub reduction: Reduction,
}

/// `language`.
#[derive(Debug)]
pub struct Language<'a> {
    /// The stage.
    pub job: &'a LanguageJob,
    /// What else.
    pub how: How,
}

impl Work for Language<'_> {
    /// Whether it came to its end.
    type Output = bool;

    fn run<B: Backend>(self, device: B::Device, numbers: Numbers) -> Result<bool> {
        let job = self.job;
        if self.how.dry_run {
            return report::language(job, self.how).map(|()| true);
        }
        let precision = numbers.precision::<B>(&device, DType::F32)?;
        follow("language", &job.folder, |observer| {
            let devices = numbers.devices::<B>(&device, self.how.ranks);
            job.run_on::<Autodiff<B>>(precision, &devices, self.how.reduction, observer)
        })
    }
}

/// `contrastive`.
#[derive(Debug)]
pub struct Contrastive<'a> {
    /// The stage.
    pub job: &'a ContrastiveJob,
    /// What else.
    pub how: How,
}

impl Work for Contrastive<'_> {
    /// Whether it came to its end.
    type Output = bool;

    fn run<B: Backend>(self, device: B::Device, numbers: Numbers) -> Result<bool> {
        let job = self.job;
        if self.how.dry_run {
            return report::contrastive(job, true, self.how.scan).map(|()| true);
        }
        let precision = numbers.precision::<B>(&device, DType::F32)?;
        follow("contrastive", &job.folder, |observer| {
            job.run::<Autodiff<B>>(precision, &device, observer)
        })
    }
}

/// `pretrain` or `finetune`.
#[derive(Debug)]
pub struct Bunny<'a> {
    /// The stage.
    pub job: &'a Job,
    /// What else.
    pub how: How,
}

impl Work for Bunny<'_> {
    /// Whether it came to its end.
    type Output = bool;

    fn run<B: Backend>(self, device: B::Device, numbers: Numbers) -> Result<bool> {
        let job = self.job;
        let start = Start::open(&job.recipe, &job.places)?;
        let precision: Precision =
            numbers.precision::<B>(&device, start.open.weights.stored_type())?;
        if self.how.dry_run {
            report::plan(job, &start, precision, self.how)?;
            if self.how.scan {
                report::scan(job, &start)?;
            }
            return Ok(true);
        }
        // In pre-training it nearly always is.
        if start.has_new_projector && job.kind != StageKind::Pretrain {
            tell(format_args!(
                "{}: the projector is new, its weights drawn at random",
                job.kind
            ));
        }
        follow(job.kind.name(), &job.folder, |observer| {
            let devices = numbers.devices::<B>(&device, self.how.ranks);
            job.run_on::<Autodiff<B>>(precision, &devices, self.how.reduction, observer)
        })
    }
}

/// Runs a stage, shows its steps, and says what it has left behind. Gives whether it came to its
/// end.
fn follow(
    stage: &'static str,
    folder: &std::path::Path,
    run: impl FnOnce(Observer<'_>) -> Result<Outcome, TrainError>,
) -> Result<bool> {
    let mut progress = progress::Steps::new(stage);
    let outcome = run(&mut |line, total| progress.show(line, total))?;
    drop(progress);
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
    if outcome.is_complete() {
        say(format_args!("{}", folder.display()));
    }
    Ok(outcome.is_complete())
}
