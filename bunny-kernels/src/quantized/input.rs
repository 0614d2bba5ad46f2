//! The input of few rows, as codes that stream by want it.
//!
//! For codes of a byte it stays `f32`. Codes of four bits are multiplied four at a time with bytes:
//! each 32 numbers of the input become integers of 24 bits with one scale, which is as much as `f32`
//! holds of the greatest, and these three bytes each:
//!
//! ```text
//! x = scale · A,   |A| ≤ 127 · 2¹⁶,   A = a₂ · 2¹⁶ + a₁ · 2⁸ + a₀,   each aᵢ from −128 to 127
//! Σ (n − 8) A = ((Σ n a₂) · 2⁸ + Σ n a₁) · 2⁸ + Σ n a₀ − 8 Σ A
//! ```
//! The sum of eight such products is an exact integer of 32 bits, and what rounding the input costs is
//! `2⁻²⁴` of the greatest of its 32 numbers: no more than sums in `f32` do.

use super::round::SMALLEST;
use super::{Codes, GRAIN, QuantizedRef};
use crate::scratch::Scratch;
use crate::simd::{Kernel, Level, MAX_LANES, Simd, dispatch};

/// What the greatest of 32 numbers becomes: its first byte is 127.
const GREATEST: f32 = 8_323_072.0;
/// Registers of a unit of codes of four bits: three bytes of numbers at even places and at odd ones,
/// and what they are summed and multiplied with.
pub(super) const REGISTERS: usize = 8;

/// Some rows of input.
pub(super) struct Input<'a> {
    x: &'a [f32],
    of_nibbles: bool,
    inner: usize,
    /// Of each row its units, with zeros beyond its numbers; then the sum of every 32 numbers.
    ///
    /// A unit of codes of a byte is 32 numbers. One of four bits is as many words of eight codes as a
    /// register has lanes, and takes [`REGISTERS`]: `a₂`, `a₁` and `a₀` of the numbers at even places
    /// and of those at odd ones in turn, a byte each; `−8 Σ A` of each word's eight; and their scale.
    words: Scratch,
    /// Words of the units of a row, and from a row to the next.
    pub(super) padded: usize,
    pub(super) stride: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(x: &'a [f32], weight: &QuantizedRef<'_>, rows: usize) -> Self {
        let inner = weight.inner;
        let of_nibbles = matches!(weight.codes, Codes::Int4(..));
        let unit = match of_nibbles {
            true => 8 * Level::current().lanes(),
            false => GRAIN,
        };
        let padded = inner.next_multiple_of(unit);
        let stride = padded + (padded / GRAIN).next_multiple_of(MAX_LANES);
        let mut words = Scratch::new(rows * stride);
        if inner > 0 {
            let to = words.as_mut_slice().chunks_exact_mut(stride);
            for (x, to) in x.chunks_exact(inner).zip(to) {
                dispatch(Row {
                    x,
                    of_nibbles,
                    padded,
                    to,
                });
            }
        }
        Self {
            x,
            of_nibbles,
            inner,
            words,
            padded,
            stride,
        }
    }

    /// Whether it is what [`Input::new`] would make of `x` for this weight.
    pub(super) fn serves(&self, x: &[f32], weight: &QuantizedRef<'_>) -> bool {
        std::ptr::eq(self.x, x)
            && self.inner == weight.inner
            && self.of_nibbles == matches!(weight.codes, Codes::Int4(..))
    }

    pub(super) fn as_ptr(&self) -> *const f32 {
        self.words.as_ptr()
    }
}

/// A row to be brought into its form.
struct Row<'a> {
    x: &'a [f32],
    of_nibbles: bool,
    padded: usize,
    to: &'a mut [f32],
}

impl Kernel for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let (units, sums) = self.to.split_at_mut(self.padded);
        match self.of_nibbles {
            false => units[..self.x.len()].copy_from_slice(self.x),
            true => {
                let unit = REGISTERS * S::LANES;
                for (x, to) in self.x.chunks(unit).zip(units.chunks_exact_mut(unit)) {
                    for (at, x) in x.chunks(GRAIN).enumerate() {
                        to_integers::<S>(x, at, to);
                    }
                }
            }
        }
        for (x, sum) in self.x.chunks(GRAIN).zip(sums) {
            *sum = x.iter().sum();
        }
    }
}

/// Writes the `at`-th 32 numbers of a unit.
#[inline(always)]
fn to_integers<S: Simd>(numbers: &[f32], at: usize, unit: &mut [f32]) {
    let mut x = [0.0; GRAIN];
    x[..numbers.len()].copy_from_slice(numbers);
    let mut greatest = 0;
    for x in x {
        greatest = (x.to_bits() & 0x7FFF_FFFF).max(greatest);
    }
    let greatest = f32::from_bits(greatest);
    // What is not finite has no product.
    let (scale, inverse) = match greatest {
        _ if !greatest.is_finite() => (f32::NAN, 0.0),
        _ if greatest < SMALLEST => (0.0, 0.0),
        _ => (greatest / GREATEST, GREATEST / greatest),
    };
    let mut integers = [0; GRAIN];
    for (integer, x) in integers.iter_mut().zip(x) {
        *integer = (x * inverse).round_ties_even() as i32;
    }
    // Four words of eight numbers.
    for word in 0..4 {
        let sum: i32 = integers[8 * word..][..8].iter().sum();
        unit[6 * S::LANES + 4 * at + word] = f32::from_bits((-8 * sum) as u32);
        unit[7 * S::LANES + 4 * at + word] = scale;
    }
    // The lowest bytes come off first, and lie last.
    for byte in (0..3).rev() {
        for odd in 0..2 {
            let mut bytes = [0; GRAIN / 2];
            for (byte, pair) in bytes.iter_mut().zip(integers.as_chunks::<2>().0) {
                *byte = pair[odd] as u8;
            }
            let to = &mut unit[(2 * byte + odd) * S::LANES + 4 * at..];
            for (to, bytes) in to.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *to = f32::from_bits(u32::from_le_bytes(*bytes));
            }
        }
        for integer in &mut integers {
            *integer = (*integer - i32::from(*integer as i8)) >> 8;
        }
    }
}
