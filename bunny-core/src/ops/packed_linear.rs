//! Products with weights of eight and four bits a number, and rows of them.
//!
//! On the processor they are the kernels of `bunny_kernels::quantized`, through burn-flex; on GPUs there
//! are kernels here.

#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod cubecl;
#[cfg(feature = "flex")]
mod flex;

use std::{fmt, str::FromStr};

pub use bunny_kernels::quantized::Activations;
use burn::tensor::{Bytes, DType, Int, Tensor, TensorData, backend::Backend};
#[cfg(any(feature = "cuda", feature = "wgpu"))]
use burn::{backend::Autodiff, tensor::backend::AutodiffBackend};

use super::{
    Phase,
    place::{Place, on_gpu},
};

/// How a packed weight is stored, as `bunny_kernels::quantized` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Packing {
    /// Bits of a number.
    pub bits: Bits,
    /// Numbers that share a scale: a multiple of 32.
    pub group: usize,
}

impl Packing {
    /// Numbers that share a scale unless told otherwise: as in most files of such weights.
    pub const GROUP: usize = 32;

    /// Numbers of so many bits in groups of the usual size.
    pub const fn new(bits: Bits) -> Self {
        Self {
            bits,
            group: Self::GROUP,
        }
    }
}

/// Bits of a number of a packed weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bits {
    /// From −127 to 127.
    Eight,
    /// From −8 to 7.
    Four,
}

impl Bits {
    /// What numbers of so many bits are called in options and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eight => "int8",
            Self::Four => "int4",
        }
    }
}

/// `int4` or `int8`, and the group where it is not the usual one: `int4:128`.
impl FromStr for Packing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (bits, group) = match text.split_once(':') {
            Some((bits, group)) => (bits, group.parse().ok()),
            None => (text, Some(Self::GROUP)),
        };
        let bits = [Bits::Eight, Bits::Four]
            .into_iter()
            .find(|known| known.name() == bits);
        match (bits, group) {
            (Some(bits), Some(group)) if group > 0 && group % Self::GROUP == 0 => {
                Ok(Self { bits, group })
            }
            _ => Err("expected int8 or int4, or a group too, a multiple of 32: int4:128".into()),
        }
    }
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.bits.name(), self.group)
    }
}

/// A packed weight's tensors, `[out, in]`.
#[derive(Debug, Clone)]
pub struct PackedTensors<B: Backend> {
    /// The codes, `[out, a row]`, held as [`packed_part`] does.
    pub codes: Tensor<B, 2, Int>,
    /// The scales, the bytes of f16, `[out, a row]`, held likewise.
    pub scales: Tensor<B, 2, Int>,
    /// Numbers of a row.
    pub inner: usize,
    /// How they are stored.
    pub packing: Packing,
}

/// Whether a backend has products with packed weights.
pub fn packs<B: Backend>() -> bool {
    Place::of::<B>() != Place::Other
}

/// Rows of codes or of scales as the kernels of a backend read them: bytes on the processor, words of 32
/// bits on a GPU.
///
/// # Shapes
/// `bytes` of `rows` rows → `[rows, a row]`
pub fn packed_part<B: Backend>(bytes: Bytes, rows: usize, device: &B::Device) -> Tensor<B, 2, Int> {
    on_gpu!(B;
        plain<_K> => cubecl::words(bytes, rows, device),
        autodiff<_K> => cubecl::words(bytes, rows, device),
        else => {
            let shape = [rows, bytes.len() / rows.max(1)];
            let data = TensorData::from_bytes(bytes, shape, DType::I8);
            Tensor::from_data(data, (device, DType::I8))
        },
    )
}

/// `y = x Wᵀ + b`, with the sums of a phase's rows. Gradients reach the input, and never the weight.
///
/// # Shapes
/// `[rows, in]`, `[out, in]`, `[out]` → `[rows, out]`
///
/// # Panics
/// On a backend that [has no such products](packs).
pub fn packed_linear<B: Backend>(
    phase: Phase,
    activations: Activations,
    input: Tensor<B, 2>,
    weight: PackedTensors<B>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 2> {
    on_gpu!(B;
        plain<K> => cubecl::linear::<B, K>(phase, input, weight, bias),
        autodiff<K> => biased(cubecl::tracked_linear::<B, K>(phase, input, weight), bias),
        else => match Place::of::<B>() {
            #[cfg(feature = "flex")]
            Place::Flex => flex::linear(phase, activations, input, weight, bias),
            #[cfg(feature = "flex")]
            Place::FlexAutodiff => {
                biased(flex::tracked_linear(phase, activations, input, weight), bias)
            }
            _ => unreachable!("no weight is packed for such a backend: {weight:?}, {activations:?}"),
        },
    )
}

/// A bias that may learn is a step of its own.
#[cfg(any(feature = "flex", feature = "cuda", feature = "wgpu"))]
fn biased<B: Backend>(output: Tensor<B, 2>, bias: Option<Tensor<B, 1>>) -> Tensor<B, 2> {
    match bias {
        Some(bias) => output + bias.unsqueeze(),
        None => output,
    }
}

/// The numbers that rows stand for, by number, as often as they are named.
///
/// # Shapes
/// `[out, in]` → `[rows, in]`, f32
///
/// # Panics
/// On a backend that [has no such products](packs), or when a row is not there.
pub fn packed_rows<B: Backend>(weight: PackedTensors<B>, rows: &[usize]) -> Tensor<B, 2> {
    let out = weight.codes.dims()[0];
    assert!(
        rows.iter().all(|row| *row < out),
        "rows are opened that are not there"
    );
    on_gpu!(B;
        plain<K> => raise(cubecl::rows::<B, K>(weight, rows)),
        autodiff<K> => raise(Autodiff::<K>::from_inner(cubecl::rows::<B, K>(weight, rows))),
        else => match Place::of::<B>() {
            #[cfg(feature = "flex")]
            Place::Flex | Place::FlexAutodiff => flex::rows(&weight, rows),
            _ => unreachable!("no weight is packed for such a backend: {weight:?} {rows:?}"),
        },
    )
}
