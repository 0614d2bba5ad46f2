//! What a stage leaves behind: a projector, an adapter, or a whole model.

use std::path::Path;

use bunny_core::{
    Bunny,
    checkpoint::OpenModel,
    config::PART_PATHS,
    nn::{self, stored_as},
};
use bunny_weights::{
    ModelFolder, StoredDtype,
    adapter::{ADAPTER_WEIGHTS, NON_LORA_WEIGHTS, non_lora_name},
    convert::f32_bytes,
    folder::CONFIG,
    writer::{MAX_SHARD_SIZE, PlannedTensor, write_file},
};
use burn::{
    module::AutodiffModule,
    tensor::{
        Tensor,
        backend::{AutodiffBackend, Backend},
    },
};
use serde_json::Value;

use crate::{
    error::TrainError,
    optimizer::{Masters, Optimizer},
    recipe::BunnyRecipe,
    trainable::{Part, Trainable, TrainableParts},
};

/// The projector alone, as pre-training leaves it.
pub const PROJECTOR_WEIGHTS: &str = "mm_projector.safetensors";

/// Writes what has learned into `folder`, ready to be loaded, with its `config.json`:
/// `mm_projector.safetensors` where only the projector did; PEFT's files and
/// `non_lora_trainables.safetensors` beside adapters; else the whole model and its tokenizer.
///
/// Weights are the f32 masters of what learned; a whole model has the type it is held in. `start` is
/// what training began from, whose tokenizer and image processor go with a whole model.
///
/// # Errors
/// When a file cannot be written.
pub fn write<B: AutodiffBackend>(
    folder: &Path,
    model: &Bunny<B>,
    optimizer: &Optimizer<B::InnerBackend>,
    trainables: &[Trainable],
    recipe: &BunnyRecipe,
    config_json: &Value,
    start: &OpenModel,
) -> Result<(), TrainError> {
    let parts = recipe.trainable_parts();
    let is_lora = |trainable: &Trainable| trainable.parameter.part == Part::Lora;
    if parts.lora {
        let lora = Masters::of(trainables, optimizer, |trainable| {
            is_lora(trainable).then(|| trainable.parameter.name.clone())
        });
        lora.write(&folder.join(ADAPTER_WEIGHTS))?;
        let others = Masters::of(trainables, optimizer, |trainable| {
            (!is_lora(trainable)).then(|| non_lora_name(&trainable.parameter.name))
        });
        // A projector that stayed as it was given is in no other file of this run or of its base.
        let projector = frozen_projector(model, parts);
        let mut plan = others.plan();
        plan.extend(projector.iter().map(|(planned, _)| planned.clone()));
        let path = folder.join(NON_LORA_WEIGHTS);
        write_file(&path, &plan, |planned| {
            let given = projector.iter().find(|(one, _)| one.name == planned.name);
            Ok::<_, TrainError>(match given {
                Some((_, values)) => f32_bytes(values),
                None => others.bytes(planned),
            })
        })?;
        let base = Some(recipe.model_name_or_path.clone());
        recipe.lora().to_adapter_config(model, base).write(folder)?;
    } else if parts == TrainableParts::PRETRAIN {
        Masters::new(trainables, optimizer).write(&folder.join(PROJECTOR_WEIGHTS))?;
    } else {
        let dtype = stored_as(model.precision().weights.dtype()).unwrap_or(StoredDtype::F32);
        let (beside, processor) = (&start.beside, &start.image_processor);
        model
            .valid()
            .save(folder, dtype, MAX_SHARD_SIZE, beside, processor)?;
        return Ok(());
    }
    let mut config_json = config_json.clone();
    let named = [
        Some(&recipe.model_name_or_path),
        recipe.vision_tower.as_ref(),
    ];
    for (field, name) in PART_PATHS.into_iter().zip(named) {
        // So that all can be moved together. What was downloaded is found by its name.
        config_json[field] = name
            .and_then(|name| seen_from(folder, Path::new(name)))
            .into();
    }
    let config = ModelFolder::new().with_json(CONFIG, config_json);
    config.write_files(folder)?;
    Ok(())
}

/// The way from a folder to something else that is here, with `/` between its steps.
fn seen_from(folder: &Path, path: &Path) -> Option<String> {
    let (folder, path) = (folder.canonicalize().ok()?, path.canonicalize().ok()?);
    let shared = folder.components().zip(path.components());
    let shared = shared.take_while(|(one, other)| one == other).count();
    // Nothing leads from one drive to another.
    if shared == 0 {
        return None;
    }
    let up = folder.components().skip(shared).map(|_| Some(".."));
    let down = path.components().skip(shared);
    let down = down.map(|part| part.as_os_str().to_str());
    Some(up.chain(down).collect::<Option<Vec<_>>>()?.join("/"))
}

/// The projector's tensors and their numbers, if it does not learn.
fn frozen_projector<B: Backend>(
    model: &Bunny<B>,
    parts: TrainableParts,
) -> Vec<(PlannedTensor, Vec<f32>)> {
    if parts.projector {
        return Vec::new();
    }
    let parameters = model.named_parameters().into_iter();
    let projector = parameters.filter(|one| one.name.starts_with(nn::Part::Projector.prefix()));
    let numbers = |pieces: &[Tensor<B, 1>]| {
        let pieces = pieces.iter().map(|piece| piece.to_data());
        pieces
            .flat_map(|data| data.iter::<f32>().collect::<Vec<_>>())
            .collect()
    };
    projector
        .map(|one| {
            let planned = PlannedTensor {
                name: non_lora_name(&one.name),
                dtype: StoredDtype::F32,
                shape: one.shape,
            };
            (planned, numbers(&one.pieces))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_a_part_stays_when_all_is_moved() {
        let root = tempfile::tempdir().unwrap();
        let (run, base) = (
            root.path().join("runs/mine/finetune"),
            root.path().join("base"),
        );
        for folder in [&run, &base] {
            std::fs::create_dir_all(folder).unwrap();
        }
        assert_eq!(seen_from(&run, &base).unwrap(), "../../../base");
        assert_eq!(seen_from(&base, &base.join("../base")).unwrap(), "");
        assert_eq!(seen_from(&base, &root.path().join("gone")), None);
    }
}
