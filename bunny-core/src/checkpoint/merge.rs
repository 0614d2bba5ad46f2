//! LoRA adapters merged into the weights they belong to.

use std::ops::Range;

use bunny_kernels::add_product;
use bunny_weights::{CheckpointError, StoredTensor, adapter::Adapter, convert};

use super::weights::float_type;

/// Adds `scale · B A` of the adapter of layer `target` to some rows, in f32, of that layer's weight,
/// which is of `shape`, `[out, in]`.
///
/// # Errors
/// When the adapter's shapes are not those of the weight, or it holds no floats.
pub(super) fn add_adapter(
    adapter: &Adapter,
    target: &str,
    weight: &mut [f32],
    rows: Range<usize>,
    shape: &[usize],
) -> Result<(), CheckpointError> {
    let Some([a, b]) = adapter.get(target) else {
        return Ok(());
    };
    let rank = a.shape.first().copied().unwrap_or(0);
    let (output, input) = (shape[0], shape[1..].iter().product());
    for (stored, wanted) in [(&a, [rank, input]), (&b, [output, rank])] {
        if stored.shape != wanted {
            return Err(CheckpointError::Mismatch {
                place: stored.file.display().to_string(),
                missing: Vec::new(),
                misshapen: vec![format!(
                    "{} is {:?}, expected {wanted:?}",
                    stored.name, stored.shape
                )],
                unexpected: Vec::new(),
            });
        }
    }
    let widened = |stored: &StoredTensor| -> Result<Vec<f32>, CheckpointError> {
        let dtype = float_type(stored)?;
        Ok(convert::to_f32(&stored.bytes, dtype).expect("the type is a float"))
    };
    let (a, b) = (widened(&a)?, widened(&b)?);
    let scale = adapter.config().scale() as f32;
    let b: Vec<f32> = b[rows.start * rank..rows.end * rank]
        .iter()
        .map(|b| b * scale)
        .collect();
    add_product(&b, &a, weight, rows.len(), rank, input);
    Ok(())
}
