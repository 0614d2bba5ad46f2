//! Number types that weights are written in.

use bunny_core::{checkpoint::OpenModel, nn::WeightFormat};
use bunny_weights::StoredDtype;
use clap::ValueEnum;

/// A number type of weights in files, by the name people give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FloatName {
    /// Half precision, as most models are published.
    F16,
    /// With f32's range.
    Bf16,
    /// Nothing is rounded.
    F32,
}

impl From<FloatName> for StoredDtype {
    fn from(name: FloatName) -> Self {
        match name {
            FloatName::F16 => Self::F16,
            FloatName::Bf16 => Self::BF16,
            FloatName::F32 => Self::F32,
        }
    }
}

/// The type that most of a model's numbers have.
pub fn own_dtype(open: &OpenModel) -> StoredDtype {
    match open.weights.stored_format() {
        WeightFormat::F16 => StoredDtype::F16,
        WeightFormat::Bf16 => StoredDtype::BF16,
        _ => StoredDtype::F32,
    }
}
