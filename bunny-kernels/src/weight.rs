//! The types in which weights, keys and values are stored.

use std::ops::Range;

use half::{bf16, f16};

/// A weight's elements, in whatever type they are stored.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum WeightRef<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision.
    F16(&'a [f16]),
    /// The upper half of single precision.
    Bf16(&'a [bf16]),
}

/// Runs `$body` with `$slice` bound to the elements, whatever their type.
macro_rules! with_elements {
    ($weight:expr, $slice:ident => $body:expr) => {
        match $weight {
            WeightRef::F32($slice) => $body,
            WeightRef::F16($slice) => $body,
            WeightRef::Bf16($slice) => $body,
        }
    };
}
pub(crate) use with_elements;

impl WeightRef<'_> {
    /// Some of the elements.
    pub(crate) fn slice(&self, part: Range<usize>) -> Self {
        match *self {
            Self::F32(w) => Self::F32(&w[part]),
            Self::F16(w) => Self::F16(&w[part]),
            Self::Bf16(w) => Self::Bf16(&w[part]),
        }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        with_elements!(self, w => w.len())
    }

    /// The bytes of one.
    pub(crate) fn element_bytes(&self) -> usize {
        match self {
            Self::F32(_) => 4,
            Self::F16(_) | Self::Bf16(_) => 2,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
