//! Operands rounded to what a kernel multiplies, and what is lost.

use crate::exact::{LANES, join};
use crate::simd::{Kernel, Simd, dispatch};

/// The length of an operand as it is multiplied, and its distance from the vector that it stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Extent {
    /// Of what is multiplied.
    pub length: f64,
    /// To what it stands for.
    pub error: f64,
}

impl Extent {
    /// No less than either, in both.
    pub fn max(self, other: Self) -> Self {
        Self {
            length: self.length.max(other.length),
            error: self.error.max(other.error),
        }
    }
}

/// What a number is rounded to.
trait Word {
    /// The bits, and the number that they are.
    fn of(value: f32) -> (Self, f32)
    where
        Self: Sized;
}

/// Float32.
impl Word for u32 {
    #[inline(always)]
    fn of(value: f32) -> (Self, f32) {
        (value.to_bits(), value)
    }
}

/// `bf16`: the nearest, of two as near ones the even; numbers too small for a full significand are
/// zero, as tile registers take them.
impl Word for u16 {
    #[inline(always)]
    fn of(value: f32) -> (Self, f32) {
        const EXPONENT: u32 = 0x7f80_0000;
        let bits = value.to_bits();
        let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
        let nearest = if nearest & EXPONENT == 0 { 0 } else { nearest };
        ((nearest >> 16) as u16, f32::from_bits(nearest))
    }
}

/// Rounds the numbers of `vector − shift`, and sums the squares of what they have become and of what
/// they have lost.
struct Round<'a, T> {
    vector: &'a [f32],
    shift: &'a [f32],
    rounded: &'a mut [T],
}

impl<T: Word> Kernel for Round<'_, T> {
    type Output = (f64, f64);

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> (f64, f64) {
        let mut sums = Sums {
            squares: [0.0; LANES],
            lost: [0.0; LANES],
        };
        let (vectors, vector_rest) = self.vector.as_chunks::<LANES>();
        let (shifts, shift_rest) = self.shift.as_chunks::<LANES>();
        let (blocks, rounded_rest) = self.rounded.as_chunks_mut::<LANES>();
        for ((vector, shift), rounded) in vectors.iter().zip(shifts).zip(blocks) {
            for lane in 0..LANES {
                rounded[lane] = sums.round(lane, vector[lane], shift[lane]);
            }
        }
        let rest = vector_rest.iter().zip(shift_rest).zip(rounded_rest);
        for (lane, ((value, shift), rounded)) in rest.enumerate() {
            *rounded = sums.round(lane, *value, *shift);
        }
        (join(sums.squares), join(sums.lost))
    }
}

struct Sums {
    squares: [f64; LANES],
    lost: [f64; LANES],
}

impl Sums {
    #[inline(always)]
    fn round<T: Word>(&mut self, lane: usize, value: f32, shift: f32) -> T {
        let exact = f64::from(value) - f64::from(shift);
        let (word, taken) = T::of(exact as f32);
        let taken = f64::from(taken);
        self.squares[lane] += taken * taken;
        self.lost[lane] += (exact - taken) * (exact - taken);
        word
    }
}

/// The numbers of `vector − shift` as bits of float32; also the square of their length and of their
/// distance from what they stand for.
pub(super) fn to_float32(vector: &[f32], shift: &[f32], rounded: &mut [u32]) -> (f64, f64) {
    dispatch(Round {
        vector,
        shift,
        rounded,
    })
}

/// The same as `bf16`.
#[cfg(any(test, target_arch = "x86_64"))]
pub(super) fn to_bfloat16(vector: &[f32], shift: &[f32], rounded: &mut [u16]) -> (f64, f64) {
    dispatch(Round {
        vector,
        shift,
        rounded,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::mix;

    #[test]
    fn bfloat16_is_what_half_rounds_to_and_what_is_lost_is_measured() {
        let values: Vec<f32> = (0..1000)
            .map(|i| {
                let bits = mix(5, i);
                f32::from_bits(0x3f00_0000 | (bits as u32 & 0x80ff_ffff))
            })
            // Halfway between two, and too small.
            .chain([1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, 1e-39, -0.0])
            .collect();
        let shift = vec![0.0; values.len()];
        let mut rounded = vec![0; values.len()];
        let (squared, lost) = to_bfloat16(&values, &shift, &mut rounded);
        let expected: Vec<f32> = values
            .iter()
            .map(|value| match value.abs() < f32::MIN_POSITIVE {
                true => 0.0,
                false => half::bf16::from_f32(*value).to_f32(),
            })
            .collect();
        let found: Vec<f32> = rounded
            .iter()
            .map(|bits| half::bf16::from_bits(*bits).to_f32())
            .collect();
        assert_eq!(found, expected);
        let sum = |of: &mut dyn Iterator<Item = f64>| of.map(|x| x * x).sum::<f64>();
        let length = sum(&mut expected.iter().map(|x| f64::from(*x)));
        let pairs = values.iter().zip(&expected);
        let error = sum(&mut pairs.map(|(a, b)| f64::from(*a) - f64::from(*b)));
        assert!((squared / length - 1.0).abs() < 1e-12);
        assert!((lost / error - 1.0).abs() < 1e-12);
    }
}
