//! The same products in plain code, for tests on processors without tile registers: all that
//! surrounds the instructions is tried there too, to the last place in memory. The instructions
//! themselves are tried where they are.

use std::{mem::transmute, sync::LazyLock};

use super::{SIDE, SQUARE};

/// Whether this processor has no tile registers.
pub(crate) fn is_needed() -> bool {
    static NEEDED: LazyLock<bool> = LazyLock::new(|| !super::is_available());
    *NEEDED
}

/// [`Tiles::multiply`](super::Tiles::multiply).
///
/// # Safety
/// As there.
pub(super) unsafe fn multiply(
    depth: usize,
    left: [*const f32; 2],
    right: [*const f32; 2],
    from: (*const f32, usize),
    to: (*mut f32, usize),
) {
    let add = |sum: f32, left: f32, right: f32| {
        let [left, right] = [left, right].map(|word| {
            let bits = word.to_bits();
            [bits << 16, bits & 0xffff_0000].map(f32::from_bits)
        });
        sum + left[0] * right[0] + left[1] * right[1]
    };
    // SAFETY: the caller's promise.
    unsafe { squares(depth, left, right, from, to, add) }
}

/// [`Tiles::multiply_bytes`](super::Tiles::multiply_bytes).
///
/// # Safety
/// As there.
pub(super) unsafe fn multiply_bytes(
    depth: usize,
    left: [*const f32; 2],
    right: [*const f32; 2],
    from: (*const f32, usize),
    to: (*mut f32, usize),
) {
    let add = |sum: f32, left: f32, right: f32| {
        let bytes = |word: f32| word.to_bits().to_le_bytes().map(|byte| byte as i8);
        let products = bytes(left).into_iter().zip(bytes(right));
        let products = products.map(|(left, right)| i32::from(left) * i32::from(right));
        let sum = products.fold(sum.to_bits() as i32, i32::wrapping_add);
        f32::from_bits(sum as u32)
    };
    // SAFETY: the caller's promise.
    unsafe { squares(depth, left, right, from, to, add) }
}

/// Two squares below two, each the sum over the words of its rows and columns.
///
/// # Safety
/// As [`multiply`].
unsafe fn squares(
    depth: usize,
    left: [*const f32; 2],
    right: [*const f32; 2],
    (from, from_stride): (*const f32, usize),
    (to, to_stride): (*mut f32, usize),
    add: impl Fn(f32, f32, f32) -> f32,
) {
    assert!(depth > 0, "the instructions' loop begins with a square");
    let mut sums = [[0.0; 2 * SIDE]; 2 * SIDE];
    for (row, sums) in sums.iter_mut().enumerate() {
        // SAFETY: the caller's promise of a row to begin with.
        *sums = unsafe {
            from.add(row * from_stride)
                .cast::<[f32; 2 * SIDE]>()
                .read_unaligned()
        };
    }
    for square in 0..depth {
        // SAFETY: the caller's promise of so many squares.
        let load = |from: *const f32| unsafe {
            let words = from.add(square * SQUARE).cast::<[f32; SQUARE]>();
            transmute::<[f32; SQUARE], [[f32; SIDE]; SIDE]>(words.read_unaligned())
        };
        let (left, right) = (left.map(load), right.map(load));
        for (row, sums) in sums.iter_mut().enumerate() {
            for (column, sum) in sums.iter_mut().enumerate() {
                for word in 0..SIDE {
                    let left = left[row / SIDE][row % SIDE][word];
                    let right = right[column / SIDE][word][column % SIDE];
                    *sum = add(*sum, left, right);
                }
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        // SAFETY: the caller's promise of a row to write.
        unsafe {
            to.add(row * to_stride)
                .cast::<[f32; 2 * SIDE]>()
                .write_unaligned(*sums)
        };
    }
}
