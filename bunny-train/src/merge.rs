//! Models made of models: adapters folded into weights, and weighted averages.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

use crate::error::TrainError;
use bunny_core::checkpoint::{ModelSource, files_beside};
use bunny_weights::{
    StoredDtype, StoredTensor, TensorFiles,
    convert::{from_f32, to_f32},
    writer::{MAX_SHARD_SIZE, PlannedTensor},
};

/// Folds what a LoRA run, or a pre-training, has learnt into the model it started from, and writes
/// the whole as a checkpoint in `folder`.
///
/// Gives the files written.
///
/// # Errors
/// When parts are missing or do not fit each other, or a file cannot be written.
pub fn merge(
    source: &ModelSource,
    folder: &Path,
    dtype: StoredDtype,
) -> Result<Vec<PathBuf>, TrainError> {
    Ok(source.open()?.write_merged(folder, dtype)?)
}

/// Writes the average of several merged models, each with its weight, as a checkpoint in `folder`.
///
/// The weights sum up to one, as the published models' do: others would change the scale of all that
/// the models have learnt. The sum is formed in f32, four million numbers at a time, so that it takes
/// 50 MB beside the files whatever the models' size; number types, tokenizer and configuration are the
/// last model's, as in the reference.
///
/// Gives the files written.
///
/// # Errors
/// When the weights do not sum up to one, the models do not hold the same tensors in the same shapes, or
/// a file cannot be read or written.
pub fn average(models: &[(PathBuf, f64)], folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let sum: f64 = models.iter().map(|(_, weight)| weight).sum();
    // Weights are written with a few digits: thirds as 0.33.
    if (sum - 1.0).abs() > 0.02 {
        return Err(TrainError::Average {
            problem: format!("the weights sum up to {sum}, and not to 1"),
        });
    }
    let opened = models
        .iter()
        .map(|(path, weight)| Ok((TensorFiles::open_folder(path)?, path, *weight)))
        .collect::<Result<Vec<_>, TrainError>>()?;
    let Some((last, last_path, _)) = opened.last() else {
        return Err(TrainError::Average {
            problem: "no model is given".into(),
        });
    };
    let shapes = |files: &TensorFiles| -> BTreeMap<String, Vec<usize>> {
        let shape = |name: &str| files.shape(name).unwrap_or_default().to_vec();
        files
            .names()
            .map(|name| (name.to_owned(), shape(name)))
            .collect()
    };
    let wanted = shapes(last);
    for (files, path, _) in &opened {
        let found = shapes(files);
        let differs = |name: &&String| found.get(*name) != wanted.get(*name);
        if let Some(name) = wanted.keys().chain(found.keys()).find(differs) {
            let text = |shape: Option<&Vec<usize>>| match shape {
                Some(shape) => format!("{shape:?}"),
                None => "absent".into(),
            };
            return Err(TrainError::Average {
                problem: format!(
                    "`{name}` is {} in {} and {} in {}",
                    text(found.get(name)),
                    path.display(),
                    text(wanted.get(name)),
                    last_path.display()
                ),
            });
        }
    }
    let plan: Vec<PlannedTensor> = wanted
        .into_iter()
        .map(|(name, shape)| PlannedTensor {
            dtype: last.dtype(&name).unwrap_or(StoredDtype::F32),
            name,
            shape,
        })
        .collect();
    let files = files_beside(last_path)?;
    files.write_in_blocks(folder, &plan, MAX_SHARD_SIZE, |planned, sink| {
        let no_floats = |path: &Path| TrainError::Average {
            problem: format!("`{}` holds no floats in {}", planned.name, path.display()),
        };
        let tensors = opened
            .iter()
            .map(|(files, path, weight)| {
                let stored = files.get(&planned.name).ok_or_else(|| no_floats(path))?;
                Ok((stored, path, *weight as f32))
            })
            .collect::<Result<Vec<_>, TrainError>>()?;
        let count: usize = planned.shape.iter().product();
        for start in (0..count).step_by(PIECE) {
            let range = start..count.min(start + PIECE);
            let mut sum = vec![0f32; range.len()];
            for (stored, path, weight) in &tensors {
                let values = piece(stored, range.clone()).ok_or_else(|| no_floats(path))?;
                sum.iter_mut()
                    .zip(values)
                    .for_each(|(sum, value)| *sum += weight * value);
            }
            let rounded = from_f32(&sum, planned.dtype).ok_or_else(|| no_floats(last_path))?;
            sink.put(&rounded)?;
        }
        Ok(())
    })
}

/// Numbers that are averaged at a time: the largest table of an 8 B model takes 2 GB in f32.
const PIECE: usize = 1 << 22;

/// Some of a tensor's numbers as f32; `None` when they are no floats.
fn piece(stored: &StoredTensor, range: Range<usize>) -> Option<Vec<f32>> {
    let size = stored.dtype.size();
    to_f32(
        &stored.bytes[range.start * size..range.end * size],
        stored.dtype,
    )
}
