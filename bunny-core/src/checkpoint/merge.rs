//! LoRA adapters merged into the weights they belong to.

use std::ops::Range;

use bunny_weights::{CheckpointError, StoredTensor, adapter::Adapter, convert};
use gemm::{Parallelism, gemm};

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
    let b = &b[rows.start * rank..rows.end * rank];
    assert_eq!(weight.len(), rows.len() * input);
    // SAFETY: three whole row-major matrices: `weight` is [rows, input], asserted here; `b` is
    // [rows, rank], as it was just cut, and `a` has the shape checked above.
    unsafe {
        gemm(
            rows.len(),
            input,
            rank,
            weight.as_mut_ptr(),
            1,
            input as isize,
            true,
            b.as_ptr(),
            1,
            rank as isize,
            a.as_ptr(),
            1,
            input as isize,
            1.0,
            adapter.config().scale() as f32,
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
    }
    Ok(())
}
