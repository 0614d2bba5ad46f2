//! Numbers to codes.

use std::sync::atomic::{AtomicUsize, Ordering};

use half::f16;

use super::{Coding, GRAIN, Quantized, QuantizedError, check_group};
use crate::parallel;
use crate::quantized::open::Widen;
use crate::scratch::Shared;
use crate::simd::{Kernel, Simd, dispatch};
use crate::weight::WeightRef;

/// Numbers that a task rounds.
const TASK: usize = 1 << 16;

/// Adding it to a number of up to a few millions leaves the nearest integer, ties to even, in the
/// lowest bits.
pub(super) const TO_INTEGER: f32 = 12_582_912.0;

/// Where the greatest magnitude of some input is below it, all of it counts as zero: an inverse would
/// not be finite.
pub(super) const SMALLEST: f32 = 1e-30;

/// Rounds a weight `[out, in]` to the nearest codes, group by group, in parallel. Scales and minima are
/// f16, and codes are made for them as they are then.
///
/// With a scale that is a normal number, a number ends up half a scale from where it was at most, but
/// for those of [`Coding::Int4`] that lie beyond `7 scale`, which end up there, and for those of the
/// other codings of four bits, whose ends are off by the rounding of scale, zero point and minimum.
///
/// # Errors
/// When the length does not agree, groups are none that kernels read, a number is not finite, or a
/// scale would not be.
pub fn quantize(
    w: WeightRef<'_>,
    [out, inner]: [usize; 2],
    coding: Coding,
    group: usize,
) -> Result<Quantized, QuantizedError> {
    check_group(group, inner)?;
    if w.len() != out * inner {
        return Err(QuantizedError::Length {
            part: "numbers",
            found: w.len(),
            expected: out * inner,
            out,
            inner,
        });
    }
    let groups = inner.div_ceil(group.max(1));
    let row_bytes = match coding {
        Coding::Int8 => inner,
        _ => 4 * inner.div_ceil(8),
    };
    let of = |this: Coding| if this == coding { out * groups } else { 0 };
    let mut packed = Quantized {
        coding,
        codes: vec![0; out * row_bytes],
        scales: vec![f16::ZERO; out * groups],
        zeros: vec![0; of(Coding::Int4Zeros)],
        minima: vec![f16::ZERO; of(Coding::Int4Minima)],
        sides: [out, inner],
        group,
    };
    let codes = Shared::new(&mut packed.codes);
    let scales = Shared::new(&mut packed.scales);
    let zeros = Shared::new(&mut packed.zeros);
    let minima = Shared::new(&mut packed.minima);
    let (not_finite, too_large) = (AtomicUsize::new(usize::MAX), AtomicUsize::new(usize::MAX));
    let at_once = (TASK / inner.max(1)).max(1);
    parallel::for_each(out.div_ceil(at_once), |task| {
        let mut numbers = vec![0.0; inner];
        for row in task * at_once..out.min((task + 1) * at_once) {
            dispatch(Widen {
                floats: w.slice(row * inner..(row + 1) * inner),
                to: &mut numbers,
            });
            let first = row * groups;
            let in_groups = |coded: bool| if coded { groups } else { 0 };
            // SAFETY: the parts of a row, which is this task's alone.
            let row_of_codes = unsafe {
                Row {
                    numbers: &numbers,
                    coding,
                    group,
                    codes: codes.part(row * row_bytes, row_bytes),
                    scales: scales.part(first, groups),
                    zeros: zeros.part(first, in_groups(coding == Coding::Int4Zeros)),
                    minima: minima.part(first, in_groups(coding == Coding::Int4Minima)),
                }
            };
            match dispatch(row_of_codes) {
                Found::Fine => {}
                Found::NotFinite => _ = not_finite.fetch_min(row, Ordering::Relaxed),
                Found::TooLarge => _ = too_large.fetch_min(row, Ordering::Relaxed),
            }
        }
    });
    match (not_finite.into_inner(), too_large.into_inner()) {
        (usize::MAX, usize::MAX) => Ok(packed),
        (usize::MAX, row) => Err(QuantizedError::TooLarge { row }),
        (row, _) => Err(QuantizedError::NotFinite { row }),
    }
}

/// What came of a row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Fine,
    NotFinite,
    TooLarge,
}

/// A row to be rounded.
struct Row<'a> {
    numbers: &'a [f32],
    coding: Coding,
    group: usize,
    codes: &'a mut [u8],
    scales: &'a mut [f16],
    zeros: &'a mut [u8],
    minima: &'a mut [f16],
}

impl Kernel for Row<'_> {
    type Output = Found;

    /// Plain loops, of which the compiler makes what each instruction set has: no step is fused, so that
    /// all give the same codes.
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Found {
        let mut found = Found::Fine;
        let group = self.group.min(self.numbers.len()).max(1);
        let bytes_a_group = match self.coding {
            Coding::Int8 => group,
            _ => group.div_ceil(2),
        };
        let codes = self.codes.chunks_mut(bytes_a_group);
        for (at, (numbers, codes)) in self.numbers.chunks(group).zip(codes).enumerate() {
            let range = Span::of(numbers);
            if range.greatest_bits >= f32::INFINITY.to_bits() {
                return Found::NotFinite;
            }
            let Span { least, most, .. } = range;
            let scale = match self.coding {
                Coding::Int8 => most.max(-least) / 127.0,
                Coding::Int4 if most >= -least => most / -8.0,
                Coding::Int4 => least / -8.0,
                Coding::Int4Zeros => (most.max(0.0) - least.min(0.0)) / 15.0,
                Coding::Int4Minima => (most - least) / 15.0,
            };
            let scale = f16::from_f32(scale);
            if scale.is_infinite() {
                found = Found::TooLarge;
            }
            self.scales[at] = scale;
            let inverse = match scale == f16::ZERO {
                true => 0.0,
                false => 1.0 / scale.to_f32(),
            };
            match self.coding {
                Coding::Int8 => {
                    for (code, number) in codes.iter_mut().zip(numbers) {
                        *code = nearest(number * inverse, 0.0, -127.0, 127.0);
                    }
                }
                Coding::Int4 => in_pairs(numbers, 0.0, inverse, 8.0, codes),
                Coding::Int4Zeros => {
                    let zero = nearest(-least.min(0.0) * inverse, 0.0, 0.0, 15.0);
                    self.zeros[at] = zero;
                    in_pairs(numbers, 0.0, inverse, f32::from(zero), codes);
                }
                Coding::Int4Minima => {
                    let minimum = f16::from_f32(least);
                    if minimum.is_infinite() {
                        found = Found::TooLarge;
                    }
                    self.minima[at] = minimum;
                    in_pairs(numbers, minimum.to_f32(), inverse, 0.0, codes);
                }
            }
        }
        found
    }
}

/// Where numbers lie.
struct Span {
    least: f32,
    most: f32,
    /// The bits of the greatest magnitude, which are greater for what is infinite or none.
    greatest_bits: u32,
}

impl Span {
    #[inline(always)]
    fn of(numbers: &[f32]) -> Self {
        const LANES: usize = 16;
        let lanes = [f32::INFINITY; LANES];
        let (mut least, mut most, mut greatest) = (lanes, lanes.map(|x| -x), [0; LANES]);
        let (whole, rest) = numbers.as_chunks::<LANES>();
        for numbers in whole {
            for i in 0..LANES {
                least[i] = lesser(numbers[i], least[i]);
                most[i] = -lesser(-numbers[i], -most[i]);
                greatest[i] = (numbers[i].to_bits() & 0x7FFF_FFFF).max(greatest[i]);
            }
        }
        for (i, number) in rest.iter().enumerate() {
            least[i] = lesser(*number, least[i]);
            most[i] = -lesser(-number, -most[i]);
            greatest[i] = (number.to_bits() & 0x7FFF_FFFF).max(greatest[i]);
        }
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                least[i] = lesser(least[i + half], least[i]);
                most[i] = -lesser(-most[i + half], -most[i]);
                greatest[i] = greatest[i + half].max(greatest[i]);
            }
        }
        Self {
            least: least[0],
            most: most[0],
            greatest_bits: greatest[0],
        }
    }
}

/// The lesser of two numbers, in one instruction.
#[inline(always)]
fn lesser(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// The integer next to `x`, ties to even, plus another, within bounds: its lowest byte.
#[inline(always)]
fn nearest(x: f32, plus: f32, least: f32, most: f32) -> u8 {
    let code = ((x + TO_INTEGER) - TO_INTEGER + plus).clamp(least, most);
    (code + TO_INTEGER).to_bits() as u8
}

/// Codes of four bits, two to a byte.
#[inline(always)]
fn in_pairs(numbers: &[f32], less: f32, inverse: f32, plus: f32, codes: &mut [u8]) {
    for (codes, numbers) in codes.chunks_mut(GRAIN / 2).zip(numbers.chunks(GRAIN)) {
        let mut each = [0; GRAIN];
        for (code, number) in each.iter_mut().zip(numbers) {
            *code = nearest((number - less) * inverse, plus, 0.0, 15.0);
        }
        for (code, pair) in codes.iter_mut().zip(each.as_chunks::<2>().0) {
            *code = pair[0] | pair[1] << 4;
        }
    }
}
