//! What is said after the last step: how it went, and what can be done with what it left.

use std::{path::Path, time::Duration};

use anyhow::Result;
use bunny_train::{
    recipe::StageKind,
    run::{Job, Outcome, Stage, checkpoint, metrics},
    stages::BunnyStage,
};
use serde::Serialize;

use crate::{duration, progress::say, shell};

/// Losses of single steps go up and down: the last one is the mean of so many.
const LAST_STEPS: usize = 10;

/// How a stage went, over all that it was resumed.
#[derive(Debug, Serialize)]
pub struct Summary {
    format_version: u32,
    stage: StageKind,
    /// Steps taken.
    steps: u64,
    /// Steps that there were to take.
    total_steps: u64,
    /// Whether evaluations that brought nothing better have ended it before its last step.
    stopped_early: bool,
    /// How long it took now.
    seconds: f64,
    /// The loss of the first step.
    first_loss: Option<f64>,
    /// The mean loss of the last `loss_steps` steps.
    loss: Option<f64>,
    loss_steps: usize,
    /// The loss of the last evaluation.
    eval_loss: Option<f64>,
    best: Option<Best>,
    /// What it has left.
    folder: String,
    /// The losses of all its steps, in the folder.
    metrics: String,
}

/// The best evaluation.
#[derive(Debug, Serialize)]
struct Best {
    step: u64,
    eval_loss: f64,
    /// Evaluations since then, none of them better.
    later: u64,
    /// Whether its weights are those in the folder.
    weights_are_left: bool,
    /// Its checkpoint, where it is kept.
    checkpoint: Option<String>,
}

impl Summary {
    /// Of a stage that took `elapsed` now.
    ///
    /// # Errors
    /// When its metrics cannot be read.
    pub fn of<S: Stage>(job: &Job<S>, outcome: &Outcome, elapsed: Duration) -> Result<Self> {
        let metrics = job.folder.join(metrics::METRICS_FILE);
        let lines = metrics::read(&metrics)?;
        let last = &lines[lines.len().saturating_sub(LAST_STEPS)..];
        let sum = last.iter().map(|line| line.loss).sum::<f64>();
        let best = outcome.best.map(|best| {
            let kept = checkpoint::place(&job.folder, best.step);
            Best {
                step: best.step,
                eval_loss: best.eval_loss,
                later: best.later,
                weights_are_left: job.stage.training().load_best_model_at_end,
                checkpoint: kept.exists().then(|| kept.display().to_string()),
            }
        });
        Ok(Self {
            format_version: 1,
            stage: job.stage.kind(),
            steps: outcome.steps,
            total_steps: outcome.total,
            stopped_early: outcome.stopped_early && outcome.steps < outcome.total,
            seconds: elapsed.as_secs_f64(),
            first_loss: lines.first().map(|line| line.loss),
            loss: (!last.is_empty()).then(|| sum / last.len() as f64),
            loss_steps: last.len(),
            eval_loss: lines.iter().rev().find_map(|line| line.eval_loss),
            best,
            folder: job.folder.display().to_string(),
            metrics: metrics.display().to_string(),
        })
    }

    /// Says it to people.
    pub fn say(&self) {
        if let (Some(first), Some(loss), 1..) = (self.first_loss, self.loss, self.total_steps) {
            let mut text = format!(
                "{}: {} steps, done in {}; loss {first:.4} at first, {loss:.4} over the last {}",
                self.stage,
                self.steps,
                duration::show(Duration::from_secs_f64(self.seconds)),
                self.loss_steps,
            );
            if let Some(loss) = self.eval_loss {
                text += &format!("; eval_loss {loss:.4} at the end");
            }
            say(format_args!("{text}"));
            self.say_best();
        }
        say(format_args!("{}", self.folder));
    }

    fn say_best(&self) {
        if self.stopped_early {
            say(format_args!(
                "  ended before step {}: {} evaluations were no better than the best",
                self.total_steps,
                self.best.as_ref().map_or(0, |best| best.later)
            ));
        }
        let Some(best) = &self.best else {
            return;
        };
        let left = match (best.weights_are_left, &best.checkpoint) {
            (true, Some(kept)) => format!(": these weights are left, and {kept}"),
            (true, None) => ": these weights are left".to_owned(),
            (false, _) => String::new(),
        };
        say(format_args!(
            "  best eval_loss {:.4} at step {}{left}",
            best.eval_loss, best.step
        ));
    }
}

/// Says the commands that come next: to talk, to examine, to merge. A run's folder says itself where
/// its other parts are.
pub fn say_next(job: &Job<BunnyStage>) {
    let path = |path: &Path| shell::word(&path.to_string_lossy());
    let model = path(&job.folder);
    say(format_args!(
        "\nto talk with it     bunny-cli chat --model {model}"
    ));
    let training = job.stage.training();
    let records = training.eval_data_path.as_ref();
    let records = records.unwrap_or(&training.data_path);
    // One list of conversations, which questions are read from as they stand.
    if records.extension().is_none_or(|ending| ending != "json") {
        say(format_args!(
            "to examine it       write questions for `bunny-cli eval qa`: of records it takes one list in \
             .json, and not {}",
            path(records)
        ));
    } else {
        let pictures = job.stage.recipe.image_folder.as_deref();
        let pictures = pictures.map(|folder| format!(" --images {}", path(folder)));
        say(format_args!(
            "to examine it       bunny-cli eval qa {}{} --model {model} --out {}",
            path(records),
            pictures.unwrap_or_default(),
            path(&job.folder.join("answers.jsonl")),
        ));
    }
    say(format_args!(
        "to make one model   bunny-cli merge --model {model} --out {}",
        path(&job.folder.with_file_name("merged"))
    ));
    say(format_args!(
        "to see its curves   bunny-cli train plot {model}"
    ));
}
