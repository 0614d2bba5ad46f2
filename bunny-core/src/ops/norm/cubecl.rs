//! LayerNorm and RMSNorm, a row a cube.

use burn::tensor::{DType, TensorMetadata};
use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, ir::StorageType, prelude::*},
    tensor::CubeTensor,
};

use super::{
    Taken,
    autodiff::{NormKernel, NormState},
};
use crate::ops::{
    autodiff::{unwrap, wrap},
    gpu::{
        Gpu,
        launch::{empty, row_threads, rows, spread, sum_over_cube},
        sums::{COLUMNS, LANES, ROWS_A_CHUNK, column_sums},
    },
};

impl<K: Gpu> NormKernel for K {
    /// Of each row, the mean and one over the deviation, `[rows, 2]`.
    type Moments = CubeTensor<K::Runtime>;

    fn takes(_: DType) -> bool {
        true
    }

    fn forward(
        input: CubeTensor<K::Runtime>,
        weight: CubeTensor<K::Runtime>,
        bias: Option<CubeTensor<K::Runtime>>,
        taken: Taken,
    ) -> (CubeTensor<K::Runtime>, CubeTensor<K::Runtime>) {
        forward(input, weight, bias, taken)
    }

    fn backward(
        state: NormState<Self>,
        gradient: CubeTensor<K::Runtime>,
        [of_input, of_weight, of_bias]: [bool; 3],
    ) -> [Option<CubeTensor<K::Runtime>>; 3] {
        let parameters = (of_weight || of_bias).then(|| parameters::<K>(&state, gradient.clone()));
        let [dw, db] = match parameters {
            Some([dw, db]) => [of_weight.then_some(dw), of_bias.then_some(db)],
            None => [None, None],
        };
        let dx = of_input.then(|| input_gradient::<K>(state, gradient));
        [dx, dw, db]
    }
}

/// The normalised rows, and each row's moments.
fn forward<R: CubeRuntime>(
    input: CubeTensor<R>,
    weight: CubeTensor<R>,
    bias: Option<CubeTensor<R>>,
    taken: Taken,
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
    let shifted = bias.is_some();
    // What has no bias does not read one, but something has to stand in its place.
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
            taken.epsilon,
            threads,
            taken.centre,
            shifted,
            dtype.into(),
        );
    }
    (output, moments)
}

/// The gradient of the input.
fn input_gradient<K: Gpu>(
    state: NormState<K>,
    gradient: CubeTensor<K::Runtime>,
) -> CubeTensor<K::Runtime> {
    let (dtype, shape) = (state.input.dtype, state.input.shape());
    let (input, gradient) = (rows(state.input), rows(gradient));
    let output = empty(&input.tensor, shape, dtype);
    let threads = row_threads(input.width);
    // SAFETY: as forward.
    unsafe {
        norm_backward_kernel::launch_unchecked::<K::Runtime>(
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
            state.taken.centre,
            dtype.into(),
        );
    }
    output
}

/// The gradients of weight and bias.
fn parameters<K: Gpu>(
    state: &NormState<K>,
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
    #[comptime] shifted: bool,
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
        if shifted {
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
