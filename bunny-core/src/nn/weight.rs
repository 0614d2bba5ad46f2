//! A weight of a product, in whichever format its numbers are held.
//!
//! What a format is stands here, and in the kernels that read it: a layer has a [`Weight`] and asks
//! it for products and rows, never for the type of its numbers.

mod packed;

use std::{fmt, ops::Range};

use burn::{
    module::{Module, Param},
    tensor::{DType, Tensor, backend::Backend},
};

use crate::ops::{self, Adapter, Bits, Operands, Packing, Phase};

pub use packed::PackedWeight;

/// The format in which the numbers of a weight are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WeightFormat {
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// The upper half of single precision.
    Bf16,
    /// Integers, a scale for each group of them.
    Packed(Packing),
}

impl WeightFormat {
    /// The format of floats of burn's type `dtype`, if there is one.
    pub const fn of_floats(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F32 => Some(Self::F32),
            DType::F16 => Some(Self::F16),
            DType::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    /// The float type of its numbers, or of what they stand for.
    pub const fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
            Self::Packed(_) => DType::F32,
        }
    }

    /// What it is called in options and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Packed(packing) => packing.bits.name(),
        }
    }

    /// How what is multiplied with such weights, and with what comes of them, may be rounded.
    pub const fn operands(self) -> Operands {
        match self {
            Self::Bf16 => Operands::Bf16,
            Self::F32 | Self::F16 | Self::Packed(_) => Operands::F32,
        }
    }

    /// Bytes that a weight of `rows` rows of `columns` numbers takes.
    pub const fn bytes(self, rows: usize, columns: usize) -> usize {
        match self {
            Self::Packed(Packing { bits, group }) => {
                let codes = match bits {
                    Bits::Eight => columns,
                    Bits::Four => 4 * columns.div_ceil(8),
                };
                rows * (codes + 2 * columns.div_ceil(group))
            }
            _ => rows * columns * self.dtype().size(),
        }
    }
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The weight of a product, `[out, in]` as published, whichever way its numbers are held.
///
/// The kernel of a convolution over patches is one of more dimensions, `[out, ...]`: its product sums
/// over all but the first.
#[derive(Module, Debug)]
#[non_exhaustive]
pub enum Weight<B: Backend, const D: usize = 2> {
    /// Floats. They are what can learn.
    Float(Param<Tensor<B, D>>),
    /// Integers with scales, of two dimensions.
    Packed(PackedWeight<B>),
}

impl<B: Backend, const D: usize> Weight<B, D> {
    /// Its sides. A weight that is not loaded yet is not loaded by this.
    pub fn dims(&self) -> [usize; D] {
        match self {
            Self::Float(weight) => weight.lazy_shape().dims(),
            Self::Packed(weight) => std::array::from_fn(|side| weight.dims()[side]),
        }
    }

    /// Its rows: the channels that come out.
    pub fn rows(&self) -> usize {
        self.dims()[0]
    }

    /// The numbers of a row: the channels that go in.
    pub fn columns(&self) -> usize {
        self.dims()[1..].iter().product()
    }

    /// The format of its numbers.
    pub fn format(&self) -> WeightFormat {
        match self {
            Self::Float(weight) => {
                let format = WeightFormat::of_floats(weight.val().dtype());
                format.expect("weights are floats of 16 or 32 bits")
            }
            Self::Packed(weight) => WeightFormat::Packed(weight.packing()),
        }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.format().bytes(self.rows(), self.columns())
    }

    /// Its numbers as floats: those that it holds, or what they stand for.
    pub fn floats(&self) -> Tensor<B, D> {
        match self {
            Self::Float(weight) => weight.val(),
            Self::Packed(weight) => {
                let rows: Vec<usize> = (0..weight.dims()[0]).collect();
                weight.rows(&rows).reshape(self.dims())
            }
        }
    }

    /// The same parameter with other numbers, `with` being given those that it has in f32. They are
    /// held in the type that those are.
    ///
    /// # Panics
    /// When it is packed: such weights do not learn.
    pub fn map_floats(self, with: impl FnOnce(Tensor<B, D>) -> Tensor<B, D>) -> Self {
        match self {
            Self::Float(weight) => {
                let old = weight.val();
                let dtype = old.dtype();
                let new = with(old.cast(DType::F32)).cast(dtype);
                Self::Float(Param::initialized(weight.id, new))
            }
            Self::Packed(_) => panic!("a packed weight does not learn"),
        }
    }

    /// `x Wᵀ + b` over the last dimension, with the sums of a phase's rows.
    ///
    /// # Shapes
    /// `[..., in]`, `[out]` → `[..., out]`
    pub fn linear<const N: usize>(
        &self,
        phase: Phase,
        input: Tensor<B, N>,
        bias: Option<Tensor<B, 1>>,
    ) -> Tensor<B, N> {
        over_rows(input, |rows| match self {
            Self::Float(weight) => ops::linear(phase, rows, matrix(weight), bias),
            Self::Packed(weight) => weight.linear(phase, None, rows, bias),
        })
    }

    /// [`linear`](Self::linear) with some of the rows alone.
    ///
    /// # Shapes
    /// `[..., in]`, `[range]` → `[..., range]`
    pub fn linear_rows<const N: usize>(
        &self,
        phase: Phase,
        range: Range<usize>,
        input: Tensor<B, N>,
        bias: Option<Tensor<B, 1>>,
    ) -> Tensor<B, N> {
        over_rows(input, |rows| match self {
            Self::Float(weight) => {
                let part = matrix(weight).narrow(0, range.start, range.len());
                ops::linear(phase, rows, part, bias)
            }
            Self::Packed(weight) => weight.linear(phase, Some(range), rows, bias),
        })
    }

    /// [`linear`](Self::linear), and what an adapter beside the weight adds.
    ///
    /// # Shapes
    /// `[..., in]`, `[out]` → `[..., out]`
    pub fn adapted_linear<const N: usize>(
        &self,
        phase: Phase,
        input: Tensor<B, N>,
        bias: Option<Tensor<B, 1>>,
        adapter: Adapter<B>,
    ) -> Tensor<B, N> {
        over_rows(input, |rows| match self {
            Self::Float(weight) => ops::adapted_linear(phase, rows, matrix(weight), bias, adapter),
            Self::Packed(weight) => {
                let output = weight.linear(phase, None, rows.clone(), bias);
                output + adapter.apply(phase, rows)
            }
        })
    }

    /// Rows by number, as often as they are named.
    ///
    /// # Shapes
    /// `ids` → `[ids, in]`
    pub fn token_rows(&self, ids: &[i32]) -> Tensor<B, 2> {
        match self {
            Self::Float(weight) => ops::token_rows(matrix(weight), ids),
            Self::Packed(weight) => {
                let rows: Vec<usize> = ids.iter().map(|id| *id as usize).collect();
                weight.rows(&rows)
            }
        }
    }

    /// The device that it lies on.
    pub fn device(&self) -> B::Device {
        match self {
            Self::Float(weight) => weight.lazy_device(),
            Self::Packed(weight) => weight.device(),
        }
    }
}

impl<B: Backend, const D: usize> From<Param<Tensor<B, D>>> for Weight<B, D> {
    fn from(floats: Param<Tensor<B, D>>) -> Self {
        Self::Float(floats)
    }
}

/// A weight as rows of columns.
fn matrix<B: Backend, const D: usize>(weight: &Param<Tensor<B, D>>) -> Tensor<B, 2> {
    let weight = weight.val();
    match D {
        // Another view would be a step of the graph.
        2 => Tensor::from_primitive(weight.into_primitive()),
        _ => {
            let rows = weight.dims()[0];
            let columns = weight.shape().num_elements() / rows.max(1);
            weight.reshape([rows, columns])
        }
    }
}

/// Applies `product` to the last dimension.
fn over_rows<B: Backend, const N: usize>(
    input: Tensor<B, N>,
    product: impl FnOnce(Tensor<B, 2>) -> Tensor<B, 2>,
) -> Tensor<B, N> {
    let mut shape = input.dims();
    let rows: usize = shape[..N - 1].iter().product();
    let output = product(input.reshape([rows, shape[N - 1]]));
    shape[N - 1] = output.dims()[1];
    output.reshape(shape)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::TensorData;
    use burn_flex::Flex;

    /// `[2, 3, 1, 2]`, numbers from 0 up.
    fn kernel(dtype: DType) -> Weight<Flex, 4> {
        let numbers: Vec<f32> = (0..12).map(|at| at as f32).collect();
        let data = TensorData::new(numbers, [2, 3, 1, 2]);
        let tensor: Tensor<Flex, 4> = Tensor::from_data(data, (&Default::default(), DType::F32));
        Param::from_tensor(tensor.cast(dtype)).into()
    }

    fn numbers<const D: usize>(tensor: Tensor<Flex, D>) -> Vec<f32> {
        tensor.into_data().iter().collect()
    }

    #[test]
    fn a_weight_says_its_sides_its_format_and_its_bytes() {
        for (dtype, format, name, bytes) in [
            (DType::F32, WeightFormat::F32, "f32", 48),
            (DType::F16, WeightFormat::F16, "f16", 24),
            (DType::BF16, WeightFormat::Bf16, "bf16", 24),
        ] {
            let weight = kernel(dtype);
            assert_eq!(weight.dims(), [2, 3, 1, 2]);
            assert_eq!((weight.rows(), weight.columns()), (2, 6));
            assert_eq!((weight.format(), weight.bytes()), (format, bytes));
            assert_eq!(format.to_string(), name);
            assert_eq!(format.dtype(), dtype);
        }
    }

    #[test]
    fn a_kernel_of_more_dimensions_sums_over_all_but_the_first() {
        let input = Tensor::<Flex, 3>::ones([1, 2, 6], &Default::default());
        let bias = Tensor::from_data([100.0, 200.0], &Default::default());
        let weight = kernel(DType::F32);
        // 0 + 1 + … + 5, and 6 + … + 11.
        let output = weight.linear(Phase::Whole, input.clone(), Some(bias.clone()));
        assert_eq!(output.dims(), [1, 2, 2]);
        assert_eq!(numbers(output), [115.0, 251.0, 115.0, 251.0]);
        let second = weight.linear_rows(Phase::Whole, 1..2, input, Some(bias.narrow(0, 1, 1)));
        assert_eq!(numbers(second), [251.0, 251.0]);
        let rows = weight.token_rows(&[1, 0, 1]);
        assert_eq!(rows.dims(), [3, 6]);
        assert_eq!(numbers(rows)[..7], [6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 0.0]);
    }

    #[test]
    fn other_numbers_keep_the_parameter_and_its_type() {
        let weight = kernel(DType::BF16);
        let id = |weight: &Weight<Flex, 4>| match weight {
            Weight::Float(param) => param.id,
            Weight::Packed(_) => panic!("it was not packed"),
        };
        let before = id(&weight);
        let doubled = weight.map_floats(|floats| {
            assert_eq!(floats.dtype(), DType::F32);
            floats * 2.0
        });
        assert_eq!(id(&doubled), before);
        assert_eq!(doubled.format(), WeightFormat::Bf16);
        assert_eq!(numbers(doubled.floats())[11], 22.0);
    }
}
