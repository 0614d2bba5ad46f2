//! What training reads beside records: recipes, mixes, and what a run has left.

use std::{fs, path::Path};

use bunny_core::checkpoint::Precision;
use bunny_data::mix::MixRecipe;
use bunny_train::{
    TrainError,
    recipe::{BunnyRecipe, Recipe, StageKind, TrainingArguments},
    run::{Job, metrics},
    stages::{BunnyStage, ModelPaths},
};
use burn::backend::Autodiff;
use burn_flex::Flex;

use crate::{
    damage::Seed,
    driver::{Allowed, copy_folder, files_below, folder, fuzz, root, write_anew},
};

const ALLOWED: Allowed = Allowed {
    fixed: 4 << 20,
    per_byte: 400,
};

fn tables(folder: &str) -> Vec<Seed> {
    let files = files_below(&root().join(folder)).into_iter();
    let tables = files.filter(|file| file.extension().is_some_and(|ending| ending == "toml"));
    let seeds: Vec<Seed> = tables.map(|file| fs::read(file).unwrap().into()).collect();
    assert!(seeds.len() > 3);
    seeds
}

#[test]
fn recipes() {
    let folder = folder();
    let file = folder.path().join("recipe.toml");
    fuzz("recipes", ALLOWED, &tables("recipes"), |_, damaged| {
        write_anew(&file, damaged);
        Recipe::read(&file, &[])
            .map(drop)
            .map_err(|error| error.to_string())
    });
}

#[test]
fn mixes() {
    let folder = folder();
    let file = folder.path().join("mix.toml");
    fuzz("mixes", ALLOWED, &tables("recipes/mixes"), |_, damaged| {
        write_anew(&file, damaged);
        MixRecipe::read(&file)
            .map(drop)
            .map_err(|error| error.to_string())
    });
}

#[test]
fn metrics_of_a_run() {
    let line = |step: u64| {
        format!(
            "{{\"stage\":\"pretrain\",\"step\":{step},\"epoch\":0.5,\"loss\":2.25,\"learning_rate\":0.001,\
             \"projector_learning_rate\":0.001,\"grad_norm\":1.5,\"tokens\":100,\"answer_tokens\":40,\
             \"samples_per_second\":10.0,\"tokens_per_second\":1000.0,\"data_wait\":0.001,\"seconds\":0.1}}\n"
        )
    };
    let lines: String = (1..=20).map(line).collect();
    let folder = folder();
    let file = folder.path().join("metrics.jsonl");
    fuzz(
        "metrics",
        ALLOWED,
        &[lines.into_bytes().into()],
        |_, damaged| {
            write_anew(&file, damaged);
            let steps = metrics::read(&file).map_err(|error| error.to_string())?;
            bunny_train::report::plot::svg(&steps);
            Ok(())
        },
    );
}

/// Two steps of the projector on the tests' own records, from where `folder` has got to.
fn train(folder: &Path, max_steps: u64) -> Result<(), TrainError> {
    let (models, data) = (
        root().join("tests/fixtures/models"),
        root().join("tests/fixtures/training"),
    );
    let base = models.join("phi-siglip-lora");
    let recipe = BunnyRecipe {
        model_name_or_path: base.join("base").display().to_string(),
        vision_tower: Some(base.join("siglip-tower").display().to_string()),
        image_folder: Some(data.join("pictures")),
        tune_mm_mlp_adapter: Some(true),
        gradient_checkpointing: false,
        training: TrainingArguments {
            data_path: data.join("pretrain.json"),
            per_device_train_batch_size: 2,
            max_steps: Some(2),
            save_steps: 1,
            dataloader_num_workers: 1,
            ..TrainingArguments::default()
        },
        ..BunnyRecipe::default()
    };
    let stage = BunnyStage {
        kind: StageKind::Pretrain,
        recipe,
        paths: ModelPaths {
            model: base.join("base"),
            vision_tower: Some(base.join("siglip-tower")),
            projector: None,
            adapter: None,
        },
    };
    let mut job = Job::new(stage, folder);
    job.resume = true;
    let stop = job.stop.clone();
    job.run::<Autodiff<Flex>>(Precision::F32, &Default::default(), &mut |metrics, _| {
        if metrics.step == max_steps {
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    })?;
    Ok(())
}

#[test]
fn checkpoints() {
    let work = folder();
    let whole = work.path().join("whole");
    train(&whole, 1).unwrap();
    let all = files_below(&whole);
    let kept = all
        .iter()
        .filter(|file| file.parent() != Some(&whole) || file.ends_with("metrics.jsonl"));
    let kept: Vec<_> = kept.cloned().collect();
    assert!(
        kept.iter().any(|file| file.ends_with("trainer_state.json")),
        "{all:?}"
    );
    let seeds: Vec<Seed> = kept
        .iter()
        .map(|file| fs::read(file).unwrap().into())
        .collect();
    let allowed = Allowed {
        fixed: 256 << 20,
        per_byte: 400,
    };
    let run = work.path().join("run");
    fuzz("checkpoints", allowed, &seeds, |random, damaged| {
        let _ = fs::remove_dir_all(&run);
        copy_folder(&whole, &run);
        let is_json = damaged.first() == Some(&b'{');
        let texts = |at: &usize| is_json == (seeds[*at].bytes.first() == Some(&b'{'));
        let candidates: Vec<usize> = (0..kept.len()).filter(texts).collect();
        let at = match candidates.is_empty() {
            true => random.below(kept.len()),
            false => *random.pick(&candidates),
        };
        write_anew(&run.join(kept[at].strip_prefix(&whole).unwrap()), damaged);
        train(&run, 2).map_err(|error| error.to_string())
    });
}
