//! What a stage leaves behind: a projector, an adapter, or a whole model.

use std::path::Path;

use bunny_base::write_atomic;
use bunny_core::{Bunny, checkpoint::OpenModel};
use bunny_weights::{
    StoredDtype,
    adapter::{ADAPTER_WEIGHTS, NON_LORA_WEIGHTS, non_lora_name},
    convert::f32_bytes,
    writer::{MAX_SHARD_SIZE, PlannedTensor, write_file},
};
use burn::{
    module::AutodiffModule,
    tensor::{
        DType, Tensor,
        backend::{AutodiffBackend, Backend},
    },
};
use serde_json::{Map, Value};

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
    let mut config = config_json.clone();
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
        let dtype = match model.precision().weights {
            DType::F16 => StoredDtype::F16,
            DType::BF16 => StoredDtype::BF16,
            _ => StoredDtype::F32,
        };
        model.valid().save(
            folder,
            dtype,
            MAX_SHARD_SIZE,
            start.tokenizer_folder.as_deref(),
            &start.image_processor,
        )?;
        // What the saved model says of itself goes before what training started from.
        let path = folder.join("config.json");
        let text = std::fs::read(&path).map_err(TrainError::io(&path, "read"))?;
        let saved: Map<String, Value> =
            serde_json::from_slice(&text).map_err(|error| TrainError::State {
                path,
                problem: error.to_string(),
            })?;
        if let Value::Object(all) = &mut config {
            all.extend(saved);
        }
    }
    write_atomic(folder.join("config.json"), |file| {
        writeln!(file, "{config:#}")
    })?;
    Ok(())
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
    let projector = parameters.filter(|one| one.name.starts_with("model.mm_projector."));
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
