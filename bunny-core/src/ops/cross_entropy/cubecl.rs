//! Cross-entropy with its gradient, a row a cube.

use burn::{
    backend::autodiff::{
        checkpoint::base::Checkpointer,
        grads::Gradients,
        ops::{Backward, Ops},
    },
    tensor::{DType, Tensor, backend::Backend},
};
use burn_cubecl::{
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

use super::{
    Gpu,
    launch::{empty, max_over_cube, row_threads, rows, spread, sum_over_cube},
    plain,
    primitive::raise,
    rows::upload,
    sums::column_sums,
    tracked,
    tracked::{record, unwrap, wrap},
};

/// [`plain::cross_entropy`](crate::nn::kernel::plain::cross_entropy).
pub fn cross_entropy<B: Backend, K: Gpu>(
    scores: &Tensor<B, 2>,
    targets: &[u32],
) -> Option<Tensor<B, 1>> {
    if scores.dtype() != DType::F32 {
        return None;
    }
    if let Some(scores) = plain::<B, K, 2>(scores) {
        return Some(raise(losses::<K>(scores, targets)[0].clone()));
    }
    let x = tracked::<B, K, 2>(scores)?;
    // The gradient of a sum of losses is known as soon as they are.
    let [sum, gradient] = losses::<K>(x.primitive.clone(), targets);
    Some(raise(record!(K, CrossEntropyStep, [x], gradient, sum)))
}

#[derive(Debug)]
struct CrossEntropyStep;

impl<K: Gpu> Backward<K, 1> for CrossEntropyStep {
    type State = CubeTensor<K::Runtime>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let factor = wrap::<K, 1>(grads.consume::<K>(&ops.node));
        let [Some(node)] = ops.parents else { return };
        let scaled = wrap::<K, 2>(ops.state) * factor.unsqueeze();
        grads.register::<K>(node.id, unwrap(scaled));
    }
}

/// The sum of the rows' losses, `[1]`, and its gradient in the scores.
fn losses<K: Gpu>(scores: CubeTensor<K::Runtime>, targets: &[u32]) -> [CubeTensor<K::Runtime>; 2] {
    let scores = rows(scores);
    let all_there = targets.iter().all(|id| (*id as usize) < scores.width);
    assert!(all_there, "targets are not those of the columns");
    let ids = targets.iter().map(|id| *id as i32).collect();
    let ids = upload::<K>(ids, &scores.tensor.device);
    let losses = empty(&scores.tensor, [scores.count, 1], DType::F32);
    let gradient = empty(&scores.tensor, [scores.count, scores.width], DType::F32);
    let threads = row_threads(scores.width);
    // SAFETY: cubes beyond the last row do nothing, threads stay within their row, and so do targets.
    unsafe {
        cross_entropy_kernel::launch_unchecked::<K::Runtime>(
            &losses.client,
            spread(scores.count),
            CubeDim::new_1d(threads as u32),
            scores.tensor.into_array_arg(),
            ids.into_array_arg(),
            losses.clone().into_array_arg(),
            gradient.clone().into_array_arg(),
            scores.count,
            scores.width,
            scores.stride,
            threads,
        );
    }
    [column_sums(losses), gradient]
}

#[cube(launch_unchecked)]
fn cross_entropy_kernel(
    scores: &Array<f32>,
    targets: &Array<i32>,
    losses: &mut Array<f32>,
    gradient: &mut Array<f32>,
    rows: usize,
    width: usize,
    stride: usize,
    #[comptime] threads: usize,
) {
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let mut shared = SharedMemory::<f32>::new(threads);
    let first = UNIT_POS_X as usize;
    let start = row * stride;
    let mut largest = scores[start];
    let mut at = first;
    while at < width {
        largest = max(largest, scores[start + at]);
        at += threads;
    }
    let largest = max_over_cube(largest, &mut shared, threads);
    let mut sum = 0.0f32;
    let mut at = first;
    while at < width {
        sum += f32::exp(scores[start + at] - largest);
        at += threads;
    }
    let sum = sum_over_cube(sum, &mut shared, threads);
    let target = usize::cast_from(targets[row]);
    let mut at = first;
    while at < width {
        let mut share = f32::exp(scores[start + at] - largest) / sum;
        if at == target {
            share -= 1.0;
        }
        gradient[row * width + at] = share;
        at += threads;
    }
    if first == 0 {
        losses[row] = f32::ln(sum) + largest - scores[start + target];
    }
}
