//! Products with weights of eight and four bits a number, and rows of them.
//!
//! They are the kernels' of `bunny_kernels::quantized`, and so the processor's, through burn-flex.

#[cfg(feature = "flex")]
mod flex;

use std::{fmt, str::FromStr};

pub use bunny_kernels::quantized::Activations;
use burn::tensor::{Int, Tensor, backend::Backend};

use super::{Phase, place::Place};

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
    /// The codes, `[out, bytes of a row]`, bytes.
    pub codes: Tensor<B, 2, Int>,
    /// The scales, `[out, 2 * groups]`, the bytes of f16.
    pub scales: Tensor<B, 2, Int>,
    /// Numbers of a row.
    pub inner: usize,
    /// How they are stored.
    pub packing: Packing,
}

/// Whether a backend has products with packed weights.
pub fn packs<B: Backend>() -> bool {
    match Place::of::<B>() {
        #[cfg(feature = "flex")]
        Place::Flex | Place::FlexAutodiff => true,
        _ => false,
    }
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
    match Place::of::<B>() {
        #[cfg(feature = "flex")]
        Place::Flex => flex::linear(phase, activations, input, weight, bias),
        #[cfg(feature = "flex")]
        Place::FlexAutodiff => {
            let output = flex::tracked_linear(phase, activations, input, weight);
            match bias {
                Some(bias) => output + bias.unsqueeze(),
                None => output,
            }
        }
        _ => unreachable!("no weight is packed for such a backend: {weight:?}, {phase:?}"),
    }
}

/// The numbers that rows stand for, by number, as often as they are named.
///
/// # Shapes
/// `[out, in]` → `[rows, in]`, f32
///
/// # Panics
/// On a backend that [has no such products](packs).
pub fn packed_rows<B: Backend>(weight: PackedTensors<B>, rows: &[usize]) -> Tensor<B, 2> {
    match Place::of::<B>() {
        #[cfg(feature = "flex")]
        Place::Flex | Place::FlexAutodiff => flex::rows(&weight, rows),
        _ => unreachable!("no weight is packed for such a backend: {weight:?} {rows:?}"),
    }
}
