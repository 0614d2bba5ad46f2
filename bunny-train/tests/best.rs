//! The best evaluation: its weights are left, its checkpoint stays, and waiting for a better one ends.
#![recursion_limit = "256"]

mod common;

use std::{collections::BTreeMap, path::Path, sync::atomic::Ordering};

use bunny_core::checkpoint::{ModelSource, Precision};
use bunny_train::{
    TrainError,
    report::merged_card,
    run::{Job, Outcome, checkpoint, metrics},
    stages::BunnyStage,
};
use burn::backend::Autodiff;
use burn_flex::Flex;
use common::{Stage, results, training};

type B = Autodiff<Flex>;

/// Captions are learnt so fast that conversations are soon told worse than before.
fn job(folder: &Path) -> Job<BunnyStage> {
    let mut job = Stage::run("lora").job(folder);
    job.stage.paths.adapter = None;
    job.resume = true;
    let training_arguments = &mut job.stage.recipe.training;
    training_arguments.eval_data_path = Some(training().join("pretrain.json"));
    training_arguments.eval_steps = Some(1);
    training_arguments.max_steps = Some(10);
    training_arguments.num_train_epochs = 10.0;
    training_arguments.learning_rate = 2e-1;
    training_arguments.load_best_model_at_end = true;
    job
}

/// Runs it, and stops it after `last`, if that is given.
fn run(job: &Job<BunnyStage>, last: Option<u64>) -> Result<Outcome, TrainError> {
    let stop = job.stop.clone();
    job.run::<B>(Precision::F32, &Default::default(), &mut |line, _| {
        stop.store(Some(line.step) == last, Ordering::Relaxed);
    })
}

fn eval_losses(folder: &Path) -> Vec<f64> {
    let lines = metrics::read(&folder.join(metrics::METRICS_FILE)).unwrap();
    lines.iter().map(|line| line.eval_loss.unwrap()).collect()
}

/// The step with the lowest loss, from 1.
fn lowest(losses: &[f64]) -> u64 {
    let lowest = losses.iter().copied().fold(f64::INFINITY, f64::min);
    1 + losses.iter().position(|loss| *loss == lowest).unwrap() as u64
}

/// What a folder holds beside the state of a run and its other checkpoints.
fn weights(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = results(folder);
    files.retain(|name, _| name.starts_with("adapter_model") || name.starts_with("non_lora"));
    assert!(!files.is_empty());
    files
}

#[test]
fn the_weights_of_the_best_evaluation_are_left_and_its_checkpoint_stays() {
    let folder = tempfile::tempdir().unwrap();
    let outcome = run(&job(folder.path()), None).unwrap();
    let losses = eval_losses(folder.path());
    let best = lowest(&losses);
    assert!(best < 10, "it has to end worse for this test: {losses:?}");
    assert_eq!(outcome.best.unwrap().step, best);
    let kept: Vec<u64> = checkpoint::list(folder.path())
        .unwrap()
        .into_iter()
        .map(|(step, _)| step)
        .collect();
    assert_eq!(kept, [best, 10]);
    let of = |step| weights(&checkpoint::place(folder.path(), step));
    assert_eq!(weights(folder.path()), of(best));
    assert_ne!(of(best), of(10));

    // The card of what is merged says whose they are.
    let card = |folder: &Path| {
        let source = ModelSource::merged(folder);
        merged_card(&source, Path::new("merged")).unwrap()
    };
    let said = card(folder.path());
    let of_best = format!("| weights | of step {best}, whose evaluation was the best");
    assert!(said.contains(&of_best), "{said}");
    let folder = tempfile::tempdir().unwrap();
    let mut plain = job(folder.path());
    plain.stage.recipe.training.load_best_model_at_end = false;
    run(&plain, None).unwrap();
    let said = card(folder.path());
    assert!(
        said.contains("| weights | of step 10, the last |"),
        "{said}"
    );
}

#[test]
fn a_run_stops_early_after_so_many_evaluations_without_a_better_one() {
    let whole = tempfile::tempdir().unwrap();
    run(&job(whole.path()), None).unwrap();
    let losses = eval_losses(whole.path());
    let mut waited = 0;
    let mut end = 0;
    for at in 1..=losses.len() {
        let is_best = lowest(&losses[..at]) == at as u64;
        waited = if is_best { 0 } else { waited + 1 };
        end = at as u64;
        if waited == 2 {
            break;
        }
    }
    assert!(end < 10, "it has to end before its last step: {losses:?}");

    let patient = |folder: &Path| {
        let mut job = job(folder);
        job.stage.recipe.training.early_stopping_patience = Some(2);
        job
    };
    let straight = tempfile::tempdir().unwrap();
    let outcome = run(&patient(straight.path()), None).unwrap();
    assert!(outcome.stopped_early && outcome.is_complete());
    assert_eq!(outcome.steps, end);
    assert_eq!(weights(straight.path()), {
        let best = outcome.best.unwrap().step;
        weights(&checkpoint::place(straight.path(), best))
    });

    // Stopped at every step, it has the same patience.
    let stopped = tempfile::tempdir().unwrap();
    for step in 1..end {
        assert!(
            !run(&patient(stopped.path()), Some(step))
                .unwrap()
                .is_complete()
        );
    }
    assert!(run(&patient(stopped.path()), None).unwrap().is_complete());
    assert_eq!(results(stopped.path()), results(straight.path()));
    assert_eq!(eval_losses(stopped.path()), eval_losses(straight.path()));

    // Once it has ended it takes no further step, and with more patience it does.
    let again = run(&patient(stopped.path()), None).unwrap();
    assert!(again.stopped_early && again.steps == end);
    assert_eq!(results(stopped.path()), results(straight.path()));
    assert_eq!(run(&job(stopped.path()), None).unwrap().steps, 10);
}
