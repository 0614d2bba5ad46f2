//! Codes to numbers.

use super::{Codes, QuantizedRef, Zeros};
use crate::lines::Lines;
use crate::parallel;
use crate::scratch::Shared;
use crate::simd::{Element, Kernel, MAX_LANES, Simd, dispatch};
use crate::weight::{WeightRef, with_elements};

/// A weight whose scales are `f32`: a number is `(code + shift) · scale + offset`, in these steps, where
/// the code of four bits is `n − 8`.
#[derive(Debug)]
pub(super) struct Opened<'a> {
    pub(super) weight: QuantizedRef<'a>,
    /// `[out, groups]`.
    pub(super) scales: Vec<f32>,
    /// `[out, groups]`, if there are any.
    offsets: Option<Vec<f32>>,
    pub(super) shift: f32,
}

impl<'a> Opened<'a> {
    pub(super) fn new(weight: QuantizedRef<'a>) -> Self {
        let scales = widened(weight.scales);
        let (offsets, shift) = match weight.codes {
            Codes::Int8(_) | Codes::Int4(_, Zeros::Eight) => (None, 0.0),
            // scale · (n − z) = scale · (n − 8) + scale · (8 − z): exact, as scales of sixteen bits have
            // few digits.
            Codes::Int4(_, Zeros::Integers(zeros)) => {
                let offsets = zeros.iter().zip(&scales);
                let offsets = offsets.map(|(zero, scale)| (8.0 - f32::from(*zero)) * scale);
                (Some(offsets.collect()), 0.0)
            }
            Codes::Int4(_, Zeros::Minima(minima)) => (Some(widened(minima)), 8.0),
        };
        Self {
            weight,
            scales,
            offsets,
            shift,
        }
    }

    /// What is added to the numbers of a group.
    #[inline(always)]
    pub(super) fn offset(&self, group: usize) -> f32 {
        self.offsets.as_ref().map_or(0.0, |offsets| offsets[group])
    }
}

impl Lines for &Opened<'_> {
    fn assert_sides(&self, lines: usize, width: usize, what: &str) {
        assert_eq!(self.weight.sides(), [lines, width], "{what}");
    }

    /// Registers begin where multiples of their lanes do, so that one has a single scale.
    #[inline(always)]
    fn load<S: Simd>(&self, s: S, line: usize, from: usize, n: usize) -> S::V {
        if n == 0 {
            return s.zero();
        }
        debug_assert!(from.is_multiple_of(S::LANES));
        let weight = &self.weight;
        let group = line * weight.groups() + from / weight.group;
        let code = match weight.codes {
            Codes::Int8(bytes) => {
                let at = line * weight.inner + from;
                let bytes: &[i8] = bytemuck::cast_slice(&bytes[at..at + n]);
                // SAFETY: `n` bytes are readable.
                unsafe {
                    match n == S::LANES {
                        true => i8::load(s, bytes.as_ptr()),
                        false => i8::load_head(s, bytes.as_ptr(), n),
                    }
                }
            }
            Codes::Int4(bytes, _) => {
                let at = line * weight.row_bytes() + from / 2;
                let bytes = &bytes[at..at + n.div_ceil(2)];
                let mut whole = [0; MAX_LANES / 2];
                let from = match n == S::LANES {
                    true => bytes.as_ptr(),
                    false => {
                        whole[..bytes.len()].copy_from_slice(bytes);
                        whole.as_ptr()
                    }
                };
                // SAFETY: half as many bytes as there are lanes are readable.
                unsafe { s.load_nibbles(from) }
            }
        };
        let mut number = s.mul(
            s.add(code, s.splat(self.shift)),
            s.splat(self.scales[group]),
        );
        if let Some(offsets) = &self.offsets {
            number = s.add(number, s.splat(offsets[group]));
        }
        if n < S::LANES {
            let mut lanes = [0.0; MAX_LANES];
            s.set(&mut lanes, 0, number);
            number = s.get(&lanes[..n], 0);
        }
        number
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn place(&self, line: usize, at: usize) -> *const u8 {
        let (bytes, at) = match self.weight.codes {
            Codes::Int8(bytes) => (bytes, at),
            Codes::Int4(bytes, _) => (bytes, at / 2),
        };
        bytes
            .as_ptr()
            .wrapping_add(line * self.weight.row_bytes() + at)
    }
}

/// [`widen`] in parallel.
fn widened(floats: WeightRef<'_>) -> Vec<f32> {
    const TASK: usize = 1 << 16;
    let mut to = vec![0.0; floats.len()];
    let wide = Shared::new(&mut to);
    parallel::for_each(floats.len().div_ceil(TASK), |task| {
        let part = task * TASK..floats.len().min((task + 1) * TASK);
        // SAFETY: a part of its own.
        let to = unsafe { wide.part(part.start, part.len()) };
        let floats = floats.slice(part);
        dispatch(Widen { floats, to });
    });
    to
}

/// [`widen`] as a kernel.
pub(super) struct Widen<'a> {
    pub(super) floats: WeightRef<'a>,
    pub(super) to: &'a mut [f32],
}

impl Kernel for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        widen(s, self.floats, self.to);
    }
}

/// Floats as they are in `f32`.
#[inline(always)]
pub(super) fn widen<S: Simd>(s: S, floats: WeightRef<'_>, to: &mut [f32]) {
    with_elements!(floats, floats => widen_elements(s, floats, to));
}

#[inline(always)]
fn widen_elements<S: Simd, E: Element>(s: S, floats: &[E], to: &mut [f32]) {
    let (floats, to) = (floats.chunks(S::LANES), to.chunks_mut(S::LANES));
    for (floats, to) in floats.zip(to) {
        // SAFETY: as many elements as the chunk has.
        let wide = unsafe {
            match floats.len() == S::LANES {
                true => E::load(s, floats.as_ptr()),
                false => E::load_head(s, floats.as_ptr(), floats.len()),
            }
        };
        s.set(to, 0, wide);
    }
}

/// The numbers that stand in some rows, in their order, into `to`, `[rows, in]`.
///
/// # Panics
/// When a row is not there, or the length does not agree.
pub fn dequantize_rows(w: QuantizedRef<'_>, rows: &[usize], to: &mut [f32]) {
    assert_eq!(to.len(), rows.len() * w.inner, "result");
    let all = Shared::new(to);
    parallel::for_each(rows.len(), |at| {
        // SAFETY: a row of its own.
        let to = unsafe { all.part(at * w.inner, w.inner) };
        let row = Opened::new(w.rows(rows[at]..rows[at] + 1));
        dispatch(Row { row: &row, to });
    });
}

struct Row<'a> {
    row: &'a Opened<'a>,
    to: &'a mut [f32],
}

impl Kernel for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (at, to) in self.to.chunks_mut(S::LANES).enumerate() {
            let numbers = self.row.load(s, 0, at * S::LANES, to.len());
            s.set(to, 0, numbers);
        }
    }
}
