//! The weights that have been learnt, as files hold them.

use std::path::Path;

use bunny_weights::{
    StoredDtype,
    convert::f32_bytes,
    writer::{PlannedTensor, write_file},
};
use burn::tensor::{Tensor, backend::Backend};

use super::Optimizer;
use crate::{error::TrainError, trainable::Trainable};

/// The f32 masters of some trainables, by their names in a file; blocks of one table are one tensor
/// again.
#[derive(Debug)]
pub struct Masters<'a, B: Backend> {
    tensors: Vec<(String, &'a Trainable, &'a Tensor<B, 1>)>,
}

impl<'a, B: Backend> Masters<'a, B> {
    /// Those of all trainables, by their published names.
    pub fn new(trainables: &'a [Trainable], optimizer: &'a Optimizer<B>) -> Self {
        Self::of(trainables, optimizer, |trainable| {
            Some(trainable.parameter.name.clone())
        })
    }

    /// Those of the trainables that `name` gives a name.
    pub fn of(
        trainables: &'a [Trainable],
        optimizer: &'a Optimizer<B>,
        name: impl Fn(&Trainable) -> Option<String>,
    ) -> Self {
        let states = trainables.iter().zip(optimizer.states());
        let tensors = states
            .filter_map(|(trainable, state)| Some((name(trainable)?, trainable, &state.master)))
            .collect();
        Self { tensors }
    }

    /// What is going to be written.
    pub fn plan(&self) -> Vec<PlannedTensor> {
        let mut plan: Vec<PlannedTensor> = Vec::new();
        for (name, trainable, _) in &self.tensors {
            let shape = &trainable.parameter.shape;
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
        f32_bytes(&values)
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
