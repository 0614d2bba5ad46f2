//! Which backend, and with which numbers.

use bunny_core::nn::{Activations, Packing};
use clap::{
    ValueEnum,
    builder::{EnumValueParser, TypedValueParser},
};

/// A backend by the name people give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BackendName {
    /// The processor, through burn-flex and the kernels of bunny-core.
    Cpu,
    /// The processor, through ndarray: for comparison.
    Ndarray,
    /// Any adapter that wgpu finds.
    Wgpu,
    /// An NVIDIA GPU.
    Cuda,
}

/// A number type by the name people give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DtypeName {
    /// What suits the backend and the checkpoint.
    Auto,
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 16-bit floats with f32's range.
    Bf16,
}

/// Which backend, and with which numbers.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct BackendArgs {
    /// Where to compute
    #[arg(long, value_parser = built_in(), default_value = default_backend())]
    pub backend: BackendName,
    /// Number type of the weights; `auto` keeps the checkpoint's on a CPU, takes bf16 on CUDA and
    /// f32 on wgpu
    #[arg(long, value_enum, default_value = "auto")]
    pub dtype: DtypeName,
    /// Holds the language model in integers: int8 or int4, with a group of numbers to a scale where that
    /// is not 32: int4:128
    #[arg(long, value_name = "FORMAT")]
    pub weights: Option<Packing>,
    /// Holds vision tower and projector in integers of eight bits
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub vision_weights: Option<EightBits>,
    /// Keeps keys and values in integers of eight bits, a scale a position and head, on the processor: a
    /// little more than half of the memory that 16 bits take
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub kv_cache_dtype: Option<EightBits>,
    /// How prompts are multiplied with integers, on the processor
    #[arg(long, value_enum, default_value = "int8")]
    pub activations: ActivationsName,
}

/// Integers that have eight bits wherever they serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EightBits {
    /// Eight bits and a scale for each group of numbers.
    Int8,
}

/// How numbers are rounded that are multiplied with integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ActivationsName {
    /// Not at all.
    F32,
    /// To 16 bits with f32's range.
    Bf16,
    /// To 8 bits, with a scale for every 256 numbers.
    Int8,
}

impl From<ActivationsName> for Activations {
    fn from(name: ActivationsName) -> Self {
        match name {
            ActivationsName::F32 => Self::F32,
            ActivationsName::Bf16 => Self::Bf16,
            ActivationsName::Int8 => Self::Int8,
        }
    }
}

/// The name that people give.
pub fn activations_name(activations: Activations) -> &'static str {
    match activations {
        Activations::Bf16 => "bf16",
        Activations::Int8 => "int8",
        _ => "f32",
    }
}

impl BackendName {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Ndarray, Self::Wgpu, Self::Cuda];

    /// That name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Ndarray => "ndarray",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
        }
    }

    /// The cargo feature that builds it.
    pub fn feature(self) -> &'static str {
        match self {
            Self::Cpu => "flex",
            other => other.name(),
        }
    }

    /// Whether this program has it.
    pub fn is_built_in(self) -> bool {
        match self {
            Self::Cpu => cfg!(feature = "flex"),
            Self::Ndarray => cfg!(feature = "ndarray"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Cuda => cfg!(feature = "cuda"),
        }
    }

    /// What is said where it is not built in.
    pub fn how_to_build(self) -> String {
        format!(
            "not built in: build it with `cargo install --path bunny-cli --features {}`",
            self.feature()
        )
    }
}

/// Takes the name of a backend that is built in: of another it is said how to build it, before anything
/// else is done.
fn built_in() -> impl TypedValueParser<Value = BackendName> {
    EnumValueParser::<BackendName>::new().try_map(|name| match name.is_built_in() {
        true => Ok(name),
        false => Err(name.how_to_build()),
    })
}

/// The first backend that is built in, in the order in which people want them.
fn default_backend() -> &'static str {
    if cfg!(feature = "flex") {
        "cpu"
    } else if cfg!(feature = "cuda") {
        "cuda"
    } else if cfg!(feature = "wgpu") {
        "wgpu"
    } else {
        "ndarray"
    }
}
