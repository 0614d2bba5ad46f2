//! AMX: eight registers of sixteen rows by 64 bytes, and products of two of them, on Linux.
//!
//! Rust has no stable functions for these instructions yet, so that they stand here as assembly.

pub(crate) mod squares;

use core::{
    arch::{asm, x86_64::__cpuid_count},
    cell::Cell,
    marker::PhantomData,
};

/// Rows of a tile, and words of a row.
pub(crate) const SIDE: usize = 16;
/// Words of a tile.
pub(crate) const SQUARE: usize = SIDE * SIDE;

/// Whether the processor multiplies tiles of `bf16` and of bytes, and the system lets this process do
/// it. Asks the system: to be called once, and remembered.
pub(crate) fn is_available() -> bool {
    // Leaf 7, EDX: bit 22 is AMX-BF16, bit 24 AMX-TILE, bit 25 AMX-INT8.
    const ALL: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    let has_leaf = __cpuid_count(0, 0).eax >= 7;
    has_leaf && __cpuid_count(7, 0).edx & ALL == ALL && is_permitted()
}

/// Linux keeps room for the tiles of those processes alone that have asked.
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: takes two numbers and touches no memory of ours.
    unsafe {
        libc::syscall(
            libc::SYS_arch_prctl,
            ARCH_REQ_XCOMP_PERM,
            XFEATURE_XTILEDATA,
        ) == 0
    }
}

#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

thread_local! {
    /// Whether this thread has its tile registers.
    static TAKEN: Cell<bool> = const { Cell::new(false) };
}

/// This thread's tile registers, all of full size. They are given back when it is dropped: a thread
/// that holds some costs more to switch.
#[derive(Debug)]
pub(crate) struct Tiles(PhantomData<*mut ()>);

/// [`Tiles::multiply`] by the instruction for products of two squares.
macro_rules! multiply_squares {
    ($instruction:literal, $depth:expr, $left:expr, $right:expr, $from:expr, $to:expr) => {{
        let (depth, left, right) = ($depth, $left, $right);
        let ((from, from_stride), (to, to_stride)) = ($from, $to);
        asm!(
            "tileloadd tmm0, [{from0} + {stride}]",
            "tileloadd tmm1, [{from0} + {stride} + 64]",
            "tileloadd tmm2, [{from1} + {stride}]",
            "tileloadd tmm3, [{from1} + {stride} + 64]",
            "mov {stride:e}, 64",
            "2:",
            "tileloadd tmm4, [{left0} + {stride}]",
            "tileloadd tmm6, [{right0} + {stride}]",
            concat!($instruction, " tmm0, tmm4, tmm6"),
            "tileloadd tmm7, [{right1} + {stride}]",
            concat!($instruction, " tmm1, tmm4, tmm7"),
            "tileloadd tmm5, [{left1} + {stride}]",
            concat!($instruction, " tmm2, tmm5, tmm6"),
            concat!($instruction, " tmm3, tmm5, tmm7"),
            "add {left0}, 1024",
            "add {left1}, 1024",
            "add {right0}, 1024",
            "add {right1}, 1024",
            "dec {depth}",
            "jnz 2b",
            "tilestored [{to0} + {to_stride}], tmm0",
            "tilestored [{to0} + {to_stride} + 64], tmm1",
            "tilestored [{to1} + {to_stride}], tmm2",
            "tilestored [{to1} + {to_stride} + 64], tmm3",
            left0 = inout(reg) left[0] => _,
            left1 = inout(reg) left[1] => _,
            right0 = inout(reg) right[0] => _,
            right1 = inout(reg) right[1] => _,
            depth = inout(reg) depth => _,
            stride = inout(reg) 4 * from_stride => _,
            from0 = in(reg) from,
            from1 = in(reg) from.add(SIDE * from_stride),
            to0 = in(reg) to,
            to1 = in(reg) to.add(SIDE * to_stride),
            to_stride = in(reg) 4 * to_stride,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }};
}

impl Tiles {
    /// Takes them.
    ///
    /// # Panics
    /// When somebody on this thread holds them: the first to be dropped would give them back.
    ///
    /// # Safety
    /// [`is_available`].
    pub(crate) unsafe fn take() -> Self {
        /// Palette 1: of each of the eight registers, bytes a row and rows.
        #[repr(C, align(64))]
        struct Configuration {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            bytes: [u16; 16],
            rows: [u8; 16],
        }
        let mut configuration = Configuration {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            bytes: [0; 16],
            rows: [0; 16],
        };
        configuration.bytes[..8].fill(64);
        configuration.rows[..8].fill(SIDE as u8);
        assert!(
            !TAKEN.replace(true),
            "this thread's tile registers are taken"
        );
        #[cfg(test)]
        if stand_in::is_needed() {
            return Self(PhantomData);
        }
        // SAFETY: reads 64 bytes; nobody else on this thread uses tiles, as just asserted.
        unsafe {
            asm!("ldtilecfg [{at}]", at = in(reg) &configuration, options(nostack, readonly));
        }
        Self(PhantomData)
    }

    /// `to = from + left · right` for two left and two right operands, each `depth` squares that lie one
    /// after another: a left square line by line, a right one word by word. What is added to and
    /// written are 32 by 32 floats, two squares below two, with a stride from row to row; one of
    /// zero reads the same row for all.
    ///
    /// # Safety
    /// `depth`, one at least, squares are readable at each operand; all rows at `from`, writable at `to`.
    #[inline(always)]
    pub(crate) unsafe fn multiply(
        &self,
        depth: usize,
        left: [*const f32; 2],
        right: [*const f32; 2],
        from: (*const f32, usize),
        to: (*mut f32, usize),
    ) {
        #[cfg(test)]
        if stand_in::is_needed() {
            // SAFETY: the caller's promise.
            return unsafe { stand_in::multiply(depth, left, right, from, to) };
        }
        // SAFETY: the caller's promise; the registers have their full size.
        unsafe { multiply_squares!("tdpbf16ps", depth, left, right, from, to) }
    }

    /// [`multiply`](Self::multiply) of bytes with sign, four to a word; sums are integers, as bits.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    pub(crate) unsafe fn multiply_bytes(
        &self,
        depth: usize,
        left: [*const f32; 2],
        right: [*const f32; 2],
        from: (*const f32, usize),
        to: (*mut f32, usize),
    ) {
        #[cfg(test)]
        if stand_in::is_needed() {
            // SAFETY: the caller's promise.
            return unsafe { stand_in::multiply_bytes(depth, left, right, from, to) };
        }
        // SAFETY: the caller's promise; the registers have their full size.
        unsafe { multiply_squares!("tdpbssd", depth, left, right, from, to) }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        TAKEN.set(false);
        #[cfg(test)]
        if stand_in::is_needed() {
            return;
        }
        // SAFETY: nobody else on this thread uses tiles: they were taken once.
        unsafe { asm!("tilerelease", options(nomem, nostack)) }
    }
}

#[cfg(test)]
pub(crate) mod stand_in;

#[cfg(test)]
mod tests {
    use super::*;

    /// Two small integers as two `bf16`, which hold them exactly.
    fn pair(low: i32, high: i32) -> f32 {
        let bits = |x: i32| (x as f32).to_bits() >> 16;
        f32::from_bits(bits(high) << 16 | bits(low))
    }

    #[test]
    fn one_row_is_added_to_every_row() {
        // 32 rows by 32 columns, the sum over 32 products.
        let ones = vec![pair(1, 1); 2 * SQUARE];
        let halves = [0, SQUARE].map(|at| ones[at..].as_ptr());
        let bias = [0.5_f32; 32];
        let mut sums = [0.0_f32; 32 * 32];
        // SAFETY: the registers are there, or what stands in for them, one square behind every pointer, and 32 rows at the last.
        unsafe {
            let to = (sums.as_mut_ptr(), 32);
            Tiles::take().multiply(1, halves, halves, (bias.as_ptr(), 0), to);
        }
        assert_eq!(sums, [32.5; 32 * 32]);
    }

    #[test]
    fn a_thread_takes_its_tile_registers_once() {
        // SAFETY: the registers are there, or what stands in for them.
        let take = || unsafe { Tiles::take() };
        let held = take();
        assert!(std::panic::catch_unwind(take).is_err());
        drop(held);
        drop(take());
    }

    #[test]
    fn squares_are_multiplied_and_added_to_what_is_there() {
        let depth = 3;
        let left = |row: usize, at: usize| (row * 7 + at * 5) as i32 % 9 - 4;
        let right = |column: usize, at: usize| (column * 3 + at * 11) as i32 % 7 - 3;
        // [half][square][16][16]: rows by words on the left, words by columns on the right.
        let words = 2 * depth * SQUARE;
        let (mut a, mut b) = (vec![0.0_f32; words], vec![0.0_f32; words]);
        for at in 0..words {
            let (square, i, j) = (at / SQUARE, at / SIDE % SIDE, at % SIDE);
            let (half, square) = (square / depth, square % depth);
            let (row, word) = (half * SIDE + i, square * SIDE + j);
            a[at] = pair(left(row, 2 * word), left(row, 2 * word + 1));
            let (word, column) = (square * SIDE + i, half * SIDE + j);
            b[at] = pair(right(column, 2 * word), right(column, 2 * word + 1));
        }
        let start: Vec<f32> = (0..1024).map(|at| at as f32).collect();
        let mut sums = vec![f32::NAN; 1024];
        let halves = |operand: &[f32]| [0, depth * SQUARE].map(|at| operand[at..].as_ptr());
        // SAFETY: the registers are there, or what stands in for them, `depth` squares behind every
        // pointer, 32 rows at the last.
        unsafe {
            Tiles::take().multiply(
                depth,
                halves(&a),
                halves(&b),
                (start.as_ptr(), 32),
                (sums.as_mut_ptr(), 32),
            );
        }
        for (at, sum) in sums.iter().enumerate() {
            let (row, column) = (at / 32, at % 32);
            let product: i32 = (0..32 * depth)
                .map(|k| left(row, k) * right(column, k))
                .sum();
            assert_eq!(*sum, (at as i32 + product) as f32, "{row}, {column}");
        }
    }
}
