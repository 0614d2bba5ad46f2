//! The loss on records that are not learnt from.

use bunny_core::{Bunny, nn::Mode};
use burn::tensor::{ElementConversion, backend::Backend};

use crate::{error::TrainError, feed::Dataset, pass, recipe::StageRecipe};

/// The mean cross-entropy of all answers of `dataset`; `None` when it has none.
///
/// # Errors
/// When a record or a picture cannot be had.
pub fn evaluate<B: Backend>(
    model: &Bunny<B>,
    dataset: &Dataset<'_>,
    recipe: &StageRecipe,
    device: &B::Device,
) -> Result<Option<f64>, TrainError> {
    let (mut sum, mut answers) = (0.0, 0);
    let records: Vec<usize> = (0..dataset.records.len()).collect();
    for indices in records.chunks(recipe.per_device_train_batch_size) {
        let batch = dataset.batch(indices)?;
        if batch.answers.is_empty() {
            continue;
        }
        let loss = pass::loss(model, &batch, &Mode::INFERENCE, device);
        sum += batch.answers.len() as f64 * loss.into_scalar().elem::<f64>();
        answers += batch.answers.len();
    }
    Ok((answers > 0).then(|| sum / answers as f64))
}
