//! AdamW by the CPU's kernel.

use burn_flex::FlexTensor;

use super::{AdamKernel, AdamStep};
use crate::ops::flex::{Flex, contiguous, floats, tensor};

impl AdamKernel for Flex {
    fn step(
        step: AdamStep,
        gradient: FlexTensor,
        moments: [FlexTensor; 2],
        weight: FlexTensor,
    ) -> [FlexTensor; 3] {
        let (gradient, weight) = (contiguous(gradient), contiguous(weight));
        // Without a copy where nobody else holds them.
        let own = |moment: FlexTensor| contiguous(moment).into_data().into_vec::<f32>();
        let [mut first, mut second] = moments.map(|moment| own(moment).expect("moments are f32"));
        let mut updated = vec![0f32; first.len()];
        let (g, w) = (floats(&gradient), floats(&weight));
        bunny_kernels::adamw(step, g, &mut first, &mut second, w, &mut updated);
        let count = updated.len();
        [first, second, updated].map(|values| tensor(values, [count]))
    }
}
