//! How rows of keys and values are kept, and how they come out again.

use super::{CachedBlockMut, CachedBlocks, CachedSequence, CachedShape};
use crate::attention::AttentionView;
use crate::parallel;
use crate::scratch::Shared;
use crate::simd::{Element, Simd};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// What the numbers of a cache are kept in.
pub(super) trait Kept: Element {
    /// Elements of a row in front of its numbers.
    const AHEAD: usize = 0;

    /// Elements from one row of `d` numbers to the next.
    #[inline(always)]
    fn row(d: usize) -> usize {
        d
    }

    /// What a row's numbers are multiplied with.
    ///
    /// # Safety
    /// `numbers` is where those of a row begin, by a pointer that may read what is ahead of them.
    #[inline(always)]
    unsafe fn scale(_numbers: *const Self) -> f32 {
        1.0
    }

    /// The numbers as they are, if they are floats.
    #[inline(always)]
    fn floats(_from: *const Self) -> Option<*const f32> {
        None
    }

    /// Writes a row.
    fn keep(numbers: &[f32], row: &mut [Self]);
}

impl Kept for f32 {
    #[inline(always)]
    fn floats(from: *const Self) -> Option<*const f32> {
        Some(from)
    }

    fn keep(numbers: &[f32], row: &mut [Self]) {
        row.copy_from_slice(numbers);
    }
}

impl Kept for f16 {
    fn keep(numbers: &[f32], row: &mut [Self]) {
        row.convert_from_f32_slice(numbers);
    }
}

impl Kept for bf16 {
    fn keep(numbers: &[f32], row: &mut [Self]) {
        row.convert_from_f32_slice(numbers);
    }
}

impl Kept for i8 {
    const AHEAD: usize = size_of::<f32>();

    #[inline(always)]
    fn row(d: usize) -> usize {
        CachedShape::row_bytes(d)
    }

    #[inline(always)]
    unsafe fn scale(numbers: *const Self) -> f32 {
        // SAFETY: the scale lies in front of the numbers, at any byte.
        unsafe { numbers.sub(Self::AHEAD).cast::<f32>().read_unaligned() }
    }

    /// To the nearest of 255 steps; the number of the greatest magnitude is exact but for the scale's
    /// own rounding. What is not finite makes the scale so, and with it the whole row.
    fn keep(numbers: &[f32], row: &mut [Self]) {
        let (scale, codes) = row.split_at_mut(Self::AHEAD);
        let greatest = numbers.iter().fold(0f32, |most, x| match x.is_nan() {
            true => f32::NAN,
            false if most.is_nan() => most,
            false => most.max(x.abs()),
        });
        let step = greatest / 127.0;
        // A row of zeros has no step.
        let divisor = if step == 0.0 { 1.0 } else { step };
        let bytes = step.to_ne_bytes();
        scale
            .iter_mut()
            .zip(bytes)
            .for_each(|(to, byte)| *to = byte as i8);
        for (code, number) in codes.iter_mut().zip(numbers) {
            *code = (number / divisor).round_ties_even() as i8;
        }
    }
}

/// Numbers that lie one after another, as floats; with the scale of their row where it has one.
///
/// # Safety
/// As many numbers from `from` on, which is where a row's begin, by a pointer that may read what is ahead
/// of them, and room for them.
#[inline(always)]
pub(super) unsafe fn widen<S: Simd, E: Kept>(s: S, from: *const E, count: usize, to: *mut f32) {
    let mut at = 0;
    // SAFETY: the caller's promise.
    unsafe {
        let scale = match E::AHEAD {
            0 => None,
            _ => Some(s.splat(E::scale(from))),
        };
        let scaled = |numbers| match scale {
            Some(scale) => s.mul(numbers, scale),
            None => numbers,
        };
        while at + S::LANES <= count {
            s.store(to.add(at), scaled(E::load(s, from.add(at))));
            at += S::LANES;
        }
        if at < count {
            let last = E::load_head(s, from.add(at), count - at);
            s.store_head(to.add(at), count - at, scaled(last));
        }
    }
}

/// Numbers that are worth a task.
const TASK_FLOATS: usize = 16 << 10;

/// Writes rows `first_row..first_row + count` of some heads into a block, from position `at` on.
///
/// # Panics
/// When there are not as many rows, or as many positions.
pub fn keep_rows(
    block: CachedBlockMut<'_>,
    rows: AttentionView<'_>,
    (first_row, count): (usize, usize),
    at: usize,
    shape: CachedShape,
) {
    /// A task takes some heads.
    fn keep<E: Kept>(
        block: &mut [E],
        rows: AttentionView<'_>,
        (first_row, count): (usize, usize),
        at: usize,
        shape: CachedShape,
    ) {
        let CachedShape {
            kv_heads, head_dim, ..
        } = shape;
        let heads = (TASK_FLOATS / (count * head_dim).max(1)).clamp(1, kv_heads);
        assert!(
            block.len() >= shape.block_elements::<E>(),
            "a block is too short"
        );
        let block = Shared::new(block);
        parallel::for_each(kv_heads.div_ceil(heads), |task| {
            for head in task * heads..kv_heads.min((task + 1) * heads) {
                for row in 0..count {
                    let from = rows.strides.at(0, head, first_row + row);
                    let to = shape.at::<E>(head, at + row) - E::AHEAD;
                    // SAFETY: within the block, and every row of every head is written once.
                    let to = unsafe { block.part(to, E::row(head_dim)) };
                    E::keep(&rows.data[from..][..head_dim], to);
                }
            }
        });
    }
    assert!(at + count <= shape.positions, "more rows than positions");
    let last = first_row + count;
    let extent = rows.strides.extent(1, shape.kv_heads, last, shape.head_dim);
    assert!(rows.data.len() >= extent, "rows are too short");
    let which = (first_row, count);
    match block {
        CachedBlockMut::F32(block) => keep(block, rows, which, at, shape),
        CachedBlockMut::F16(block) => keep(block, rows, which, at, shape),
        CachedBlockMut::Bf16(block) => keep(block, rows, which, at, shape),
        CachedBlockMut::Int8(block) => keep(block, rows, which, at, shape),
    }
}

/// The keys and the values of a sequence, each `[kv_heads, len, head_dim]`, taken out of its blocks.
///
/// # Panics
/// When there are not as many blocks.
pub fn gather_heads(
    blocks: CachedBlocks<'_>,
    sequence: CachedSequence,
    shape: CachedShape,
) -> [Vec<f32>; 2] {
    /// `open` makes floats of the rows that it is given, one after another.
    fn gather<E: Kept>(
        blocks: &[[&[E]; 2]],
        sequence: CachedSequence,
        shape: CachedShape,
        open: impl Fn(&[E], &mut [f32]) + Send + Sync,
    ) -> [Vec<f32>; 2] {
        let (len, d) = (sequence.len, shape.head_dim);
        [0, 1].map(|which| {
            let mut all = vec![0.0; shape.kv_heads * len * d];
            let out = Shared::new(&mut all);
            let steps = len.div_ceil(shape.positions);
            parallel::for_each(shape.kv_heads * steps, |task| {
                let (head, step) = (task / steps, task % steps);
                let first = step * shape.positions;
                let count = shape.positions.min(len - first);
                let block = blocks[sequence.first_block + step][which];
                let from = shape.at::<E>(head, 0) - E::AHEAD;
                // SAFETY: every task has positions of its own.
                let to = unsafe { out.part((head * len + first) * d, count * d) };
                open(&block[from..][..count * E::row(d)], to);
            });
            all
        })
    }
    match blocks {
        CachedBlocks::F32(blocks) => gather(blocks, sequence, shape, |from, to| {
            to.copy_from_slice(from);
        }),
        CachedBlocks::F16(blocks) => gather(blocks, sequence, shape, |from, to| {
            from.convert_to_f32_slice(to);
        }),
        CachedBlocks::Bf16(blocks) => gather(blocks, sequence, shape, |from, to| {
            from.convert_to_f32_slice(to);
        }),
        CachedBlocks::Int8(blocks) => gather(blocks, sequence, shape, |from, to| {
            let d = shape.head_dim;
            for (from, to) in from.chunks_exact(i8::row(d)).zip(to.chunks_exact_mut(d)) {
                // SAFETY: the row's numbers begin there.
                let scale = unsafe { i8::scale(from.as_ptr().add(i8::AHEAD)) };
                for (to, code) in to.iter_mut().zip(&from[i8::AHEAD..]) {
                    *to = f32::from(*code) * scale;
                }
            }
        }),
    }
}
