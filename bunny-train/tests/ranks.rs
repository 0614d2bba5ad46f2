//! Data parallel ranks against one rank that accumulates.
#![recursion_limit = "256"]

mod common;

use bunny_core::checkpoint::Precision;
use bunny_train::{TrainError, reduce::Reduction};
use burn::backend::Autodiff;
use burn_flex::Flex;
use common::{Stage, run_on_ranks};

type B = Autodiff<Flex>;

const RESULTS: [&str; 2] = [
    "adapter_model.safetensors",
    "non_lora_trainables.safetensors",
];

#[test]
fn two_ranks_learn_what_one_with_twice_the_accumulation_learns() {
    for average in ["lora-accumulated", "lora-accumulated-tokens"] {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let results = [1, 2].map(|ranks| {
            let folder = folders[ranks - 1].path();
            let mut job = Stage::run(average).job(folder);
            // With dropout on: draws do not depend on the ranks either.
            job.stage.recipe.lora_dropout = 0.1;
            run_on_ranks::<B>(job, ranks);
            RESULTS.map(|file| std::fs::read(folder.join(file)).unwrap())
        });
        // The sum over two micro-batches has two terms in either case: equal to the bit.
        assert!(results[0] == results[1], "{average}");
    }
}

#[test]
fn a_rank_that_fails_stops_the_others_and_its_error_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = Stage::run("lora").job(folder.path());
    // There are no pictures in it.
    job.stage.recipe.image_folder = Some(folder.path().to_path_buf());
    let error = job
        .run_on::<B>(
            &job.setup().unwrap(),
            Precision::F32,
            &[Default::default(), Default::default()],
            Reduction::Memory,
            &mut |_, _| {},
        )
        .unwrap_err();
    assert!(matches!(error, TrainError::Picture { .. }), "{error}");
}
