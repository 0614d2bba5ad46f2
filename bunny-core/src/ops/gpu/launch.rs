//! What every launch needs: room for results, rows of a tensor, counts of threads.

use burn::tensor::{DType, Shape};
use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, prelude::*},
    kernel::into_contiguous,
    ops::numeric::empty_device_contiguous_dtype,
    tensor::CubeTensor,
};

use super::Gpu;

/// Room for a result beside `like`, its numbers side by side and not set yet.
pub fn empty<R: CubeRuntime>(
    like: &CubeTensor<R>,
    shape: impl Into<Shape>,
    dtype: DType,
) -> CubeTensor<R> {
    empty_device_contiguous_dtype(
        like.client.clone(),
        like.device.clone(),
        shape.into(),
        dtype,
    )
}

/// Bytes that are held of the device on which a tensor lies: pools keep what they once took.
pub fn reserved_memory<K: Gpu>(at: &CubeTensor<K::Runtime>) -> Option<u64> {
    let usage = at.client.memory_usage().ok()?;
    Some(usage.bytes_reserved)
}

/// A tensor as rows of its last dimension, whose starts are equally far apart.
pub struct Rows<R: CubeRuntime> {
    /// The tensor.
    pub tensor: CubeTensor<R>,
    /// How many rows.
    pub count: usize,
    /// Numbers in each.
    pub width: usize,
    /// From one row's start to the next one's: allocators may pad rows.
    pub stride: usize,
}

/// A tensor as rows; copied only where it does not lie so.
pub fn rows<R: CubeRuntime>(tensor: CubeTensor<R>) -> Rows<R> {
    let tensor = match row_stride(&tensor) {
        Some(_) => tensor,
        None => into_contiguous(tensor),
    };
    let shape = tensor.meta.shape();
    let width = shape.last().copied().unwrap_or(1);
    Rows {
        count: shape.num_elements() / width.max(1),
        width,
        stride: row_stride(&tensor).unwrap_or(width),
        tensor,
    }
}

fn row_stride<R: CubeRuntime>(tensor: &CubeTensor<R>) -> Option<usize> {
    let (shape, strides) = (tensor.meta.shape(), tensor.meta.strides());
    let rank = shape.num_dims();
    if rank < 2 {
        return (rank == 1 && strides[0] == 1).then(|| shape[0]);
    }
    let lies_so = strides[rank - 1] == 1
        && (0..rank - 2).all(|dim| strides[dim] == strides[dim + 1] * shape[dim + 1]);
    lies_so.then(|| strides[rank - 2])
}

/// Numbers that a thread takes at once of all these rows.
pub fn lanes<R: CubeRuntime>(all: &[&Rows<R>]) -> usize {
    let lanes = all
        .iter()
        .map(|rows| lanes_between(&rows.tensor, &[rows.width, rows.stride]));
    lanes.min().unwrap_or(1)
}

/// Numbers that a thread takes at once: 16 bytes of them, or a single one where the tensor's sides, what
/// lies between its rows or where it begins do not allow it.
pub fn lanes_between<R: CubeRuntime>(tensor: &CubeTensor<R>, sides: &[usize]) -> usize {
    let most = tensor.client.properties().hardware.max_vector_size;
    let lanes = (16 / tensor.dtype.size()).min(most);
    let begins_well = tensor.handle.offset_start.unwrap_or(0).is_multiple_of(16);
    let fits = sides.iter().all(|side| side.is_multiple_of(lanes));
    if begins_well && fits { lanes } else { 1 }
}

/// Threads of a cube that works on one element each.
const ELEMENT_THREADS: u32 = 256;

/// Cubes and threads for `count` elements, or vectors of them, one a thread.
pub fn elementwise(count: usize) -> (CubeCount, CubeDim) {
    let cubes = count.div_ceil(ELEMENT_THREADS as usize);
    (spread(cubes), CubeDim::new_1d(ELEMENT_THREADS))
}

/// At least `cubes` cubes: adapters take at most 65,535 along one side.
pub fn spread(cubes: usize) -> CubeCount {
    const SIDE: usize = 65_535;
    if cubes <= SIDE {
        CubeCount::Static(cubes as u32, 1, 1)
    } else {
        let down = cubes.div_ceil(SIDE);
        CubeCount::Static(cubes.div_ceil(down) as u32, down as u32, 1)
    }
}

/// Threads that share the work on a row of `width` numbers.
pub fn row_threads(width: usize) -> usize {
    (width / 4).next_power_of_two().clamp(32, 256)
}

/// The sum over a cube of each thread's `value`, for all of them.
#[cube]
pub fn sum_over_cube(
    value: f32,
    shared: &mut SharedMemory<f32>,
    #[comptime] threads: usize,
) -> f32 {
    let at = UNIT_POS_X as usize;
    // Whatever was read from it before has been read.
    sync_cube();
    shared[at] = value;
    sync_cube();
    let mut half = (threads / 2).runtime();
    while half > 0 {
        if at < half {
            let other = shared[at + half];
            shared[at] += other;
        }
        sync_cube();
        half /= 2;
    }
    shared[0]
}

/// The largest of each thread's `value`, for all of a cube.
#[cube]
pub fn max_over_cube(
    value: f32,
    shared: &mut SharedMemory<f32>,
    #[comptime] threads: usize,
) -> f32 {
    let at = UNIT_POS_X as usize;
    sync_cube();
    shared[at] = value;
    sync_cube();
    let mut half = (threads / 2).runtime();
    while half > 0 {
        if at < half {
            let other = shared[at + half];
            shared[at] = max(shared[at], other);
        }
        sync_cube();
        half /= 2;
    }
    shared[0]
}
