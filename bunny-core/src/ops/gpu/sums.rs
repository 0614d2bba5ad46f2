//! Sums over rows, and the squares of everything.

use burn::tensor::{DType, Tensor, backend::Backend};
use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, ir::StorageType, prelude::*},
    tensor::CubeTensor,
};

use super::{
    Gpu,
    launch::{empty, rows, sum_over_cube},
    plain,
};

/// Columns of a cube that adds up rows.
pub const COLUMNS: usize = 32;
/// Rows that it reads at once.
pub const LANES: usize = 8;
/// Rows that one cube adds up.
pub const ROWS_A_CHUNK: usize = 128;

/// The sum of all rows of a tensor, `[..., columns]` → `[columns]`, in f32.
pub fn column_sums<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    let dtype = tensor.dtype;
    let input = rows(tensor);
    let (count, width) = (input.count, input.width);
    let chunks = count.div_ceil(ROWS_A_CHUNK).max(1);
    let sums = empty(&input.tensor, [chunks, width], DType::F32);
    // SAFETY: threads beyond the last column add nothing and write nothing.
    unsafe {
        column_sums_kernel::launch_unchecked::<R>(
            &sums.client,
            CubeCount::Static(width.div_ceil(COLUMNS) as u32, chunks as u32, 1),
            CubeDim::new_2d(COLUMNS as u32, LANES as u32),
            input.tensor.into_array_arg(),
            sums.clone().into_array_arg(),
            count,
            width,
            input.stride,
            dtype.into(),
        );
    }
    if chunks > 1 {
        return column_sums(sums);
    }
    CubeTensor::new_contiguous(
        sums.client.clone(),
        sums.device.clone(),
        [width].into(),
        sums.handle,
        DType::F32,
    )
}

#[cube(launch_unchecked)]
fn column_sums_kernel<F: Float>(
    input: &Array<F>,
    sums: &mut Array<f32>,
    rows: usize,
    width: usize,
    stride: usize,
    #[define(F)] _dtype: StorageType,
) {
    let mut shared = SharedMemory::<f32>::new(comptime!(COLUMNS * LANES));
    let (x, y) = (UNIT_POS_X as usize, UNIT_POS_Y as usize);
    let column = CUBE_POS_X as usize * COLUMNS + x;
    let chunk = CUBE_POS_Y as usize;
    let mut sum = 0.0f32;
    if column < width {
        let mut row = chunk * ROWS_A_CHUNK + y;
        let end = min((chunk + 1) * ROWS_A_CHUNK, rows);
        while row < end {
            sum += f32::cast_from(input[row * stride + column]);
            row += LANES;
        }
    }
    shared[y * COLUMNS + x] = sum;
    sync_cube();
    if y == 0 && column < width {
        let mut sum = 0.0f32;
        for lane in 0..LANES {
            sum += shared[lane * COLUMNS + x];
        }
        sums[chunk * width + column] = sum;
    }
}

/// Threads of a cube that adds up squares, and the cubes that share a tensor at most.
const SQUARE_THREADS: usize = 256;
const SQUARE_CUBES: usize = 64;

/// [`plain::sum_of_squares`](crate::nn::kernel::plain::sum_of_squares): a launch a tensor, and one
/// read-back for all.
pub fn sum_of_squares<B: Backend, K: Gpu>(tensors: &[&Tensor<B, 1>]) -> Option<f64> {
    let tensors: Vec<_> = tensors
        .iter()
        .map(|tensor| plain::<B, K, 1>(tensor))
        .collect::<Option<_>>()?;
    let Some(first) = tensors.first() else {
        return Some(0.0);
    };
    let cubes = |tensor: &CubeTensor<K::Runtime>| {
        let work = tensor.meta.num_elements().div_ceil(16 * SQUARE_THREADS);
        work.clamp(1, SQUARE_CUBES)
    };
    let total = tensors.iter().map(cubes).sum::<usize>();
    let sums = empty(first, [total], DType::F32);
    let mut place = 0;
    for tensor in tensors {
        let (dtype, cubes) = (tensor.dtype, cubes(&tensor));
        let input = rows(tensor);
        // SAFETY: threads stay within the tensor, and each cube has a place of its own.
        unsafe {
            sum_of_squares_kernel::launch_unchecked::<K::Runtime>(
                &sums.client,
                CubeCount::Static(cubes as u32, 1, 1),
                CubeDim::new_1d(SQUARE_THREADS as u32),
                input.tensor.into_array_arg(),
                sums.clone().into_array_arg(),
                input.count * input.width,
                place,
                dtype.into(),
            );
        }
        place += cubes;
    }
    let sums = super::tracked::wrap::<K, 1>(sums).into_data();
    Some(sums.iter::<f32>().map(f64::from).sum())
}

#[cube(launch_unchecked)]
fn sum_of_squares_kernel<F: Float>(
    input: &Array<F>,
    sums: &mut Array<f32>,
    count: usize,
    place: usize,
    #[define(F)] _dtype: StorageType,
) {
    let mut shared = SharedMemory::<f32>::new(SQUARE_THREADS);
    let mut sum = 0.0f32;
    let mut at = ABSOLUTE_POS;
    let step = CUBE_COUNT_X as usize * SQUARE_THREADS;
    while at < count {
        let x = f32::cast_from(input[at]);
        sum += x * x;
        at += step;
    }
    let sum = sum_over_cube(sum, &mut shared, SQUARE_THREADS);
    if UNIT_POS_X == 0 {
        sums[place + CUBE_POS_X as usize] = sum;
    }
}
