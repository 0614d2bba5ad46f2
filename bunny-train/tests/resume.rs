//! A run that is killed and goes on ends as one that was not, to the bit.
#![recursion_limit = "256"]

mod common;

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bunny_core::checkpoint::Precision;
use bunny_train::{
    TrainError,
    run::{Job, checkpoint, metrics},
    stages::BunnyStage,
};
use burn::backend::Autodiff;
use burn_flex::Flex;
use common::{Stage, results};

type B = Autodiff<Flex>;

/// Set for a child process: the folder in which it trains.
const FOLDER: &str = "BUNNY_TRAIN_TEST_FOLDER";

/// LoRA with dropout live, shuffled, in micro-batches; a checkpoint a step, and more steps than the
/// run survives between kills: thirty for twenty of them.
fn job(folder: &Path) -> Job<BunnyStage> {
    let mut job = Stage::run("lora-accumulated").job(folder);
    job.stage.paths.adapter = None;
    job.stage.recipe.lora_dropout = 0.2;
    job.stage.recipe.training.shuffle = true;
    job.stage.recipe.training.num_train_epochs = 0.3 * f64::from(kills());
    job.stage.recipe.gradient_checkpointing = true;
    job.stage.recipe.training.save_steps = 1;
    job.stage.recipe.training.save_total_limit = 2;
    job.resume = true;
    job
}

fn run(job: &Job<BunnyStage>) -> Result<bunny_train::run::Outcome, TrainError> {
    job.run::<B>(Precision::F32, &Default::default(), &mut |_, _| {})
}

#[test]
#[ignore = "the process that the test below kills"]
fn child() {
    let folder = std::env::var_os(FOLDER).expect("only run by the test below");
    run(&job(Path::new(&folder))).unwrap();
}

/// How often the run is killed, unless that takes more than three seconds each: 20 times, or as
/// `BUNNY_TRAIN_TEST_KILLS` says.
fn kills() -> u32 {
    let given = std::env::var("BUNNY_TRAIN_TEST_KILLS").ok();
    given.and_then(|given| given.parse().ok()).unwrap_or(20)
}

#[test]
fn a_run_killed_at_random_moments_ends_as_one_that_was_not() {
    let straight = tempfile::tempdir().unwrap();
    let began = Instant::now();
    run(&job(straight.path())).unwrap();
    let whole = began.elapsed();

    let killed = tempfile::tempdir().unwrap();
    let deadline = Instant::now() + Duration::from_secs(3) * kills();
    let mut random = 0x9e37_79b9_u64;
    let mut killed_times = 0;
    let mut reached = BTreeSet::new();
    while killed_times < kills() && Instant::now() < deadline {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--ignored", "--quiet"])
            .env(FOLDER, killed.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        // Between before its first step and a few steps on.
        let share = (random >> 33) as f64 / (1u64 << 31) as f64 / 5.0;
        std::thread::sleep(whole.mul_f64(share));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        killed_times += 1;
        reached.extend(
            checkpoint::list(killed.path())
                .unwrap()
                .pop()
                .map(|(step, _)| step),
        );
    }
    assert!(
        killed_times >= 3 && reached.len() >= 2,
        "{killed_times} kills, at steps {reached:?}"
    );
    let outcome = run(&job(killed.path())).unwrap();
    assert!(outcome.is_complete());

    let ends = [straight.path(), killed.path()].map(results);
    assert_eq!(
        ends[0].keys().collect::<Vec<_>>(),
        ends[1].keys().collect::<Vec<_>>()
    );
    for (file, bytes) in &ends[0] {
        assert!(bytes == &ends[1][file], "{file} differs");
    }
    let lines = [straight.path(), killed.path()].map(|folder| {
        let lines = metrics::read(&folder.join(metrics::METRICS_FILE)).unwrap();
        lines
            .into_iter()
            .map(|line| (line.step, line.loss, line.grad_norm))
            .collect::<Vec<_>>()
    });
    assert_eq!(lines[0], lines[1]);
}

#[test]
fn a_run_goes_on_only_under_the_settings_it_began_with() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(folder.path());
    job.stage.recipe.training.max_steps = Some(2);
    // As runs had it that were written when it could not be left out.
    job.stage.recipe.mm_projector_type = Some("mlp2x_gelu".into());
    run(&job).unwrap();
    job.stage.recipe.mm_projector_type = None;
    run(&job).unwrap();
    job.stage.recipe.training.learning_rate = 1.0;
    let error = run(&job).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("learning_rate was 0.002 and is 1.0"),
        "{error}"
    );
    job.resume = false;
    assert!(matches!(run(&job), Err(TrainError::Occupied { .. })));
}
