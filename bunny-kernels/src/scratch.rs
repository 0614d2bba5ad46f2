//! Working memory of the kernels, and outputs that several tasks write at once.

use core::marker::PhantomData;

/// One cache line, so that aligned vectors never straddle two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Zeroed floats that begin at a cache line.
pub(crate) struct Scratch {
    lines: Vec<Line>,
}

impl Scratch {
    pub(crate) fn new(floats: usize) -> Self {
        Self {
            lines: vec![Line([0.0; 16]); floats.div_ceil(16)],
        }
    }

    pub(crate) fn as_ptr(&self) -> *const f32 {
        self.lines.as_ptr().cast()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.lines.as_mut_ptr().cast()
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        // SAFETY: a line is sixteen floats.
        unsafe { core::slice::from_raw_parts(self.as_ptr(), self.lines.len() * 16) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: a line is sixteen floats.
        unsafe { core::slice::from_raw_parts_mut(self.as_mut_ptr(), self.lines.len() * 16) }
    }
}

/// Floats that begin at a cache line and are nothing yet: whoever reads one has written it.
#[cfg(target_arch = "x86_64")]
pub(crate) struct Unset {
    lines: Box<[core::mem::MaybeUninit<Line>]>,
}

#[cfg(target_arch = "x86_64")]
impl Unset {
    pub(crate) fn new(floats: usize) -> Self {
        Self {
            lines: Box::new_uninit_slice(floats.div_ceil(16)),
        }
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.lines.as_mut_ptr().cast()
    }
}

/// A pointer into an output of which every task writes a part of its own.
///
/// It holds the output for as long as it lives, as a `&mut` would.
#[derive(Debug)]
pub(crate) struct Shared<'a, T>(*mut T, PhantomData<&'a mut [T]>);

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<'_, T> {}

// SAFETY: it is only a pointer; who dereferences it promises that tasks keep to disjoint parts.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self(slice.as_mut_ptr(), PhantomData)
    }

    pub(crate) fn get(self) -> *mut T {
        self.0
    }

    /// `n` elements from `at` on.
    ///
    /// # Safety
    /// They exist, and nobody else holds them meanwhile.
    pub(crate) unsafe fn part(self, at: usize, n: usize) -> &'a mut [T] {
        // SAFETY: the caller's promise.
        unsafe { core::slice::from_raw_parts_mut(self.0.add(at), n) }
    }
}
