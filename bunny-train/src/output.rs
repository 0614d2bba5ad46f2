//! What a stage leaves behind: a projector, an adapter, or a whole model.

use std::path::Path;

use bunny_core::{
    Bunny,
    checkpoint::{
        StoredDtype,
        adapter::{ADAPTER_WEIGHTS, NON_LORA_WEIGHTS, non_lora_name},
        writer::{MAX_SHARD_SIZE, PlannedTensor, write_file, write_whole},
    },
};
use burn::{
    module::AutodiffModule,
    tensor::{
        Tensor,
        backend::{AutodiffBackend, Backend},
    },
};
use serde_json::{Map, Value};

use crate::{
    error::TrainError,
    names::Part,
    optimizer::AdamW,
    recipe::StageRecipe,
    stage::{Learner, Learns},
    stored::le_bytes,
};

/// The projector alone, as pre-training leaves it.
pub const PROJECTOR_WEIGHTS: &str = "mm_projector.safetensors";

/// Writes what has learned into `folder`, ready to be loaded, with its `config.json`:
/// `mm_projector.safetensors` where only the projector did; PEFT's files and
/// `non_lora_trainables.safetensors` beside adapters; else the whole model and its tokenizer.
///
/// Weights are the f32 masters of what learned; a whole model has the type it is held in.
///
/// # Errors
/// When a file cannot be written.
pub fn write<B: AutodiffBackend>(
    folder: &Path,
    model: &Bunny<B>,
    optimizer: &AdamW<B::InnerBackend>,
    learners: &[Learner],
    recipe: &StageRecipe,
    config_json: &Value,
    tokenizer: &Path,
) -> Result<(), TrainError> {
    let learns = recipe.learns();
    let mut config = config_json.clone();
    let states = || learners.iter().zip(optimizer.states());
    if learns.lora {
        let lora = states().filter(|(learner, _)| learner.parameter.part == Part::Lora);
        let lora =
            lora.map(|(learner, state)| (learner.parameter.name.clone(), learner, &state.master));
        write_tensors(&folder.join(ADAPTER_WEIGHTS), lora.collect())?;
        let others = states().filter(|(learner, _)| learner.parameter.part != Part::Lora);
        let others = others.map(|(learner, state)| {
            (
                non_lora_name(&learner.parameter.name),
                learner,
                &state.master,
            )
        });
        write_tensors(&folder.join(NON_LORA_WEIGHTS), others.collect())?;
        let base = Some(recipe.model_name_or_path.clone());
        recipe.lora().to_adapter_config(model, base).write(folder)?;
    } else if learns == Learns::PRETRAIN {
        let all = states()
            .map(|(learner, state)| (learner.parameter.name.clone(), learner, &state.master));
        write_tensors(&folder.join(PROJECTOR_WEIGHTS), all.collect())?;
    } else {
        let dtype = match model.precision().weights {
            burn::tensor::DType::F16 => StoredDtype::F16,
            burn::tensor::DType::BF16 => StoredDtype::BF16,
            _ => StoredDtype::F32,
        };
        model
            .valid()
            .save(folder, dtype, MAX_SHARD_SIZE, tokenizer)?;
        // What the saved model says of itself goes before what training started from.
        let path = folder.join("config.json");
        let text = std::fs::read(&path).map_err(TrainError::io(&path, "read"))?;
        let saved: Map<String, Value> = serde_json::from_slice(&text).unwrap_or_default();
        if let Value::Object(all) = &mut config {
            all.extend(saved);
        }
    }
    write_whole(folder.join("config.json"), |file| {
        writeln!(file, "{config:#}")
    })?;
    Ok(())
}

/// Writes tensors in f32; blocks of one table become one tensor again.
fn write_tensors<B: Backend>(
    path: &Path,
    tensors: Vec<(String, &Learner, &Tensor<B, 1>)>,
) -> Result<(), TrainError> {
    let mut plan: Vec<PlannedTensor> = Vec::new();
    for (name, learner, _) in &tensors {
        let shape = &learner.parameter.shape;
        match plan.last_mut().filter(|last| last.name == *name) {
            Some(table) => table.shape[0] += shape[0],
            None => plan.push(PlannedTensor {
                name: name.clone(),
                dtype: StoredDtype::F32,
                shape: shape.clone(),
            }),
        }
    }
    write_file(path, &plan, |planned| {
        let blocks = tensors.iter().filter(|(name, _, _)| *name == planned.name);
        let values: Vec<f32> = blocks
            .flat_map(|(_, _, tensor)| tensor.to_data().iter::<f32>().collect::<Vec<_>>())
            .collect();
        Ok::<_, TrainError>(le_bytes(&values))
    })
}
