//! Softmax of scores over what a query may look at, a query a cube, forward and back.

use burn::tensor::{DType, Tensor, TensorMetadata};
use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, ir::StorageType, prelude::*},
    tensor::CubeTensor,
};

use crate::ops::{
    Mask,
    autodiff::{unwrap, wrap},
    gpu::{
        Gpu,
        launch::{empty, max_over_cube, row_threads, rows, spread, sum_over_cube},
    },
    rows::cubecl::upload,
};

/// A [`Mask`] on the device.
#[derive(Debug, Clone)]
pub struct Reach<R: CubeRuntime> {
    /// Which kind it is.
    pub sight: Sight,
    /// Per row of the batch where it begins, or per position its segment; as i32.
    pub bounds: CubeTensor<R>,
}

/// The kinds of [`Mask`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sight {
    Full,
    Causal,
    CausalFrom,
    Segments,
}

impl<R: CubeRuntime> Reach<R> {
    /// What `mask` shows.
    pub fn new<K: Gpu<Runtime = R>>(mask: &Mask, device: &K::Device) -> Self {
        let (sight, bounds) = match mask {
            Mask::Full => (Sight::Full, vec![0]),
            Mask::Causal { starts } if starts.is_empty() => (Sight::Causal, vec![0]),
            Mask::Causal { starts } => (
                Sight::CausalFrom,
                starts.iter().map(|at| *at as i32).collect(),
            ),
            Mask::Segments { ids } => (
                Sight::Segments,
                ids.iter().flatten().map(|id| *id as i32).collect(),
            ),
        };
        Self {
            sight,
            bounds: upload::<K>(bounds, device),
        }
    }

    /// # Panics
    /// When the mask is not of `batch` rows of `keys` positions.
    pub fn assert_fits(&self, batch: usize, keys: usize) {
        let bounds = match self.sight {
            Sight::Full | Sight::Causal => 1,
            Sight::CausalFrom => batch,
            Sight::Segments => batch * keys,
        };
        let found = self.bounds.meta.num_elements();
        assert_eq!(found, bounds, "the mask is not of these rows");
    }
}

/// Which queries rows of scores belong to: the same `queries` for each of `heads`, in each row of the
/// batch.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    pub queries: usize,
    pub heads: usize,
    /// The position of the first query among the keys.
    pub first_position: usize,
}

/// The softmax of scores, `scale` times, over what each query may look at; a query that may look at
/// nothing gets zeros.
///
/// # Shapes
/// `[batch, kv_heads, group * queries, kv]` → the same, of type `dtype`
pub fn softmax<K: Gpu>(
    scores: Tensor<K, 4>,
    reach: &Reach<K::Runtime>,
    block: Block,
    scale: f32,
    dtype: DType,
) -> Tensor<K, 4> {
    let scores = unwrap(scores);
    let (shape, scores_dtype) = (scores.shape(), scores.dtype);
    let scores = rows(scores);
    let output = empty(&scores.tensor, shape, dtype);
    let threads = row_threads(scores.width);
    let batch = scores.count / (block.queries * block.heads);
    reach.assert_fits(batch, scores.width);
    // SAFETY: cubes beyond the last row do nothing, threads stay within their row, and the mask is
    // of these rows.
    unsafe {
        softmax_kernel::launch_unchecked::<K::Runtime>(
            &output.client,
            spread(scores.count),
            CubeDim::new_1d(threads as u32),
            scores.tensor.into_array_arg(),
            reach.bounds.clone().into_array_arg(),
            output.clone().into_array_arg(),
            scores.count,
            scores.width,
            scores.stride,
            block.queries,
            block.heads,
            block.first_position,
            scale,
            threads,
            reach.sight,
            [scores_dtype.into(), dtype.into()],
        );
    }
    wrap(output)
}

/// The gradient of the scores before they were scaled, given that of the shares.
pub fn softmax_backward<K: Gpu>(
    shares: Tensor<K, 4>,
    gradient: Tensor<K, 4>,
    scale: f32,
) -> Tensor<K, 4> {
    let (shares, gradient) = (unwrap(shares), unwrap(gradient));
    let (shape, dtype) = (shares.shape(), shares.dtype);
    let (shares, gradient) = (rows(shares), rows(gradient));
    let output = empty(&shares.tensor, shape, dtype);
    let threads = row_threads(shares.width);
    // SAFETY: cubes beyond the last row do nothing, threads stay within their row.
    unsafe {
        softmax_backward_kernel::launch_unchecked::<K::Runtime>(
            &output.client,
            spread(shares.count),
            CubeDim::new_1d(threads as u32),
            shares.tensor.into_array_arg(),
            gradient.tensor.into_array_arg(),
            output.clone().into_array_arg(),
            shares.count,
            shares.width,
            shares.stride,
            gradient.stride,
            scale,
            threads,
            dtype.into(),
        );
    }
    wrap(output)
}

// In a kernel both sides of `&&` are read.
#[allow(clippy::collapsible_if)]
#[cube(launch_unchecked)]
fn softmax_kernel<S: Float, F: Float>(
    scores: &Array<S>,
    bounds: &Array<i32>,
    output: &mut Array<F>,
    rows: usize,
    keys: usize,
    stride: usize,
    queries: usize,
    heads: usize,
    first_position: usize,
    scale: f32,
    #[comptime] threads: usize,
    #[comptime] sight: Sight,
    #[define(S, F)] _dtypes: [StorageType; 2],
) {
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let mut shared = SharedMemory::<f32>::new(threads);
    let position = first_position + row % queries;
    let batch = row / (queries * heads);
    let mut from = 0usize;
    let mut to = keys;
    if comptime!(sight != Sight::Full) {
        to = position + 1;
    }
    if comptime!(sight == Sight::CausalFrom) {
        from = min(usize::cast_from(bounds[batch]), to);
    }
    let mut segment = 0i32;
    if comptime!(sight == Sight::Segments) {
        segment = bounds[batch * keys + position];
    }
    let start = row * stride;
    let first = from + UNIT_POS_X as usize;

    // Below every score, and finite: WGSL has no infinity.
    let mut largest = f32::new(-3.0e38);
    let mut at = first;
    while at < to {
        if seen(bounds, batch * keys + at, segment, sight) {
            largest = max(largest, f32::cast_from(scores[start + at]) * scale);
        }
        at += threads;
    }
    let largest = max_over_cube(largest, &mut shared, threads);
    let mut sum = 0.0f32;
    let mut at = first;
    while at < to {
        if seen(bounds, batch * keys + at, segment, sight) {
            sum += f32::exp(f32::cast_from(scores[start + at]) * scale - largest);
        }
        at += threads;
    }
    let sum = sum_over_cube(sum, &mut shared, threads);
    let mut share_of_one = 0.0f32;
    if sum > 0.0 {
        share_of_one = 1.0 / sum;
    }
    let mut at = UNIT_POS_X as usize;
    while at < keys {
        let mut share = 0.0f32;
        if at >= from && at < to {
            if seen(bounds, batch * keys + at, segment, sight) {
                let score = f32::cast_from(scores[start + at]) * scale;
                share = f32::exp(score - largest) * share_of_one;
            }
        }
        output[row * keys + at] = F::cast_from(share);
        at += threads;
    }
}

/// Whether a key in reach is of the query's segment.
#[cube]
fn seen(bounds: &Array<i32>, place: usize, segment: i32, #[comptime] sight: Sight) -> bool {
    if comptime!(sight == Sight::Segments) {
        bounds[place] == segment
    } else {
        true.runtime()
    }
}

/// `ds = scale p (dp - Σ p dp)`.
#[cube(launch_unchecked)]
fn softmax_backward_kernel<F: Float>(
    shares: &Array<F>,
    gradient: &Array<F>,
    output: &mut Array<F>,
    rows: usize,
    keys: usize,
    stride: usize,
    gradient_stride: usize,
    scale: f32,
    #[comptime] threads: usize,
    #[define(F)] _dtype: StorageType,
) {
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let mut shared = SharedMemory::<f32>::new(threads);
    let first = UNIT_POS_X as usize;
    let mut sum = 0.0f32;
    let mut at = first;
    while at < keys {
        let share = f32::cast_from(shares[row * stride + at]);
        sum += share * f32::cast_from(gradient[row * gradient_stride + at]);
        at += threads;
    }
    let sum = sum_over_cube(sum, &mut shared, threads);
    let mut at = first;
    while at < keys {
        let share = f32::cast_from(shares[row * stride + at]);
        let dp = f32::cast_from(gradient[row * gradient_stride + at]);
        output[row * keys + at] = F::cast_from(scale * share * (dp - sum));
        at += threads;
    }
}
