//! What the processor has.

use super::frame::Block;
use super::transform::{self, Samples};

/// Which code runs; all gives the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Plain,
    /// Found by [`Level::detect`], and not to be made otherwise.
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Level {
    pub(super) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            return Self::Avx2;
        }
        Self::Plain
    }

    /// [`transform::inverse`], or less where a block has the first coefficient alone.
    #[inline(always)]
    pub(super) fn inverse(self, block: &Block, is_flat: bool, steps: &Block) -> Samples {
        if is_flat {
            return [transform::inverse_flat(block[0], steps[0]); 64];
        }
        match self {
            Self::Plain => transform::inverse(block, steps),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the level was found on this processor.
            Self::Avx2 => unsafe { transform::avx2::inverse(block, steps) },
        }
    }
}
