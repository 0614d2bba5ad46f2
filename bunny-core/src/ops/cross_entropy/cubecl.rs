//! Cross-entropy with its gradient, a row a cube.

use burn::tensor::DType;
use burn_cubecl::{
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

use super::autodiff::CrossEntropyKernel;
use crate::ops::{
    autodiff::{unwrap, wrap},
    gpu::{
        Gpu,
        launch::{empty, max_over_cube, row_threads, rows, spread, sum_over_cube},
        sums::column_sums,
    },
    rows::cubecl::upload,
};

impl<K: Gpu> CrossEntropyKernel for K {
    fn forward(scores: CubeTensor<K::Runtime>, targets: &[u32]) -> CubeTensor<K::Runtime> {
        let [sum, _] = losses::<K>(scores, targets);
        sum
    }

    fn forward_with_gradient(
        scores: CubeTensor<K::Runtime>,
        targets: &[u32],
    ) -> [CubeTensor<K::Runtime>; 2] {
        losses::<K>(scores, targets)
    }

    fn scale(
        gradient: CubeTensor<K::Runtime>,
        factor: CubeTensor<K::Runtime>,
    ) -> CubeTensor<K::Runtime> {
        unwrap(wrap::<K, 2>(gradient) * wrap::<K, 1>(factor).unsqueeze())
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
