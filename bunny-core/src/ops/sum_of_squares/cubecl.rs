//! The squares of everything: cubes share each tensor, and what they find is added up where it is
//! read.

use burn::tensor::DType;
use burn_cubecl::{
    cubecl::{self, ir::StorageType, prelude::*},
    tensor::CubeTensor,
};

use crate::ops::{
    autodiff::wrap,
    gpu::{
        Gpu,
        launch::{empty, rows, sum_over_cube},
    },
};

/// Threads of a cube that adds up squares, and the cubes that share a tensor at most.
const SQUARE_THREADS: usize = 256;
const SQUARE_CUBES: usize = 64;

/// [`sum_of_squares`](super::sum_of_squares): a launch a tensor, and one
/// read-back for all.
pub fn sum_of_squares<K: Gpu>(tensors: Vec<CubeTensor<K::Runtime>>) -> f64 {
    let Some(first) = tensors.first() else {
        return 0.0;
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
    let sums = wrap::<K, 1>(sums).into_data();
    sums.iter::<f32>().map(f64::from).sum()
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
