//! Packed weights by the CPU's kernels, read where they lie.

use bunny_kernels::{
    WeightRef,
    quantized::{self, Codes, QuantizedRef, Zeros},
};
use burn::{
    backend::autodiff::{
        checkpoint::base::Checkpointer,
        grads::Gradients,
        ops::{Backward, Ops},
    },
    tensor::{DType, Tensor, TensorData, backend::Backend},
};
use burn_flex::FlexTensor;

use super::{Activations, Bits, PackedTensors, Packing};
use crate::ops::{
    Phase,
    autodiff::{Tracked, record},
    flex::{Flex, contiguous, dims, floats, tensor},
    place::{lower, lower_int, raise},
};

/// A packed weight's tensors as this backend has them.
#[derive(Debug, Clone)]
struct Packed {
    codes: FlexTensor,
    scales: FlexTensor,
    inner: usize,
    packing: Packing,
}

impl Packed {
    fn of<B: Backend>(weight: PackedTensors<B>) -> Self {
        Self {
            codes: contiguous(lower_int(weight.codes)),
            scales: contiguous(lower_int(weight.scales)),
            inner: weight.inner,
            packing: weight.packing,
        }
    }

    fn view(&self) -> QuantizedRef<'_> {
        let [out, _] = dims(&self.codes);
        let codes = bytes(&self.codes);
        let codes = match self.packing.bits {
            Bits::Eight => Codes::Int8(codes),
            Bits::Four => Codes::Int4(codes, Zeros::Eight),
        };
        let scales = WeightRef::F16(bytemuck::cast_slice(bytes(&self.scales)));
        QuantizedRef::new(codes, scales, [out, self.inner], self.packing.group)
            .expect("the weight was packed for these sides")
    }
}

/// A contiguous tensor's bytes, in place.
fn bytes(tensor: &FlexTensor) -> &[u8] {
    let bytes = tensor.as_slice::<i8>();
    bytemuck::cast_slice(bytes.expect("the tensor is contiguous, and of bytes"))
}

fn product(
    phase: Phase,
    activations: Activations,
    input: FlexTensor,
    weight: QuantizedRef<'_>,
    bias: Option<FlexTensor>,
) -> FlexTensor {
    let [rows, _] = dims(&input);
    let [out, _] = weight.sides();
    let (input, bias) = (contiguous(input), bias.map(contiguous));
    let bias = bias.as_ref().map(floats);
    let (x, mut y) = (floats(&input), vec![0f32; rows * out]);
    match phase {
        Phase::Whole => quantized::linear(x, weight, bias, &mut y, rows, activations),
        Phase::Prefill => quantized::linear_packed(x, weight, bias, &mut y, rows, activations),
        Phase::Decode => quantized::linear_streamed(x, weight, bias, &mut y, rows),
    }
    tensor(y, [rows, out])
}

/// [`packed_linear`](super::packed_linear).
pub fn linear<B: Backend>(
    phase: Phase,
    activations: Activations,
    input: Tensor<B, 2>,
    weight: PackedTensors<B>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 2> {
    let (weight, bias) = (Packed::of(weight), bias.map(lower));
    raise(product(
        phase,
        activations,
        lower(input),
        weight.view(),
        bias,
    ))
}

/// The same where gradients are kept, and without a bias: that one may learn.
pub fn tracked_linear<B: Backend>(
    phase: Phase,
    activations: Activations,
    input: Tensor<B, 2>,
    weight: PackedTensors<B>,
) -> Tensor<B, 2> {
    let input: Tracked<Flex> = lower(input);
    let weight = Packed::of(weight);
    let input_only = input.primitive.clone();
    let output = product(phase, activations, input_only, weight.view(), None);
    let step = PackedStep.prepare([input.node]);
    raise(record::<Flex, _, 1>(step, || weight, output))
}

/// The numbers of some rows.
pub fn rows<B: Backend>(weight: &PackedTensors<B>, rows: &[usize]) -> Tensor<B, 2> {
    let device = weight.codes.device();
    let weight = Packed::of(weight.clone());
    let mut numbers = vec![0f32; rows.len() * weight.inner];
    quantized::dequantize_rows(weight.view(), rows, &mut numbers);
    let data = TensorData::new(numbers, [rows.len(), weight.inner]);
    Tensor::from_data(data, (&device, DType::F32))
}

/// Its parent is the input; the weight is what it keeps.
#[derive(Debug)]
struct PackedStep;

impl Backward<Flex, 1> for PackedStep {
    type State = Packed;

    fn backward(self, ops: Ops<Packed, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<Flex>(&ops.node);
        let [Some(input)] = ops.parents else { return };
        let gradient = contiguous(gradient);
        let ([rows, _], inner) = (dims(&gradient), ops.state.inner);
        let mut dx = vec![0f32; rows * inner];
        let rounds = bunny_kernels::has_bf16_dot();
        let weight = ops.state.view();
        quantized::linear_backward_input(floats(&gradient), weight, &mut dx, rows, rounds);
        grads.register::<Flex>(input.id, tensor(dx, [rows, inner]));
    }
}
