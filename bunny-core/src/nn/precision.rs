//! In which number types a model is held and computed.

use std::fmt;

use bunny_weights::StoredDtype;
use burn::tensor::DType;

use super::ParameterKind;

/// The number types of a model's weights and of its activations.
///
/// Norms, softmax, rotary angles, logits and losses are f32 whatever is chosen here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precision {
    /// The type in which the weights of products and embeddings are held.
    pub weights: DType,
    /// The type of the activations between them.
    pub compute: DType,
    /// The largest block of a token table, in bytes: tables are split into blocks of rows that
    /// the device's buffers take.
    pub table_limit: usize,
}

impl Precision {
    /// f32 throughout: the type of every agreement with the reference.
    pub const F32: Self = Self {
        weights: DType::F32,
        compute: DType::F32,
        table_limit: usize::MAX,
    };

    /// Weights in `dtype`, activations in f32: what CPUs do best, since they read half the bytes
    /// and multiply in full precision.
    pub const fn weights_only(dtype: DType) -> Self {
        Self {
            weights: dtype,
            ..Self::F32
        }
    }

    /// Weights and activations in `dtype`: what GPUs do best.
    pub const fn uniform(dtype: DType) -> Self {
        Self {
            weights: dtype,
            compute: dtype,
            ..Self::F32
        }
    }

    /// The type in which parameters of this kind are held.
    pub fn of(self, kind: ParameterKind) -> DType {
        match kind {
            ParameterKind::Product | ParameterKind::Table => self.weights,
            ParameterKind::Addend | ParameterKind::Bias => self.compute,
            ParameterKind::Norm => DType::F32,
        }
    }

    /// The same with token tables split into blocks of at most `bytes`.
    pub const fn with_table_limit(self, bytes: usize) -> Self {
        Self {
            table_limit: bytes,
            ..self
        }
    }
}

/// `f32`, or `bf16 weights, f32 activations` where they differ.
impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (weights, compute) = (self.weights.name(), self.compute.name());
        match weights == compute {
            true => f.write_str(weights),
            false => write!(f, "{weights} weights, {compute} activations"),
        }
    }
}

/// burn's name for a type of stored numbers, if it is a float.
pub fn held_as(stored: StoredDtype) -> Option<DType> {
    match stored {
        StoredDtype::F64 => Some(DType::F64),
        StoredDtype::F32 => Some(DType::F32),
        StoredDtype::F16 => Some(DType::F16),
        StoredDtype::BF16 => Some(DType::BF16),
        _ => None,
    }
}

/// The type in which files hold numbers of burn's type `dtype`, if it is a float of a file.
pub fn stored_as(dtype: DType) -> Option<StoredDtype> {
    match dtype {
        DType::F64 => Some(StoredDtype::F64),
        DType::F32 => Some(StoredDtype::F32),
        DType::F16 => Some(StoredDtype::F16),
        DType::BF16 => Some(StoredDtype::BF16),
        _ => None,
    }
}
