//! Matrices as they lie in memory, line by line, whatever stands there for their numbers.

use crate::simd::{Element, Simd};

/// A matrix that products read a register of numbers at a time.
pub(crate) trait Lines: Copy + Send + Sync {
    /// # Panics
    /// Unless it has `lines` lines of `width` numbers.
    fn assert_sides(&self, lines: usize, width: usize, what: &str);

    /// `n` numbers of a line from `from` on, a register's at most; zeros beyond.
    ///
    /// # Panics
    /// Where there are none.
    fn load<S: Simd>(&self, s: S, line: usize, from: usize, n: usize) -> S::V;

    /// Where a number lies, or would lie if there were one: tile registers have it fetched ahead.
    #[cfg(target_arch = "x86_64")]
    fn place(&self, line: usize, at: usize) -> *const u8;
}

/// Floats, `stride` from the beginning of a line to that of the next.
#[derive(Clone, Copy)]
pub(crate) struct Floats<'a, E> {
    pub(crate) data: &'a [E],
    pub(crate) stride: usize,
}

impl<E: Element> Lines for Floats<'_, E> {
    fn assert_sides(&self, lines: usize, width: usize, what: &str) {
        assert!(
            self.stride == width && self.data.len() == lines * width,
            "{what}: {} numbers in lines of {} are no {lines} x {width}",
            self.data.len(),
            self.stride,
        );
    }

    #[inline(always)]
    fn load<S: Simd>(&self, s: S, line: usize, from: usize, n: usize) -> S::V {
        if n == 0 {
            return s.zero();
        }
        let at = line * self.stride + from;
        let from = &self.data[at..at + n];
        // SAFETY: `n` elements are readable.
        unsafe {
            if n == S::LANES {
                E::load(s, from.as_ptr())
            } else {
                E::load_head(s, from.as_ptr(), n)
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn place(&self, line: usize, at: usize) -> *const u8 {
        self.data
            .as_ptr()
            .wrapping_add(line * self.stride + at)
            .cast()
    }
}
