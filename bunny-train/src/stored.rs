//! Stored numbers as f32.

use bunny_weights::{StoredDtype, StoredTensor};
use burn::tensor::{bf16, f16};

/// The numbers of a stored tensor; `None` when they are no floats.
pub fn to_f32(stored: &StoredTensor) -> Option<Vec<f32>> {
    fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        bytes
            .as_chunks::<N>()
            .0
            .iter()
            .map(|bytes| number(*bytes))
            .collect()
    }
    let bytes = &stored.bytes;
    match stored.dtype {
        StoredDtype::F64 => Some(each(bytes, |bytes| f64::from_le_bytes(bytes) as f32)),
        StoredDtype::F32 => Some(each(bytes, f32::from_le_bytes)),
        StoredDtype::F16 => Some(each(bytes, |bytes| f16::from_le_bytes(bytes).to_f32())),
        StoredDtype::BF16 => Some(each(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32())),
        _ => None,
    }
}

/// f32 numbers as little-endian bytes.
pub fn le_bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}
