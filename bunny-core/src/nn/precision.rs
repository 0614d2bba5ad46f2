//! In which number types a model is held and computed.

use std::fmt;

use bunny_weights::StoredDtype;
use burn::tensor::{DType, backend::Backend};

use super::{ParameterKind, ParameterSpec, Part, WeightFormat};
use crate::ops::{Activations, Bits, Hardware, Packing};

/// The number types of a model's weights and of its activations.
///
/// Norms, softmax, rotary angles, logits and losses are f32 whatever is chosen here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precision {
    /// The format in which the weights of products and embeddings are held.
    pub weights: WeightFormat,
    /// In which integers the language model's products and tables are held instead, if in any: tables,
    /// the head among them, in eight bits. Such weights do not learn.
    pub packing: Option<Packing>,
    /// Whether tower and projector are held in eight bits. Never in four: small letters are lost first.
    pub vision_int8: bool,
    /// Whether keys and values are kept in eight bits, a scale a position and head, where the backend
    /// [narrows](crate::ops::narrows_cache) its cache.
    pub cache_int8: bool,
    /// How products of many rows with integers round what is multiplied.
    pub activations: Activations,
    /// The type of the activations between them.
    pub compute: DType,
    /// The largest block of a token table, in bytes: tables are split into blocks of rows that
    /// the device's buffers take.
    pub table_limit: usize,
}

impl Precision {
    /// f32 throughout: the type of every agreement with the reference.
    pub const F32: Self = Self {
        weights: WeightFormat::F32,
        packing: None,
        vision_int8: false,
        cache_int8: false,
        activations: Activations::Int8,
        compute: DType::F32,
        table_limit: usize::MAX,
    };

    /// Weights in `format`, activations in f32: what CPUs do best, since they read fewer bytes and
    /// multiply in full precision.
    pub const fn weights_only(format: WeightFormat) -> Self {
        Self {
            weights: format,
            ..Self::F32
        }
    }

    /// Weights in `format`, activations in its float type: what GPUs do best.
    pub const fn uniform(format: WeightFormat) -> Self {
        Self {
            weights: format,
            compute: format.dtype(),
            ..Self::F32
        }
    }

    /// What suits a device and weights that are stored in format `stored`: on the processor, through
    /// burn-flex, weights of fewer than 32 bits stay as they are and are multiplied in f32; CUDA
    /// computes in bf16; all else in f32.
    ///
    /// # Panics
    /// As burn does where wgpu finds no adapter.
    #[cfg_attr(
        not(feature = "flex"),
        allow(unused_variables, reason = "no other backend keeps what is stored")
    )]
    pub fn suited<B: Backend>(device: &B::Device, stored: WeightFormat) -> Self {
        let weights = match Hardware::of::<B>(device) {
            #[cfg(feature = "flex")]
            Hardware::Processor => stored,
            #[cfg(feature = "cuda")]
            Hardware::Cuda => WeightFormat::Bf16,
            _ => WeightFormat::F32,
        };
        Self::holding::<B>(device, weights)
    }

    /// Weights in `format`, and what else suits a device: GPUs compute in the type of the weights,
    /// processors in f32; token tables are split where a device's buffers are too small for them.
    ///
    /// # Panics
    /// As burn does where wgpu finds no adapter.
    pub fn holding<B: Backend>(device: &B::Device, format: WeightFormat) -> Self {
        match Hardware::of::<B>(device) {
            #[cfg(feature = "cuda")]
            Hardware::Cuda => Self::uniform(format),
            #[cfg(feature = "wgpu")]
            Hardware::Wgpu { largest_buffer } => {
                Self::uniform(format).with_table_limit(largest_buffer)
            }
            _ => Self::weights_only(format),
        }
    }

    /// The float type of parameters of this kind.
    pub fn of(self, kind: ParameterKind) -> DType {
        match kind {
            ParameterKind::Product | ParameterKind::Table => self.weights.dtype(),
            ParameterKind::Addend | ParameterKind::Bias => self.compute,
            ParameterKind::Norm => DType::F32,
        }
    }

    /// The same with the language model in integers.
    pub const fn packed(self, packing: Option<Packing>) -> Self {
        Self { packing, ..self }
    }

    /// In which integers a weight is held, if it is packed.
    pub(crate) fn packing_of(self, spec: &ParameterSpec) -> Option<Packing> {
        let packing = match spec.part {
            Part::LanguageModel => self.packing?,
            Part::VisionTower | Part::Projector => {
                self.vision_int8.then_some(Packing::new(Bits::Eight))?
            }
        };
        match spec.kind {
            ParameterKind::Product => Some(packing),
            // What is said hangs on these more than on anything else.
            ParameterKind::Table => Some(Packing {
                bits: Bits::Eight,
                ..packing
            }),
            _ => None,
        }
    }

    /// Bytes of the parameters that `specs` describe.
    pub fn bytes<'a>(self, specs: impl IntoIterator<Item = &'a ParameterSpec>) -> u64 {
        let bytes = |spec: &ParameterSpec| match (self.packing_of(spec), &spec.shape[..]) {
            (Some(packing), [rows, columns @ ..]) => {
                WeightFormat::Packed(packing).bytes(*rows, columns.iter().product()) as u64
            }
            _ => spec.count() * self.of(spec.kind).size() as u64,
        };
        specs.into_iter().map(bytes).sum()
    }

    /// The same with token tables split into blocks of at most `bytes`.
    pub const fn with_table_limit(self, bytes: usize) -> Self {
        Self {
            table_limit: bytes,
            ..self
        }
    }
}

/// `f32`, or `bf16 weights, f32 activations` where they differ; `int4:32 language model` before it where
/// it is packed.
impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(packing) = self.packing {
            write!(f, "{packing} language model, ")?;
        }
        if self.vision_int8 {
            f.write_str("int8 tower, ")?;
        }
        if self.cache_int8 {
            f.write_str("int8 cache, ")?;
        }
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

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::backend::Autodiff;
    use burn_flex::Flex;

    use super::*;

    #[test]
    fn a_processor_keeps_16_bit_weights_and_computes_in_f32() {
        for stored in [WeightFormat::F16, WeightFormat::Bf16, WeightFormat::F32] {
            let device = Default::default();
            let suited = Precision::suited::<Flex>(&device, stored);
            assert_eq!(suited, Precision::weights_only(stored));
            let learning = Precision::suited::<Autodiff<Flex>>(&device, stored);
            assert_eq!(learning, suited);
        }
    }

    #[cfg(feature = "ndarray")]
    #[test]
    fn ndarray_computes_in_f32() {
        use burn_ndarray::NdArray;

        let suited = Precision::suited::<NdArray>(&Default::default(), WeightFormat::Bf16);
        assert_eq!(suited, Precision::F32);
    }
}
