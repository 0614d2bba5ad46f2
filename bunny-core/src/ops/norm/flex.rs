//! Norms by the CPU's kernels.

use burn::tensor::DType;
use burn_flex::FlexTensor;

use super::{
    Taken,
    autodiff::{NormKernel, NormState},
};
use crate::ops::flex::{Flex, contiguous, floats, like};

impl NormKernel for Flex {
    type Moments = ();

    fn takes(input: DType) -> bool {
        input == DType::F32
    }

    fn forward(
        input: FlexTensor,
        weight: FlexTensor,
        bias: Option<FlexTensor>,
        taken: Taken,
    ) -> (FlexTensor, ()) {
        let (input, weight) = (contiguous(input), contiguous(weight));
        let bias = bias.map(contiguous);
        let bias = bias.as_ref().map(floats);
        let (x, w) = (floats(&input), floats(&weight));
        let mut output = vec![0f32; x.len()];
        match taken.centre {
            true => bunny_kernels::layer_norm(x, w, bias, taken.epsilon, &mut output),
            false => bunny_kernels::rms_norm(x, w, taken.epsilon, &mut output),
        }
        (like(output, &input), ())
    }

    fn backward(
        state: NormState<Self>,
        gradient: FlexTensor,
        [of_input, of_weight, of_bias]: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let NormState {
            input,
            weight,
            taken: Taken { centre, epsilon },
            moments: (),
        } = state;
        let [input, weight, gradient] = [input, weight, gradient].map(contiguous);
        let (x, w, dy) = (floats(&input), floats(&weight), floats(&gradient));
        let mut dx = vec![0f32; x.len()];
        let mut dw = of_weight.then(|| vec![0f32; w.len()]);
        let mut db = of_bias.then(|| vec![0f32; w.len()]);
        let (weights, biases) = (dw.as_deref_mut(), db.as_deref_mut());
        match centre {
            true => bunny_kernels::layer_norm_backward(x, w, epsilon, dy, &mut dx, weights, biases),
            false => bunny_kernels::rms_norm_backward(x, w, epsilon, dy, &mut dx, weights),
        }
        [
            of_input.then(|| like(dx, &input)),
            dw.map(|values| like(values, &weight)),
            db.map(|values| like(values, &weight)),
        ]
    }
}
