//! What is said after the last step: how it went, and what can be done with what it left.

use std::{path::Path, time::Duration};

use anyhow::Result;
use bunny_train::{
    run::{Job, Outcome, Stage, checkpoint, metrics},
    stages::BunnyStage,
};

use crate::{duration, progress::say, shell};

/// Losses of single steps go up and down: the last one is the mean of so many.
const LAST_STEPS: usize = 10;

/// Says how a stage went that took `elapsed` now: its losses, over all that it was resumed, and the
/// evaluations.
///
/// # Errors
/// When its metrics cannot be read.
pub fn say_losses<S: Stage>(job: &Job<S>, outcome: &Outcome, elapsed: Duration) -> Result<()> {
    let lines = metrics::read(&job.folder.join(metrics::METRICS_FILE))?;
    let (Some(first), false) = (lines.first(), outcome.total == 0) else {
        return Ok(());
    };
    let last = &lines[lines.len().saturating_sub(LAST_STEPS)..];
    let mean = last.iter().map(|line| line.loss).sum::<f64>() / last.len() as f64;
    let mut text = format!(
        "{}: {} steps, done in {}; loss {:.4} at first, {mean:.4} over the last {}",
        job.stage.kind(),
        outcome.steps,
        duration::show(elapsed),
        first.loss,
        last.len(),
    );
    if let Some(loss) = lines.iter().rev().find_map(|line| line.eval_loss) {
        text += &format!("; eval_loss {loss:.4} at the end");
    }
    say(format_args!("{text}"));
    if outcome.stopped_early && outcome.steps < outcome.total {
        say(format_args!(
            "  ended before step {}: {} evaluations were no better than the best",
            outcome.total,
            outcome.best.map_or(0, |best| best.later)
        ));
    }
    if let Some(best) = outcome.best {
        let kept = checkpoint::place(&job.folder, best.step);
        let kept = match (job.stage.training().load_best_model_at_end, kept.exists()) {
            (true, true) => format!(": these weights are left, and {}", kept.display()),
            (true, false) => ": these weights are left".to_owned(),
            (false, _) => String::new(),
        };
        say(format_args!(
            "  best eval_loss {:.4} at step {}{kept}",
            best.eval_loss, best.step
        ));
    }
    Ok(())
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
