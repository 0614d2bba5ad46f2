//! Nonlinearities by the CPU's kernels, in place where nobody else holds the tensor.

use burn::tensor::{DType, TensorMetadata};
use burn_flex::FlexTensor;

use super::{Activation, STEEPNESS, autodiff::ActivationKernel};
use crate::ops::flex::{Flex, contiguous, floats, like};

impl ActivationKernel for Flex {
    fn takes(dtype: DType) -> bool {
        dtype == DType::F32
    }

    fn forward(kind: Activation, input: FlexTensor) -> FlexTensor {
        change(input, |values| match kind {
            Activation::GeluTanh => bunny_kernels::gelu_tanh(values),
            Activation::Gelu => bunny_kernels::gelu_erf(values),
            Activation::Silu => bunny_kernels::silu(values),
            Activation::QuickGelu => {
                scale(values, STEEPNESS);
                bunny_kernels::silu(values);
                scale(values, 1.0 / STEEPNESS);
            }
        })
    }

    fn backward(kind: Activation, input: FlexTensor, gradient: FlexTensor) -> FlexTensor {
        let (input, gradient) = (contiguous(input), contiguous(gradient));
        let (x, dy) = (floats(&input), floats(&gradient));
        let mut dx = vec![0f32; x.len()];
        match kind {
            Activation::GeluTanh => bunny_kernels::gelu_tanh_backward(x, dy, &mut dx),
            Activation::Gelu => bunny_kernels::gelu_erf_backward(x, dy, &mut dx),
            Activation::Silu => bunny_kernels::silu_backward(x, dy, &mut dx),
            Activation::QuickGelu => {
                let mut steep = x.to_vec();
                scale(&mut steep, STEEPNESS);
                bunny_kernels::silu_backward(&steep, dy, &mut dx);
            }
        }
        like(dx, &input)
    }

    fn gates(kind: Activation, dtype: DType) -> bool {
        kind == Activation::Silu && dtype == DType::F32
    }

    fn gate(_: Activation, gate: FlexTensor, up: FlexTensor) -> FlexTensor {
        let up = contiguous(up);
        change(gate, |gate| bunny_kernels::silu_mul(gate, floats(&up)))
    }

    fn gate_backward(
        _: Activation,
        gate: FlexTensor,
        up: FlexTensor,
        gradient: FlexTensor,
    ) -> [FlexTensor; 2] {
        let [gate, up, gradient] = [gate, up, gradient].map(contiguous);
        let (x, y, dy) = (floats(&gate), floats(&up), floats(&gradient));
        let [mut dx, mut dup] = [(); 2].map(|()| vec![0f32; x.len()]);
        bunny_kernels::silu_mul_backward(x, y, dy, &mut dx, &mut dup);
        [like(dx, &gate), like(dup, &up)]
    }
}

fn scale(values: &mut [f32], factor: f32) {
    values.iter_mut().for_each(|value| *value *= factor);
}

/// Changes all numbers of a tensor, or of a copy where somebody else holds it.
fn change(tensor: FlexTensor, change: impl FnOnce(&mut [f32])) -> FlexTensor {
    let mut tensor = contiguous(tensor);
    let count = tensor.shape().num_elements();
    let whole = tensor.layout().start_offset() == 0;
    match tensor
        .try_storage_mut::<f32>()
        .filter(|values| whole && values.len() == count)
    {
        Some(values) => {
            change(values);
            tensor
        }
        None => {
            let mut values = floats(&tensor).to_vec();
            change(&mut values);
            like(values, &tensor)
        }
    }
}
