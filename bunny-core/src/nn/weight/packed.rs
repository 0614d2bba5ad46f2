//! A weight of eight or four bits a number.

use bunny_kernels::{
    WeightRef,
    quantized::{Coding, Quantized, QuantizedError, quantize},
};
use bunny_weights::{convert, packed::PackedRows};
use burn::{
    module::{Module, Param, ParamId},
    tensor::{AllocationProperty, Bytes, DType, Int, Tensor, backend::Backend},
};

use crate::{
    nn::stored_as,
    ops::{
        Activations, Bits, PackedTensors, Packing, Phase, packed_linear, packed_part, packed_rows,
    },
};

/// Integers with a scale for each group of them: see `bunny_kernels::quantized` for the layout.
///
/// It does not learn; gradients go through it to what it is multiplied with.
#[derive(Module, Debug)]
pub struct PackedWeight<B: Backend> {
    /// `[out, a row]`, as [`packed_part`] holds them.
    codes: Param<Tensor<B, 2, Int>>,
    /// The bytes of f16, `[out, a row]`, held likewise.
    scales: Param<Tensor<B, 2, Int>>,
    /// Numbers of a row.
    inner: usize,
    #[module(skip)]
    packing: Packing,
    #[module(skip)]
    activations: Activations,
}

impl<B: Backend> PackedWeight<B> {
    /// Rounds the numbers of a weight of this shape, of burn's type `dtype`, to the nearest that
    /// `packing` has.
    ///
    /// # Errors
    /// When a number is not finite, or a group's scale beyond f16.
    pub(crate) fn rounded(
        numbers: &[u8],
        dtype: DType,
        shape: [usize; 2],
        packing: Packing,
        activations: Activations,
        device: &B::Device,
    ) -> Result<Self, QuantizedError> {
        let coding = match packing.bits {
            Bits::Eight => Coding::Int8,
            Bits::Four => Coding::Int4,
        };
        let in_place = match dtype {
            DType::F32 => bytemuck::try_cast_slice(numbers).map(WeightRef::F32),
            DType::F16 => bytemuck::try_cast_slice(numbers).map(WeightRef::F16),
            DType::BF16 => bytemuck::try_cast_slice(numbers).map(WeightRef::Bf16),
            other => unreachable!("weights are floats of 16 or 32 bits, and not {other:?}"),
        };
        // A file may hold them at any byte.
        let moved;
        let numbers = match in_place {
            Ok(numbers) => numbers,
            Err(_) => {
                let stored = stored_as(dtype).and_then(|stored| convert::to_f32(numbers, stored));
                moved = stored.expect("the type is a float");
                WeightRef::F32(&moved)
            }
        };
        let Quantized { codes, scales, .. } = quantize(numbers, shape, coding, packing.group)?;
        let [codes, scales] = [Bytes::from_elems(codes), Bytes::from_elems(scales)];
        Ok(Self::of_bytes(
            codes,
            scales,
            shape,
            packing,
            activations,
            device,
        ))
    }

    /// Rows of a file, which they are still part of where they can be.
    pub(crate) fn stored(
        rows: PackedRows,
        shape: [usize; 2],
        packing: Packing,
        activations: Activations,
        device: &B::Device,
    ) -> Self {
        let mapped = |bytes| Bytes::from_shared(bytes, AllocationProperty::File);
        let [codes, scales] = [mapped(rows.codes), mapped(rows.scales)];
        Self::of_bytes(codes, scales, shape, packing, activations, device)
    }

    fn of_bytes(
        codes: Bytes,
        scales: Bytes,
        [out, inner]: [usize; 2],
        packing: Packing,
        activations: Activations,
        device: &B::Device,
    ) -> Self {
        // They stay for the whole run: a pool for such tensors keeps them apart from what comes and goes.
        let part = |bytes: Bytes| {
            let hold = |bytes| packed_part::<B>(bytes, out, device);
            let tensor = B::memory_persistent_allocations(device, bytes, hold);
            Param::initialized(ParamId::new(), tensor)
        };
        Self {
            codes: part(codes),
            scales: part(scales),
            inner,
            packing,
            activations,
        }
    }

    /// Its sides.
    pub fn dims(&self) -> [usize; 2] {
        [self.codes.val().dims()[0], self.inner]
    }

    /// How it is stored.
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        let bytes = |tensor: &Param<Tensor<B, 2, Int>>| {
            let tensor = tensor.val();
            tensor.shape().num_elements() * tensor.dtype().size()
        };
        bytes(&self.codes) + bytes(&self.scales)
    }

    /// The device that it lies on.
    pub fn device(&self) -> B::Device {
        self.codes.val().device()
    }

    fn tensors(&self) -> PackedTensors<B> {
        PackedTensors {
            codes: self.codes.val(),
            scales: self.scales.val(),
            inner: self.inner,
            packing: self.packing,
        }
    }

    /// The numbers that rows stand for, `[rows, in]`, f32.
    pub(super) fn rows(&self, rows: &[usize]) -> Tensor<B, 2> {
        packed_rows(self.tensors(), rows)
    }

    /// `x Wᵀ + b`; of `range` alone, where one is given.
    pub(super) fn linear(
        &self,
        phase: Phase,
        range: Option<std::ops::Range<usize>>,
        input: Tensor<B, 2>,
        bias: Option<Tensor<B, 1>>,
    ) -> Tensor<B, 2> {
        let mut tensors = self.tensors();
        if let Some(range) = range {
            tensors.codes = tensors.codes.narrow(0, range.start, range.len());
            tensors.scales = tensors.scales.narrow(0, range.start, range.len());
        }
        packed_linear(phase, self.activations, input, tensors, bias)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use bunny_base::random::mix_all;
    use burn::{backend::Autodiff, tensor::TensorData};
    use burn_flex::Flex;

    use super::*;
    use crate::nn::Weight;

    /// Numbers within 1 that look random.
    fn draw(seed: u64, count: usize) -> Vec<f32> {
        let number = |at| (mix_all(&[seed, at]) >> 40) as f32 / (1 << 23) as f32 - 1.0;
        (0..count as u64).map(number).collect()
    }

    fn packed<B: Backend>(bits: Bits, [out, inner]: [usize; 2]) -> Weight<B> {
        let numbers = draw(1, out * inner);
        let packed = PackedWeight::rounded(
            bytemuck::cast_slice(&numbers),
            DType::F32,
            [out, inner],
            Packing::new(bits),
            Activations::F32,
            &Default::default(),
        );
        Weight::Packed(packed.unwrap())
    }

    fn tensor<B: Backend>(seed: u64, sides: [usize; 2]) -> Tensor<B, 2> {
        let data = TensorData::new(draw(seed, sides[0] * sides[1]), sides);
        Tensor::from_data(data, &Default::default())
    }

    fn numbers<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
        tensor.into_data().iter().collect()
    }

    /// The largest difference, as a share of the largest number.
    fn off(found: &[f32], expected: &[f32]) -> f32 {
        assert_eq!(found.len(), expected.len());
        let largest = |numbers: &mut dyn Iterator<Item = f32>| numbers.fold(0f32, f32::max);
        let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
        largest(&mut { differences }) / largest(&mut expected.iter().map(|number| number.abs()))
    }

    #[test]
    fn a_packed_weight_is_near_what_it_was_and_takes_its_bits() {
        // Groups whose numbers lie within 1 have steps of 1/127 and 1/8; half of one, and of four bits a
        // whole one at the end that lacks a code.
        for (bits, room) in [(Bits::Eight, 0.5 / 127.0), (Bits::Four, 1.0 / 8.0)] {
            let weight = packed::<Flex>(bits, [6, 300]);
            assert_eq!(weight.dims(), [6, 300]);
            assert_eq!(weight.bytes(), weight.format().bytes(6, 300));
            let exact = draw(1, 6 * 300);
            let room = room + 0.001; // scales are f16
            for (stands, was) in numbers(weight.floats()).iter().zip(&exact) {
                assert!((stands - was).abs() <= room, "{bits:?}: {stands} for {was}");
            }
            let rows = numbers(weight.token_rows(&[4, 1]));
            assert_eq!(rows[300..], numbers(weight.floats())[300..600]);
        }
    }

    #[test]
    fn products_are_those_of_the_numbers_that_it_stands_for() {
        for bits in [Bits::Eight, Bits::Four] {
            let weight = packed::<Flex>(bits, [40, 300]);
            let bias = tensor::<Flex>(3, [1, 40]).squeeze_dim::<1>(0);
            for (rows, phase) in [
                (1, Phase::Decode),
                (5, Phase::Whole),
                (33, Phase::Whole),
                (33, Phase::Prefill),
            ] {
                let input = tensor::<Flex>(2, [rows, 300]);
                let found = weight.linear(phase, input.clone(), Some(bias.clone()));
                let floats = weight.floats().transpose();
                let expected = input.clone().matmul(floats) + bias.clone().unsqueeze();
                let wrong = off(&numbers(found), &numbers(expected.clone()));
                // Sums of 300 products in f32, in another order.
                assert!(wrong < 1e-5, "{bits:?}, {rows} rows: {wrong}");
                let part = weight.linear_rows(phase, 7..19, input, None);
                let bias = bias.clone().unsqueeze::<2>();
                let expected = (expected - bias).narrow(1, 7, 12);
                assert!(off(&numbers(part), &numbers(expected)) < 1e-5);
            }
        }
    }

    #[test]
    fn gradients_go_through_it() {
        type B = Autodiff<Flex>;
        for bits in [Bits::Eight, Bits::Four] {
            let weight = packed::<B>(bits, [40, 96]);
            let input = tensor::<B>(2, [20, 96]).require_grad();
            let slope = tensor::<B>(5, [20, 40]);
            let output = weight.linear(Phase::Whole, input.clone(), None);
            let gradients = (output * slope.clone()).sum().backward();
            let found = input.grad(&gradients).unwrap();
            let expected = slope.inner().matmul(weight.floats().inner());
            let wrong = off(&numbers(found), &numbers(expected));
            // Factors may be rounded to bf16, by 2^-9 of themselves each.
            assert!(wrong < 2f32.powi(-8), "{bits:?}: {wrong}");
        }
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        let numbers = [f32::NAN; 32];
        let packed = PackedWeight::<Flex>::rounded(
            bytemuck::cast_slice(&numbers),
            DType::F32,
            [1, 32],
            Packing::new(Bits::Four),
            Activations::F32,
            &Default::default(),
        );
        assert!(packed.unwrap_err().to_string().contains("not finite"));
    }
}
