//! What files store: tensors of numbers.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

/// A number type in which files store tensors. The order is that in which the safetensors library
/// lays tensors out, from the last to the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum StoredDtype {
    /// One byte, 0 or 1.
    Bool,
    /// 8-bit integer without sign.
    U8,
    /// 8-bit integer.
    I8,
    /// 16-bit integer.
    I16,
    /// 16-bit float of IEEE 754.
    F16,
    /// 16-bit float with the exponent of 32 bits.
    BF16,
    /// 32-bit integer.
    I32,
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// 64-bit integer.
    I64,
}

impl StoredDtype {
    const ALL: [Self; 10] = [
        Self::Bool,
        Self::U8,
        Self::I8,
        Self::I16,
        Self::F16,
        Self::BF16,
        Self::I32,
        Self::F32,
        Self::F64,
        Self::I64,
    ];

    /// Bytes of one number.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// The name that safetensors files give it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::I64 => "I64",
            Self::I32 => "I32",
            Self::I16 => "I16",
            Self::I8 => "I8",
            Self::U8 => "U8",
            Self::Bool => "BOOL",
        }
    }

    /// The name that torch gives it, as `config.json` has it.
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F64 => "float64",
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
            Self::I64 => "int64",
            Self::I32 => "int32",
            Self::I16 => "int16",
            Self::I8 => "int8",
            Self::U8 => "uint8",
            Self::Bool => "bool",
        }
    }

    /// Whether it is a float: what weights are made of.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16)
    }

    pub(crate) fn from_safetensors(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }
}

/// A tensor as a file stores it.
#[derive(Debug, Clone)]
pub struct StoredTensor {
    /// Its name in the file.
    pub name: String,
    /// The type of its numbers.
    pub dtype: StoredDtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its numbers: little endian, contiguous, row-major; part of the mapped file where possible,
    /// and then at whatever address the file places them.
    pub bytes: Bytes,
    /// The file it is from.
    pub file: Arc<Path>,
}

impl StoredTensor {
    /// Whether the bytes may be used in place as numbers of their type.
    pub fn is_aligned(&self) -> bool {
        self.bytes.as_ptr().addr().is_multiple_of(self.dtype.size())
    }
}
