//! Products by the CPU's kernels; weights are read in the type that they are held in.

use bunny_kernels::WeightRef;
use burn::tensor::{DType, bf16, f16};
use burn_flex::FlexTensor;

use super::{Factors, autodiff::LinearKernel};
use crate::ops::{
    Phase,
    flex::{Flex, contiguous, dims, floats, tensor},
};

impl LinearKernel for Flex {
    fn takes(input: DType, weight: DType) -> bool {
        input == DType::F32 && matches!(weight, DType::F32 | DType::F16 | DType::BF16)
    }

    // Gradients are f32, whatever the weight is: one in f16 has none that could be added to it.
    fn teaches(weight: DType) -> bool {
        weight != DType::F16
    }

    fn forward(
        phase: Phase,
        input: FlexTensor,
        weight: FlexTensor,
        bias: Option<FlexTensor>,
        _: Factors,
    ) -> FlexTensor {
        let [rows, inner] = dims(&input);
        let [out, _] = dims(&weight);
        let (input, weight) = (contiguous(input), contiguous(weight));
        let bias = bias.map(contiguous);
        let bias = bias.as_ref().map(floats);
        let mut output = vec![0f32; rows * out];
        let rounds = rounds_operands(weight.dtype());
        let (x, w, y) = (floats(&input), elements(&weight), &mut output[..]);
        match phase {
            Phase::Whole if rounds => {
                bunny_kernels::linear_bf16_dot(x, w, bias, y, rows, inner, out);
            }
            Phase::Whole => bunny_kernels::linear(x, w, bias, y, rows, inner, out),
            Phase::Prefill => {
                bunny_kernels::linear_packed(x, w, bias, y, (rows, inner, out), rounds);
            }
            Phase::Decode => bunny_kernels::linear_streamed(x, w, bias, y, rows, inner, out),
        }
        tensor(output, [rows, out])
    }

    fn input_gradient(gradient: FlexTensor, weight: FlexTensor) -> FlexTensor {
        let [rows, out] = dims(&gradient);
        let [_, inner] = dims(&weight);
        let (gradient, weight) = (contiguous(gradient), contiguous(weight));
        let mut dx = vec![0f32; rows * inner];
        let product = match rounds_operands(weight.dtype()) {
            true => bunny_kernels::linear_backward_input_bf16_dot,
            false => bunny_kernels::linear_backward_input,
        };
        let (dy, w) = (floats(&gradient), elements(&weight));
        product(dy, w, &mut dx, rows, inner, out);
        tensor(dx, [rows, inner])
    }

    fn weight_gradient(gradient: FlexTensor, input: FlexTensor, weight: DType) -> FlexTensor {
        let [rows, out] = dims(&gradient);
        let [_, inner] = dims(&input);
        let (gradient, input) = (contiguous(gradient), contiguous(input));
        let mut dw = vec![0f32; out * inner];
        let product = match rounds_operands(weight) {
            true => bunny_kernels::linear_backward_weight_bf16_dot,
            false => bunny_kernels::linear_backward_weight,
        };
        let (dy, x) = (floats(&gradient), floats(&input));
        product(dy, x, &mut dw, rows, inner, out, false);
        tensor(dw, [out, inner])
    }

    fn bias_gradient(gradient: FlexTensor) -> FlexTensor {
        let [_, out] = dims(&gradient);
        let mut db = vec![0f32; out];
        bunny_kernels::linear_backward_bias(floats(&contiguous(gradient)), &mut db);
        tensor(db, [out])
    }
}

/// A contiguous weight's numbers, in place.
fn elements(weight: &FlexTensor) -> WeightRef<'_> {
    let elements = match weight.dtype() {
        DType::F16 => weight.as_slice::<f16>().map(WeightRef::F16),
        DType::BF16 => weight.as_slice::<bf16>().map(WeightRef::Bf16),
        _ => weight.as_slice().map(WeightRef::F32),
    };
    elements.expect("the weight is contiguous, and of one of these types")
}

/// Whether a product with a weight of this type rounds what it is multiplied with to bf16 too: what
/// bf16 models do elsewhere, and twice as fast on processors that multiply such pairs.
fn rounds_operands(weight: DType) -> bool {
    weight == DType::BF16 && bunny_kernels::has_bf16_dot()
}
