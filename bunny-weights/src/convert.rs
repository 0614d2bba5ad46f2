//! Stored numbers into numbers of another type, in parallel.

use half::{bf16, f16, slice::HalfFloatSliceExt};
use rayon::prelude::*;

use crate::StoredDtype;

/// Numbers per parallel piece: large enough to hide the hand-over, small enough to share evenly.
const PIECE: usize = 1 << 16;

/// Numbers that go through f32 at a time on their way to another type: few enough to stay in the
/// nearest cache.
const BLOCK: usize = 1 << 11;

/// Numbers of one of the types that weights are stored in.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Floats {
    /// 64-bit floats.
    F64(Vec<f64>),
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 16-bit floats of IEEE 754.
    F16(Vec<f16>),
    /// 16-bit floats with the exponent of 32 bits.
    BF16(Vec<bf16>),
}

impl Floats {
    /// The numbers as a file holds them.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::F64(values) => bytemuck::cast_slice(values),
            Self::F32(values) => bytemuck::cast_slice(values),
            Self::F16(values) => bytemuck::cast_slice(values),
            Self::BF16(values) => bytemuck::cast_slice(values),
        }
    }
}

/// A number type in which weights are stored.
trait StoredFloat: bytemuck::Pod + Send + Sync {
    /// Widens a run of numbers to f32.
    fn widen(from: &[Self], to: &mut [f32]);
    /// Rounds a run of numbers from f32, to nearest even.
    fn narrow(from: &[f32], to: &mut [Self]);
}

impl StoredFloat for f32 {
    fn widen(from: &[Self], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
    fn narrow(from: &[f32], to: &mut [Self]) {
        to.copy_from_slice(from);
    }
}

impl StoredFloat for f64 {
    fn widen(from: &[Self], to: &mut [f32]) {
        to.iter_mut()
            .zip(from)
            .for_each(|(to, &from)| *to = from as f32);
    }
    fn narrow(from: &[f32], to: &mut [Self]) {
        to.iter_mut()
            .zip(from)
            .for_each(|(to, &from)| *to = f64::from(from));
    }
}

impl StoredFloat for f16 {
    fn widen(from: &[Self], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }
    fn narrow(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
}

impl StoredFloat for bf16 {
    fn widen(from: &[Self], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }
    fn narrow(from: &[f32], to: &mut [Self]) {
        to.iter_mut()
            .zip(from)
            .for_each(|(to, &from)| *to = rounded_to_bf16(from));
    }
}

/// `bf16::from_f32`, without a branch: several at a time.
fn rounded_to_bf16(value: f32) -> bf16 {
    const INFINITY: u32 = 0x7f80_0000;
    let bits = value.to_bits();
    let upper = bits >> 16;
    // Half of the last place, a hair less of it where the result is even as it is.
    let to_even = bits.wrapping_add(0x7fff + (upper & 1)) >> 16;
    let quiet = upper | 0x40;
    let is_nan = bits & 0x7fff_ffff > INFINITY;
    bf16::from_bits(if is_nan { quiet } else { to_even } as u16)
}

/// Calls `$function::<T>($($argument),*)` for the type `T` that `$dtype` names; `None` for a type
/// in which no weight is stored.
macro_rules! with_float {
    ($dtype:expr, $function:ident($($argument:expr),*)) => {
        match $dtype {
            StoredDtype::F64 => Some($function::<f64>($($argument),*)),
            StoredDtype::F32 => Some($function::<f32>($($argument),*)),
            StoredDtype::F16 => Some($function::<f16>($($argument),*)),
            StoredDtype::BF16 => Some($function::<bf16>($($argument),*)),
            _ => None,
        }
    };
}

/// Little-endian numbers of type `dtype` as f32; `None` when `dtype` is no float.
pub fn to_f32(bytes: &[u8], dtype: StoredDtype) -> Option<Vec<f32>> {
    with_float!(dtype, widen_all(bytes))
}

/// f32 numbers as the little-endian bytes of type `dtype`, rounded to nearest even; `None` when
/// `dtype` is no float.
pub fn from_f32(values: &[f32], dtype: StoredDtype) -> Option<Vec<u8>> {
    with_float!(dtype, narrow_all(values))
}

/// f32 numbers as a file holds them.
pub fn f32_bytes(values: &[f32]) -> Vec<u8> {
    narrow_all::<f32>(values)
}

/// Little-endian numbers of type `from` as numbers of type `to`, rounded to nearest even; `None`
/// when one of them is no float.
pub fn convert(bytes: &[u8], from: StoredDtype, to: StoredDtype) -> Option<Floats> {
    match to {
        StoredDtype::F64 => converted(bytes, from).map(Floats::F64),
        StoredDtype::F32 => converted(bytes, from).map(Floats::F32),
        StoredDtype::F16 => converted(bytes, from).map(Floats::F16),
        StoredDtype::BF16 => converted(bytes, from).map(Floats::BF16),
        _ => None,
    }
}

fn converted<T: StoredFloat>(bytes: &[u8], from: StoredDtype) -> Option<Vec<T>> {
    let widen = match from {
        StoredDtype::F64 => widen_bytes::<f64>,
        StoredDtype::F32 => widen_bytes::<f32>,
        StoredDtype::F16 => widen_bytes::<f16>,
        StoredDtype::BF16 => widen_bytes::<bf16>,
        _ => return None,
    };
    let size = from.size();
    let mut values = vec![T::zeroed(); bytes.len() / size];
    values
        .par_chunks_mut(PIECE)
        .zip(bytes.par_chunks(PIECE * size))
        .for_each(|(to, from)| {
            let mut wide = [0f32; BLOCK];
            for (to, from) in to.chunks_mut(BLOCK).zip(from.chunks(BLOCK * size)) {
                let wide = &mut wide[..to.len()];
                widen(from, wide);
                T::narrow(wide, to);
            }
        });
    Some(values)
}

/// Widens little-endian numbers.
fn widen_bytes<T: StoredFloat>(from: &[u8], to: &mut [f32]) {
    match bytemuck::try_cast_slice::<u8, T>(from) {
        Ok(from) => T::widen(from, to),
        // A file may place a tensor at an odd offset; copy the piece to aligned memory.
        Err(_) => T::widen(&bytemuck::pod_collect_to_vec::<u8, T>(from), to),
    }
}

fn widen_all<T: StoredFloat>(bytes: &[u8]) -> Vec<f32> {
    let size = size_of::<T>();
    let mut values = vec![0f32; bytes.len() / size];
    values
        .par_chunks_mut(PIECE)
        .zip(bytes.par_chunks(PIECE * size))
        .for_each(|(to, from)| widen_bytes::<T>(from, to));
    values
}

fn narrow_all<T: StoredFloat>(values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0u8; size_of_val(values) / size_of::<f32>() * size_of::<T>()];
    bytes
        .par_chunks_mut(PIECE * size_of::<T>())
        .zip(values.par_chunks(PIECE))
        .for_each(|(to, from)| {
            let mut narrow = vec![T::zeroed(); from.len()];
            T::narrow(from, &mut narrow);
            to.copy_from_slice(bytemuck::cast_slice(&narrow));
        });
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_survives_the_way_to_f32_and_back() {
        let halves: Vec<u8> = (0..=u16::MAX)
            .filter(|&bits| !f16::from_bits(bits).is_nan() && !bf16::from_bits(bits).is_nan())
            .flat_map(u16::to_le_bytes)
            .collect();
        for dtype in [StoredDtype::F16, StoredDtype::BF16] {
            let wide = to_f32(&halves, dtype).unwrap();
            assert_eq!(from_f32(&wide, dtype).unwrap(), halves, "{dtype:?}");
            let direct = convert(&halves, dtype, StoredDtype::F32).unwrap();
            assert_eq!(direct, Floats::F32(wide), "{dtype:?}");
            let back = convert(direct.as_bytes(), StoredDtype::F32, dtype).unwrap();
            assert_eq!(back.as_bytes(), halves, "{dtype:?}");
        }
    }

    #[test]
    fn rounding_to_bf16_is_that_of_half() {
        let bits = (0..1u64 << 20).map(|at| bunny_base::random::mix(at) as u32);
        // What rounding carries over, infinities, and what is no number.
        let edges = [
            0x7f7f_ffff,
            0x7f80_0000,
            0xff80_0000,
            0x7f80_0001,
            0xffff_ffff,
            0x8000_0000,
            1,
        ];
        for value in bits.chain(edges).map(f32::from_bits) {
            let (found, expected) = (rounded_to_bf16(value), bf16::from_f32(value));
            assert_eq!(found.to_bits(), expected.to_bits(), "{value:e}");
        }
    }

    #[test]
    fn odd_offsets_in_a_file_are_read_all_the_same() {
        let bytes: Vec<u8> = std::iter::once(0)
            .chain([1.5f32, -2.25, 1e-3].into_iter().flat_map(f32::to_le_bytes))
            .collect();
        let wide = to_f32(&bytes[1..], StoredDtype::F32).unwrap();
        assert_eq!(wide, [1.5, -2.25, 1e-3]);
        let halves = convert(&bytes[1..], StoredDtype::F32, StoredDtype::F16).unwrap();
        assert_eq!(
            halves,
            Floats::F16(wide.iter().copied().map(f16::from_f32).collect())
        );
    }
}
