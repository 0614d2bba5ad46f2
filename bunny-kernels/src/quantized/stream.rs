//! Products of few rows: codes stream by once, at the speed of memory.
//!
//! What a scale applies to, 32 numbers at least, is summed first, and then added to the sum of the row,
//! lane by lane, in `f32`. The order of each sum is the same for any number of rows and of columns.

use std::ops::Range;

use super::input::{Input, REGISTERS};
use super::open::widen;
use super::{Codes, GRAIN, QuantizedRef, Zeros};
use crate::product::stream::{LINE, Streamed, Weight};
use crate::scratch::Scratch;
use crate::simd::{Kernel, MAX_LANES, Simd, dispatch_quads, prefetch};
use crate::weight::WeightRef;

/// A weight, and its input.
#[derive(Clone, Copy)]
pub(super) struct Few<'a> {
    pub(super) weight: QuantizedRef<'a>,
    pub(super) input: &'a Input<'a>,
}

impl Weight for Few<'_> {
    fn row_bytes(&self, _: usize) -> usize {
        let of_scales = self.weight.groups() * self.weight.scales.element_bytes();
        self.weight.row_bytes() + of_scales
    }

    unsafe fn columns(product: &Streamed<'_, Self>, rows: usize, columns: Range<usize>) {
        dispatch_quads(Columns {
            product: *product,
            rows,
            columns,
        });
    }
}

/// Some columns of the result, for all rows.
struct Columns<'a> {
    product: Streamed<'a, Few<'a>>,
    rows: usize,
    columns: Range<usize>,
}

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Few { weight, input } = self.product.weight;
        let stride = input.stride - input.padded;
        let room = MOST_COLUMNS * stride;
        let has_offsets = !matches!(weight.codes, Codes::Int8(_) | Codes::Int4(_, Zeros::Eight));
        let mut scales = Scales {
            scales: Scratch::new(room),
            offsets: Scratch::new(if has_offsets { room } else { 0 }),
            stride,
            of_groups: [(); 2].map(|()| Scratch::new(MOST_COLUMNS * weight.groups() + MAX_LANES)),
        };
        let mut column = self.columns.start;
        match weight.codes {
            Codes::Int8(codes) => Bytes::run(s, &self, codes, &mut scales, &mut column),
            Codes::Int4(codes, _) => Nibbles::run(s, &self, codes, &mut scales, &mut column),
        }
    }
}

/// Rows of the weight that are multiplied side by side, at most.
const MOST_COLUMNS: usize = 8;

/// The scales of some rows of the weight, and what is added to their numbers: one for every 32. Beyond
/// the numbers of a row may be others, where the input is zero.
struct Scales {
    scales: Scratch,
    offsets: Scratch,
    /// From a row to the next.
    stride: usize,
    /// Both, one for every group, with room for a register beyond.
    of_groups: [Scratch; 2],
}

impl Columns<'_> {
    /// `C` columns at a time, as long as there are as many, and `R` rows.
    #[inline(always)]
    fn blocks<S: Simd, K: Code, const C: usize, const R: usize>(
        &self,
        s: S,
        codes: &[u8],
        scales: &mut Scales,
        column: &mut usize,
    ) {
        while *column + C <= self.columns.end {
            self.spread(s, *column, C, scales);
            let mut row = 0;
            while row < self.rows {
                // SAFETY: so many rows, and columns that are this task's.
                unsafe {
                    match self.rows - row {
                        1 => self.tile::<S, K, C, 1>(s, codes, scales, *column, row),
                        2 if R > 2 => self.tile::<S, K, C, 2>(s, codes, scales, *column, row),
                        _ => self.tile::<S, K, C, R>(s, codes, scales, *column, row),
                    }
                }
                row += R;
            }
            *column += C;
        }
    }

    /// Brings the scales of `count` rows of the weight into their form, and asks for the next.
    #[inline(always)]
    fn spread<S: Simd>(&self, s: S, first: usize, count: usize, to: &mut Scales) {
        let weight = &self.product.weight.weight;
        let groups = weight.groups();
        let next = (first + count) * groups..weight.out.min(first + 2 * count) * groups;
        expect(weight.scales, next.start..next.end.max(next.start));
        let [of_scales, of_offsets] = to.of_groups.each_mut().map(Scratch::as_mut_slice);
        let all = count * groups;
        let part = first * groups..(first + count) * groups;
        widen(s, weight.scales.slice(part.clone()), &mut of_scales[..all]);
        let scales = to.scales.as_mut_slice().chunks_mut(to.stride.max(1));
        spread(s, weight, of_scales, scales.take(count));
        match weight.codes {
            Codes::Int8(_) | Codes::Int4(_, Zeros::Eight) => return,
            Codes::Int4(_, Zeros::Integers(zeros)) => {
                let of_groups = of_offsets.iter_mut().zip(&*of_scales);
                for ((offset, scale), zero) in of_groups.zip(&zeros[part]) {
                    *offset = (8.0 - f32::from(*zero)) * scale;
                }
            }
            Codes::Int4(_, Zeros::Minima(minima)) => {
                widen(s, minima.slice(part), &mut of_offsets[..all]);
                for (offset, scale) in of_offsets[..all].iter_mut().zip(&*of_scales) {
                    *offset += 8.0 * scale;
                }
            }
        }
        let offsets = to.offsets.as_mut_slice().chunks_mut(to.stride.max(1));
        spread(s, weight, of_offsets, offsets.take(count));
    }

    /// `C` columns by `R` rows. While the first rows go by, the `C` rows of the weight after these are
    /// fetched, in the order of memory.
    ///
    /// # Safety
    /// The columns and rows exist, and nobody else writes them.
    #[inline(always)]
    unsafe fn tile<S: Simd, K: Code, const C: usize, const R: usize>(
        &self,
        s: S,
        codes: &[u8],
        scales: &Scales,
        column: usize,
        row: usize,
    ) {
        let Few { weight, input } = self.product.weight;
        let stride = weight.row_bytes();
        let (unit, unit_bytes) = (K::numbers::<S>(), K::bytes::<S>());
        let quarters = unit / GRAIN;
        let codes = &codes[column * stride..(column + C) * stride];
        let mut totals = [[s.zero(); R]; C];
        // SAFETY: `C` rows of codes, which are looked at above, and `R` of arranged input, with scales and
        // zeros for all of the last unit.
        unsafe {
            let x = input.as_ptr().add(row * input.stride);
            let of_scales = scales.scales.as_ptr();
            let ahead = codes.as_ptr().wrapping_add(C * stride);
            let whole = stride / unit_bytes;
            let operands = |at: usize, codes| Operands {
                codes,
                x: x.add(at * unit),
                x_stride: input.stride,
                scales: of_scales.add(at * quarters),
                scales_stride: scales.stride,
            };
            for at in 0..whole {
                let byte = at * unit_bytes;
                if row == 0 && byte.is_multiple_of(LINE) {
                    for line in 0..C {
                        prefetch(ahead.wrapping_add(C * byte + line * LINE));
                    }
                }
                let of_rows = codes.as_ptr().add(byte);
                totals = K::add(s, operands(at, (of_rows, stride)), totals);
            }
            let rest = stride - whole * unit_bytes;
            if rest > 0 {
                let mut ends = [[0_u8; LINE]; C];
                for (end, codes) in ends.iter_mut().zip(codes.chunks_exact(stride)) {
                    end[..rest].copy_from_slice(&codes[whole * unit_bytes..]);
                }
                let of_rows = ends.as_ptr().cast::<u8>();
                totals = K::add(s, operands(whole, (of_rows, LINE)), totals);
            }
            if !scales.offsets.as_slice().is_empty() {
                for at in (0..scales.stride).step_by(S::LANES) {
                    for c in 0..C {
                        let offset = s.load(scales.offsets.as_ptr().add(c * scales.stride + at));
                        for r in 0..R {
                            let sum = s.load(x.add(r * input.stride + input.padded + at));
                            totals[c][r] = s.mul_add(offset, sum, totals[c][r]);
                        }
                    }
                }
            }
            let Streamed { bias, y, out, .. } = self.product;
            for c in 0..C {
                let bias = bias.map_or(0.0, |bias| bias[column + c]);
                for r in 0..R {
                    *y.get().add((row + r) * out + column + c) = s.sum(totals[c][r]) + bias;
                }
            }
        }
    }
}

/// Asks for some floats.
fn expect(floats: WeightRef<'_>, part: Range<usize>) {
    let (from, bytes): (*const u8, usize) = match floats.slice(part) {
        WeightRef::F32(floats) => (floats.as_ptr().cast(), size_of_val(floats)),
        WeightRef::F16(floats) => (floats.as_ptr().cast(), size_of_val(floats)),
        WeightRef::Bf16(floats) => (floats.as_ptr().cast(), size_of_val(floats)),
    };
    for at in (0..bytes).step_by(LINE) {
        prefetch(from.wrapping_add(at));
    }
}

/// For each row one of each group to one of every 32 numbers, whole registers at a time. Beyond the
/// groups there is room for a register.
#[inline(always)]
fn spread<'a, S: Simd>(
    s: S,
    weight: &QuantizedRef<'_>,
    of_groups: &[f32],
    to: impl Iterator<Item = &'a mut [f32]>,
) {
    let groups = weight.groups();
    let quarters = weight.inner.div_ceil(GRAIN);
    let of_a_group = weight.group.min(weight.inner).div_ceil(GRAIN);
    for (row, to) in to.enumerate() {
        let of_groups = &of_groups[row * groups..];
        match of_a_group {
            0 | 1 => to[..groups].copy_from_slice(&of_groups[..groups]),
            4 => {
                for at in (0..quarters).step_by(S::LANES) {
                    let four = &of_groups[at / 4..][..S::LANES / 4];
                    // SAFETY: a quarter of a register was just looked at.
                    s.set(to, at, unsafe { s.load_fourfold(four.as_ptr()) });
                }
            }
            _ => {
                for (group, one) in of_groups[..groups].iter().enumerate() {
                    let part = group * of_a_group..quarters.min((group + 1) * of_a_group);
                    for at in part.step_by(S::LANES) {
                        s.set(to, at, s.splat(*one));
                    }
                }
            }
        }
    }
}

/// A way in which codes are stored.
trait Code: Sized {
    /// Computes all columns, as many side by side as registers hold the sums of beside what is
    /// multiplied: twice, those of the codes at hand and those of the row.
    fn run<S: Simd>(
        s: S,
        columns: &Columns<'_>,
        codes: &[u8],
        scales: &mut Scales,
        column: &mut usize,
    );
    /// Codes that are read at a time.
    fn numbers<S: Simd>() -> usize;
    /// Their bytes: a line at most.
    fn bytes<S: Simd>() -> usize;
    /// Adds the products of a unit of each row of the weight with one of each row of the input.
    ///
    /// # Safety
    /// There are such units, and their scales.
    unsafe fn add<S: Simd, const C: usize, const R: usize>(
        s: S,
        operands: Operands,
        totals: [[S::V; R]; C],
    ) -> [[S::V; R]; C];
}

/// Where a unit lies.
#[derive(Clone, Copy)]
struct Operands {
    /// Of the first row of the weight, and from one to the next.
    codes: (*const u8, usize),
    x: *const f32,
    x_stride: usize,
    scales: *const f32,
    scales_stride: usize,
}

struct Bytes;

impl Code for Bytes {
    #[inline(always)]
    fn run<S: Simd>(
        s: S,
        columns: &Columns<'_>,
        codes: &[u8],
        scales: &mut Scales,
        column: &mut usize,
    ) {
        match (S::LANES == MAX_LANES, columns.rows) {
            (true, 1) => columns.blocks::<S, Self, 8, 1>(s, codes, scales, column),
            (true, _) => columns.blocks::<S, Self, 4, 3>(s, codes, scales, column),
            (false, 1) => columns.blocks::<S, Self, 4, 1>(s, codes, scales, column),
            (false, _) => columns.blocks::<S, Self, 2, 2>(s, codes, scales, column),
        }
        columns.blocks::<S, Self, 1, 2>(s, codes, scales, column);
    }

    #[inline(always)]
    fn numbers<S: Simd>() -> usize {
        GRAIN
    }

    #[inline(always)]
    fn bytes<S: Simd>() -> usize {
        GRAIN
    }

    #[inline(always)]
    unsafe fn add<S: Simd, const C: usize, const R: usize>(
        s: S,
        operands: Operands,
        mut totals: [[S::V; R]; C],
    ) -> [[S::V; R]; C] {
        let (codes, stride) = operands.codes;
        let mut sums = [[s.zero(); R]; C];
        // SAFETY: as the caller promises.
        unsafe {
            for at in (0..GRAIN).step_by(S::LANES) {
                let mut input = [s.zero(); R];
                for r in 0..R {
                    input[r] = s.load(operands.x.add(r * operands.x_stride + at));
                }
                for c in 0..C {
                    let weight = s.load_i8(codes.add(c * stride + at).cast());
                    for r in 0..R {
                        sums[c][r] = match at {
                            0 => s.mul(weight, input[r]),
                            _ => s.mul_add(weight, input[r], sums[c][r]),
                        };
                    }
                }
            }
            for c in 0..C {
                let scale = s.splat(*operands.scales.add(c * operands.scales_stride));
                for r in 0..R {
                    totals[c][r] = s.mul_add(sums[c][r], scale, totals[c][r]);
                }
            }
        }
        totals
    }
}

struct Nibbles;

impl Code for Nibbles {
    #[inline(always)]
    fn run<S: Simd>(
        s: S,
        columns: &Columns<'_>,
        codes: &[u8],
        scales: &mut Scales,
        column: &mut usize,
    ) {
        match (S::LANES == MAX_LANES, columns.rows) {
            (true, 1) => columns.blocks::<S, Self, 4, 1>(s, codes, scales, column),
            (true, _) => columns.blocks::<S, Self, 4, 2>(s, codes, scales, column),
            (false, _) => columns.blocks::<S, Self, 2, 1>(s, codes, scales, column),
        }
        columns.blocks::<S, Self, 1, 2>(s, codes, scales, column);
    }

    #[inline(always)]
    fn numbers<S: Simd>() -> usize {
        REGISTERS * S::LANES
    }

    #[inline(always)]
    fn bytes<S: Simd>() -> usize {
        4 * S::LANES
    }

    #[inline(always)]
    unsafe fn add<S: Simd, const C: usize, const R: usize>(
        s: S,
        operands: Operands,
        mut totals: [[S::V; R]; C],
    ) -> [[S::V; R]; C] {
        let (codes, stride) = operands.codes;
        let mut sums = [[s.zero(); R]; C];
        let mut halves = [[s.zero(); 2]; C];
        // SAFETY: as the caller promises.
        unsafe {
            for c in 0..C {
                halves[c] = s.halves(s.load(codes.add(c * stride).cast()));
            }
            for byte in 0..3 {
                for half in 0..2 {
                    for r in 0..R {
                        let x = operands.x.add(r * operands.x_stride);
                        let input = s.load(x.add((2 * byte + half) * S::LANES));
                        for c in 0..C {
                            if byte > 0 && half == 0 {
                                sums[c][r] = s.times_256(sums[c][r]);
                            }
                            sums[c][r] = s.quad_mul_add(halves[c][half], input, sums[c][r]);
                        }
                    }
                }
            }
            for c in 0..C {
                let scale = s.load_fourfold(operands.scales.add(c * operands.scales_stride));
                for r in 0..R {
                    let x = operands.x.add(r * operands.x_stride);
                    let sum = s.add_integers(sums[c][r], s.load(x.add(6 * S::LANES)));
                    let scale = s.mul(scale, s.load(x.add(7 * S::LANES)));
                    totals[c][r] = s.mul_add(s.to_floats(sum), scale, totals[c][r]);
                }
            }
        }
        totals
    }
}
