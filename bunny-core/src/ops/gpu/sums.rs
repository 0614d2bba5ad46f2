//! Sums over rows.

use burn::tensor::DType;
use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, ir::StorageType, prelude::*},
    tensor::CubeTensor,
};

use super::launch::{empty, rows};

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
