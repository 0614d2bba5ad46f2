//! What a stage leaves behind: a projector, an adapter, or a whole model.

use std::path::Path;

use bunny_base::write_atomic;
use bunny_core::{Bunny, checkpoint::OpenModel};
use bunny_weights::{
    StoredDtype,
    adapter::{ADAPTER_WEIGHTS, NON_LORA_WEIGHTS, non_lora_name},
    writer::{MAX_SHARD_SIZE, PlannedTensor, write_file},
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
    optimizer::Optimizer,
    recipe::StageRecipe,
    stored::le_bytes,
    trainable::{Learner, Learns, Part},
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
    learners: &[Learner],
    recipe: &StageRecipe,
    config_json: &Value,
    start: &OpenModel,
) -> Result<(), TrainError> {
    let learns = recipe.learns();
    let mut config = config_json.clone();
    let is_lora = |learner: &Learner| learner.parameter.part == Part::Lora;
    if learns.lora {
        let lora = Masters::of(learners, optimizer, |learner| {
            is_lora(learner).then(|| learner.parameter.name.clone())
        });
        lora.write(&folder.join(ADAPTER_WEIGHTS))?;
        let others = Masters::of(learners, optimizer, |learner| {
            (!is_lora(learner)).then(|| non_lora_name(&learner.parameter.name))
        });
        // A projector that stayed as it was given is in no other file of this run or of its base.
        let projector = frozen_projector(model, learns);
        let mut plan = others.plan();
        plan.extend(projector.iter().map(|(planned, _)| planned.clone()));
        let path = folder.join(NON_LORA_WEIGHTS);
        write_file(&path, &plan, |planned| {
            let given = projector.iter().find(|(one, _)| one.name == planned.name);
            Ok::<_, TrainError>(match given {
                Some((_, values)) => le_bytes(values),
                None => others.bytes(planned),
            })
        })?;
        let base = Some(recipe.model_name_or_path.clone());
        recipe.lora().to_adapter_config(model, base).write(folder)?;
    } else if learns == Learns::PRETRAIN {
        Masters::new(learners, optimizer).write(&folder.join(PROJECTOR_WEIGHTS))?;
    } else {
        let dtype = match model.precision().weights {
            burn::tensor::DType::F16 => StoredDtype::F16,
            burn::tensor::DType::BF16 => StoredDtype::BF16,
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
        let saved: Map<String, Value> = serde_json::from_slice(&text).unwrap_or_default();
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
    learns: Learns,
) -> Vec<(PlannedTensor, Vec<f32>)> {
    if learns.projector {
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

/// The f32 masters of some learners, by their names in a file; blocks of one table are one tensor
/// again.
pub(crate) struct Masters<'a, B: Backend> {
    tensors: Vec<(String, &'a Learner, &'a Tensor<B, 1>)>,
}

impl<'a, B: Backend> Masters<'a, B> {
    /// Those of all learners, by their published names.
    pub fn new(learners: &'a [Learner], optimizer: &'a Optimizer<B>) -> Self {
        Self::of(learners, optimizer, |learner| {
            Some(learner.parameter.name.clone())
        })
    }

    /// Those of the learners that `name` gives a name.
    pub fn of(
        learners: &'a [Learner],
        optimizer: &'a Optimizer<B>,
        name: impl Fn(&Learner) -> Option<String>,
    ) -> Self {
        let states = learners.iter().zip(optimizer.states());
        let tensors = states
            .filter_map(|(learner, state)| Some((name(learner)?, learner, &state.master)))
            .collect();
        Self { tensors }
    }

    /// What is going to be written.
    pub fn plan(&self) -> Vec<PlannedTensor> {
        let mut plan: Vec<PlannedTensor> = Vec::new();
        for (name, learner, _) in &self.tensors {
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
        plan
    }

    /// The numbers of one tensor of the plan.
    pub fn bytes(&self, planned: &PlannedTensor) -> Vec<u8> {
        let blocks = self.tensors.iter();
        let values: Vec<f32> = blocks
            .filter(|(name, _, _)| *name == planned.name)
            .flat_map(|(_, _, tensor)| tensor.to_data().iter::<f32>().collect::<Vec<_>>())
            .collect();
        le_bytes(&values)
    }

    /// Writes them all to a file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), TrainError> {
        write_file(path, &self.plan(), |planned| {
            Ok::<_, TrainError>(self.bytes(planned))
        })
    }
}
