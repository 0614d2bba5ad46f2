//! LoRA adapters merged into the weights they belong to.

use bunny_kernels::add_product;
use bunny_weights::{CheckpointError, StoredTensor, adapter::Adapter, convert};

use super::weights::float_type;

/// Adds `scale · B A` of the adapter of layer `target` to that layer's weight, `[out, in]`, in f32.
///
/// # Errors
/// When the adapter's shapes are not those of the weight, or it holds no floats.
pub(super) fn add_adapter(
    adapter: &Adapter,
    target: &str,
    weight: &mut [f32],
    [output, input]: [usize; 2],
) -> Result<(), CheckpointError> {
    let Some([a, b]) = adapter.get(target) else {
        return Ok(());
    };
    let rank = a.shape.first().copied().unwrap_or(0);
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
    let (a, mut b) = (widened(&a)?, widened(&b)?);
    let scale = adapter.config().scale() as f32;
    b.iter_mut().for_each(|b| *b *= scale);
    add_product(&b, &a, weight, output, rank, input);
    Ok(())
}
