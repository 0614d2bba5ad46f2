//! LayerNorm and RMSNorm, a row a cube.

use burn::{
    backend::autodiff::{
        checkpoint::base::Checkpointer,
        grads::Gradients,
        ops::{Backward, Ops},
    },
    tensor::{DType, Tensor, TensorMetadata, backend::Backend},
};
use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, ir::StorageType, prelude::*},
    tensor::CubeTensor,
};

use super::{
    Gpu,
    launch::{empty, row_threads, rows, spread, sum_over_cube},
    plain,
    primitive::raise,
    sums::{COLUMNS, LANES, ROWS_A_CHUNK, column_sums},
    tracked,
    tracked::{record, unwrap, wrap},
};

/// [`plain::layer_norm`](crate::nn::kernel::plain::layer_norm), or without a bias
/// [`plain::rms_norm`](crate::nn::kernel::plain::rms_norm).
pub fn norm<B: Backend, K: Gpu, const D: usize>(
    input: &Tensor<B, D>,
    weight: &Tensor<B, 1>,
    bias: Option<&Tensor<B, 1>>,
    epsilon: f32,
) -> Option<Tensor<B, D>> {
    if weight.dtype() != DType::F32 || bias.is_some_and(|bias| bias.dtype() != DType::F32) {
        return None;
    }
    if let Some(input) = plain::<B, K, D>(input) {
        let weight = plain::<B, K, 1>(weight)?;
        let bias = bias.and_then(plain::<B, K, 1>);
        return Some(raise(forward(input, weight, bias, epsilon).0));
    }
    let (x, w) = (tracked::<B, K, D>(input)?, tracked::<B, K, 1>(weight)?);
    let b = bias.and_then(tracked::<B, K, 1>);
    let bias = b.as_ref().map(|bias| bias.primitive.clone());
    let (output, moments) = forward(x.primitive.clone(), w.primitive.clone(), bias, epsilon);
    let state = NormState {
        input: x.primitive.clone(),
        weight: w.primitive.clone(),
        moments,
    };
    Some(raise(match b {
        Some(b) => record!(K, LayerNormStep, [x, w, b], state, output),
        None => record!(K, RmsNormStep, [x, w], state, output),
    }))
}

/// What the way back needs.
#[derive(Debug, Clone)]
struct NormState<R: CubeRuntime> {
    input: CubeTensor<R>,
    weight: CubeTensor<R>,
    /// Of each row, the mean and one over the deviation, `[rows, 2]`.
    moments: CubeTensor<R>,
}

#[derive(Debug)]
struct LayerNormStep;

#[derive(Debug)]
struct RmsNormStep;

impl<K: Gpu> Backward<K, 3> for LayerNormStep {
    type State = NormState<K::Runtime>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<K>(&ops.node);
        let [input, weight, bias] = ops.parents;
        if weight.is_some() || bias.is_some() {
            let [dw, db] = parameters::<K>(&ops.state, gradient.clone());
            for (node, values) in [(weight, dw), (bias, db)] {
                if let Some(node) = node {
                    grads.register::<K>(node.id, values);
                }
            }
        }
        if let Some(node) = input {
            grads.register::<K>(node.id, backward(ops.state, gradient, true));
        }
    }
}

impl<K: Gpu> Backward<K, 2> for RmsNormStep {
    type State = NormState<K::Runtime>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<K>(&ops.node);
        let [input, weight] = ops.parents;
        if let Some(node) = weight {
            let [dw, _] = parameters::<K>(&ops.state, gradient.clone());
            grads.register::<K>(node.id, dw);
        }
        if let Some(node) = input {
            grads.register::<K>(node.id, backward(ops.state, gradient, false));
        }
    }
}

/// The normalised rows, and each row's moments.
fn forward<R: CubeRuntime>(
    input: CubeTensor<R>,
    weight: CubeTensor<R>,
    bias: Option<CubeTensor<R>>,
    epsilon: f32,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let (dtype, shape) = (input.dtype, input.shape());
    let input = rows(input);
    let output = empty(&input.tensor, shape, dtype);
    let moments = empty(&input.tensor, [input.count, 2], DType::F32);
    let threads = row_threads(input.width);
    let lengths = [Some(&weight), bias.as_ref()];
    let all_fit = lengths
        .iter()
        .flatten()
        .all(|one| one.meta.num_elements() == input.width);
    assert!(all_fit, "a weight and a bias a channel");
    let centred = bias.is_some();
    // An RMSNorm does not read a bias, but something has to stand in its place.
    let bias = bias.unwrap_or_else(|| weight.clone());
    // SAFETY: cubes beyond the last row do nothing, threads stay within their row.
    unsafe {
        norm_kernel::launch_unchecked::<R>(
            &output.client,
            spread(input.count),
            CubeDim::new_1d(threads as u32),
            input.tensor.into_array_arg(),
            weight.into_array_arg(),
            bias.into_array_arg(),
            output.clone().into_array_arg(),
            moments.clone().into_array_arg(),
            input.count,
            input.width,
            input.stride,
            epsilon,
            threads,
            centred,
            dtype.into(),
        );
    }
    (output, moments)
}

/// The gradient of the input.
fn backward<R: CubeRuntime>(
    state: NormState<R>,
    gradient: CubeTensor<R>,
    centred: bool,
) -> CubeTensor<R> {
    let (dtype, shape) = (state.input.dtype, state.input.shape());
    let (input, gradient) = (rows(state.input), rows(gradient));
    let output = empty(&input.tensor, shape, dtype);
    let threads = row_threads(input.width);
    // SAFETY: as forward.
    unsafe {
        norm_backward_kernel::launch_unchecked::<R>(
            &output.client,
            spread(input.count),
            CubeDim::new_1d(threads as u32),
            input.tensor.into_array_arg(),
            gradient.tensor.into_array_arg(),
            state.weight.into_array_arg(),
            state.moments.into_array_arg(),
            output.clone().into_array_arg(),
            input.count,
            input.width,
            input.stride,
            gradient.stride,
            threads,
            centred,
            dtype.into(),
        );
    }
    output
}

/// The gradients of weight and bias.
fn parameters<K: Gpu>(
    state: &NormState<K::Runtime>,
    gradient: CubeTensor<K::Runtime>,
) -> [CubeTensor<K::Runtime>; 2] {
    let dtype = gradient.dtype;
    let (input, gradient) = (rows(state.input.clone()), rows(gradient));
    let chunks = input.count.div_ceil(ROWS_A_CHUNK);
    let width = input.width;
    let sums = empty(&input.tensor, [chunks, 2 * width], DType::F32);
    // SAFETY: threads beyond the last column add nothing and write nothing.
    unsafe {
        norm_parameters_kernel::launch_unchecked::<K::Runtime>(
            &sums.client,
            CubeCount::Static(width.div_ceil(COLUMNS) as u32, chunks as u32, 1),
            CubeDim::new_2d(COLUMNS as u32, LANES as u32),
            input.tensor.into_array_arg(),
            gradient.tensor.into_array_arg(),
            state.moments.clone().into_array_arg(),
            sums.clone().into_array_arg(),
            input.count,
            width,
            input.stride,
            gradient.stride,
            dtype.into(),
        );
    }
    let both = wrap::<K, 1>(column_sums(sums));
    let [dw, db] = [0..width, width..2 * width].map(|part| both.clone().slice([part]));
    [unwrap(dw), unwrap(db)]
}

#[cube(launch_unchecked)]
fn norm_kernel<F: Float>(
    input: &Array<F>,
    weight: &Array<f32>,
    bias: &Array<f32>,
    output: &mut Array<F>,
    moments: &mut Array<f32>,
    rows: usize,
    width: usize,
    stride: usize,
    epsilon: f32,
    #[comptime] threads: usize,
    #[comptime] centred: bool,
    #[define(F)] _dtype: StorageType,
) {
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let mut shared = SharedMemory::<f32>::new(threads);
    let first = UNIT_POS_X as usize;
    let mut mean = 0.0f32;
    if centred {
        let mut sum = 0.0f32;
        let mut at = first;
        while at < width {
            sum += f32::cast_from(input[row * stride + at]);
            at += threads;
        }
        mean = sum_over_cube(sum, &mut shared, threads) / f32::cast_from(width);
    }
    let mut squares = 0.0f32;
    let mut at = first;
    while at < width {
        let off = f32::cast_from(input[row * stride + at]) - mean;
        squares += off * off;
        at += threads;
    }
    let variance = sum_over_cube(squares, &mut shared, threads) / f32::cast_from(width);
    let scale = 1.0 / f32::sqrt(variance + epsilon);
    let mut at = first;
    while at < width {
        let off = f32::cast_from(input[row * stride + at]) - mean;
        let mut y = off * scale * weight[at];
        if centred {
            y += bias[at];
        }
        output[row * width + at] = F::cast_from(y);
        at += threads;
    }
    if first == 0 {
        moments[2 * row] = mean;
        moments[2 * row + 1] = scale;
    }
}

/// With `x̂` the normalised row and `g = dy w`: `dx = (g - mean(g) - x̂ mean(g x̂)) / deviation`; the
/// second term is the mean's alone.
#[cube(launch_unchecked)]
fn norm_backward_kernel<F: Float>(
    input: &Array<F>,
    gradient: &Array<F>,
    weight: &Array<f32>,
    moments: &Array<f32>,
    output: &mut Array<F>,
    rows: usize,
    width: usize,
    input_stride: usize,
    gradient_stride: usize,
    #[comptime] threads: usize,
    #[comptime] centred: bool,
    #[define(F)] _dtype: StorageType,
) {
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let mut shared = SharedMemory::<f32>::new(threads);
    let first = UNIT_POS_X as usize;
    let mean = moments[2 * row];
    let scale = moments[2 * row + 1];
    let mut sum = 0.0f32;
    let mut product = 0.0f32;
    let mut at = first;
    while at < width {
        let normed = (f32::cast_from(input[row * input_stride + at]) - mean) * scale;
        let g = f32::cast_from(gradient[row * gradient_stride + at]) * weight[at];
        sum += g;
        product += g * normed;
        at += threads;
    }
    let count = f32::cast_from(width);
    let product = sum_over_cube(product, &mut shared, threads) / count;
    let mut shift = 0.0f32;
    if centred {
        shift = sum_over_cube(sum, &mut shared, threads) / count;
    }
    let mut at = first;
    while at < width {
        let normed = (f32::cast_from(input[row * input_stride + at]) - mean) * scale;
        let g = f32::cast_from(gradient[row * gradient_stride + at]) * weight[at];
        output[row * width + at] = F::cast_from((g - shift - normed * product) * scale);
        at += threads;
    }
}

/// Sums over [`ROWS_A_CHUNK`] rows of `dy x̂`, then of `dy`: `[chunks, 2 width]`.
#[cube(launch_unchecked)]
fn norm_parameters_kernel<F: Float>(
    input: &Array<F>,
    gradient: &Array<F>,
    moments: &Array<f32>,
    sums: &mut Array<f32>,
    rows: usize,
    width: usize,
    input_stride: usize,
    gradient_stride: usize,
    #[define(F)] _dtype: StorageType,
) {
    let mut shared = SharedMemory::<f32>::new(comptime!(2 * COLUMNS * LANES));
    let (x, y) = (UNIT_POS_X as usize, UNIT_POS_Y as usize);
    let column = CUBE_POS_X as usize * COLUMNS + x;
    let chunk = CUBE_POS_Y as usize;
    let mut dw = 0.0f32;
    let mut db = 0.0f32;
    if column < width {
        let mut row = chunk * ROWS_A_CHUNK + y;
        let end = min((chunk + 1) * ROWS_A_CHUNK, rows);
        while row < end {
            let dy = f32::cast_from(gradient[row * gradient_stride + column]);
            let off = f32::cast_from(input[row * input_stride + column]) - moments[2 * row];
            dw += dy * off * moments[2 * row + 1];
            db += dy;
            row += LANES;
        }
    }
    let own = y * COLUMNS + x;
    shared[own] = dw;
    shared[COLUMNS * LANES + own] = db;
    sync_cube();
    if y == 0 && column < width {
        let mut dw = 0.0f32;
        let mut db = 0.0f32;
        for lane in 0..LANES {
            dw += shared[lane * COLUMNS + x];
            db += shared[(LANES + lane) * COLUMNS + x];
        }
        sums[chunk * 2 * width + column] = dw;
        sums[chunk * 2 * width + width + column] = db;
    }
}
