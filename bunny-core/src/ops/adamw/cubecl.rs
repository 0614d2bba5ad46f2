//! AdamW in one launch a parameter.

use burn::tensor::DType;
use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

use super::{AdamKernel, AdamStep};
use crate::ops::gpu::{
    Gpu,
    launch::{elementwise, empty},
};

impl<K: Gpu> AdamKernel for K {
    fn step(
        step: AdamStep,
        gradient: CubeTensor<K::Runtime>,
        [first, second]: [CubeTensor<K::Runtime>; 2],
        weight: CubeTensor<K::Runtime>,
    ) -> [CubeTensor<K::Runtime>; 3] {
        let all = [gradient, first, second, weight];
        let [gradient, first, second, weight] = all.map(into_contiguous);
        update(step, gradient, first, second, weight)
    }
}

fn update<R: CubeRuntime>(
    step: AdamStep,
    gradient: CubeTensor<R>,
    first: CubeTensor<R>,
    second: CubeTensor<R>,
    weight: CubeTensor<R>,
) -> [CubeTensor<R>; 3] {
    let count = gradient.meta.num_elements();
    let others = [&first, &second, &weight];
    let all_fit = others.iter().all(|one| one.meta.num_elements() == count);
    assert!(
        all_fit,
        "moments and a weight for each number of the gradient"
    );
    let results = [(); 3].map(|()| empty(&gradient, [count], DType::F32));
    let [new_first, new_second, new_weight] = results.clone();
    let (cubes, threads) = elementwise(count);
    // SAFETY: no thread reads or writes beyond `count` elements.
    unsafe {
        adamw_kernel::launch_unchecked::<R>(
            &gradient.client,
            cubes,
            threads,
            gradient.clone().into_array_arg(),
            first.into_array_arg(),
            second.into_array_arg(),
            weight.into_array_arg(),
            new_first.into_array_arg(),
            new_second.into_array_arg(),
            new_weight.into_array_arg(),
            count,
            step.scale as f32,
            step.beta1 as f32,
            step.beta2 as f32,
            (1.0 - step.beta1) as f32,
            (1.0 - step.beta2) as f32,
            step.decay as f32,
            step.rate as f32,
            step.root as f32,
            step.epsilon as f32,
        );
    }
    results
}

#[cube(launch_unchecked)]
fn adamw_kernel(
    gradient: &Array<f32>,
    first: &Array<f32>,
    second: &Array<f32>,
    weight: &Array<f32>,
    new_first: &mut Array<f32>,
    new_second: &mut Array<f32>,
    new_weight: &mut Array<f32>,
    count: usize,
    scale: f32,
    beta1: f32,
    beta2: f32,
    share1: f32,
    share2: f32,
    decay: f32,
    rate: f32,
    root: f32,
    epsilon: f32,
) {
    let at = ABSOLUTE_POS;
    if at >= count {
        terminate!();
    }
    let g = gradient[at] * scale;
    let m = beta1 * first[at] + share1 * g;
    let v = beta2 * second[at] + share2 * g * g;
    new_first[at] = m;
    new_second[at] = v;
    new_weight[at] = decay * weight[at] - rate * m / (f32::sqrt(v) * root + epsilon);
}
