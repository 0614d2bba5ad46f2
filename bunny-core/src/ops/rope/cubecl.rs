//! Rotary positions, read from heads as they lie and written as they are used.

use bunny_kernels::Rotation;
use burn::tensor::DType;
use burn_cubecl::{
    cubecl::{self, ir::StorageType, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

use super::{Pairing, autodiff::RotationKernel};
use crate::ops::{
    autodiff::{unwrap, wrap},
    gpu::{
        Gpu,
        launch::{elementwise, empty, lanes_between},
    },
};

impl<K: Gpu> RotationKernel for K {
    fn takes(pairing: Pairing, [_, cos, sin]: [DType; 3]) -> bool {
        pairing == Pairing::Halves && [cos, sin] == [DType::F32; 2]
    }

    fn turn(
        input: CubeTensor<K::Runtime>,
        angles: [CubeTensor<K::Runtime>; 2],
        _: Pairing,
        rotation: Rotation,
    ) -> CubeTensor<K::Runtime> {
        let back = rotation == Rotation::Inverse;
        turn::<K>(input, angles.map(into_contiguous), back)
    }
}

/// Turns heads by the angles of `cos` and `sin`, `[batch | 1, 1, seq, half]`. Forward, results are `[batch, heads, seq, head_dim]` side by side, as
/// attention reads them; back, they lie as `[batch, seq, heads, head_dim]`, as the projection does.
fn turn<K: Gpu>(
    input: CubeTensor<K::Runtime>,
    [cos, sin]: [CubeTensor<K::Runtime>; 2],
    back: bool,
) -> CubeTensor<K::Runtime> {
    let dtype = input.dtype;
    let [batch, heads, seq, width] = [0, 1, 2, 3].map(|dim| input.meta.shape()[dim]);
    let strides = [0, 1, 2, 3].map(|dim| input.meta.strides()[dim]);
    let half = cos.meta.shape()[3];
    let per_row = cos.meta.shape()[0] > 1;
    let (shape, to) = if back {
        (
            [batch, seq, heads, width],
            [seq * heads * width, width, heads * width],
        )
    } else {
        (
            [batch, heads, seq, width],
            [heads * seq * width, seq * width, width],
        )
    };
    let output = empty(&input, shape, dtype);
    let lanes = match strides[3] {
        1 => lanes_between(&input, &[half, width, strides[0], strides[1], strides[2]]),
        _ => 1,
    };
    let count = batch * heads * seq * width / lanes;
    let (cubes, threads) = elementwise(count);
    // SAFETY: no thread reads or writes beyond `count` elements; strides are the tensors' own.
    unsafe {
        rotate_kernel::launch_unchecked::<K::Runtime>(
            &output.client,
            cubes,
            threads,
            lanes,
            input.into_array_arg(),
            cos.into_array_arg(),
            sin.into_array_arg(),
            output.clone().into_array_arg(),
            count,
            heads,
            seq,
            width / lanes,
            half / lanes,
            strides[0] / lanes,
            strides[1] / lanes,
            strides[2] / lanes,
            strides[3],
            to[0] / lanes,
            to[1] / lanes,
            to[2] / lanes,
            per_row,
            back,
            dtype.into(),
        );
    }
    if back {
        unwrap(wrap::<K, 4>(output).swap_dims(1, 2))
    } else {
        output
    }
}

/// Counts, sides and strides are those of vectors.
#[cube(launch_unchecked)]
fn rotate_kernel<F: Float, N: Size>(
    input: &Array<Vector<F, N>>,
    cos: &Array<f32>,
    sin: &Array<f32>,
    output: &mut Array<Vector<F, N>>,
    count: usize,
    heads: usize,
    seq: usize,
    width: usize,
    half: usize,
    from_batch: usize,
    from_head: usize,
    from_seq: usize,
    from_channel: usize,
    to_batch: usize,
    to_head: usize,
    to_seq: usize,
    #[comptime] per_row: bool,
    #[comptime] back: bool,
    #[define(F)] _dtype: StorageType,
) {
    let place = ABSOLUTE_POS;
    if place >= count {
        terminate!();
    }
    let channel = place % width;
    let at = place / width % seq;
    let head = place / (width * seq) % heads;
    let batch = place / (width * seq * heads);
    let from = batch * from_batch + head * from_head + at * from_seq;
    let lanes = N::value().comptime();
    let own = input[from + channel * from_channel];
    let mut turned = own;
    if channel < 2 * half {
        let is_first = channel < half;
        let pair = if is_first { channel } else { channel - half };
        let partner = if is_first {
            channel + half
        } else {
            channel - half
        };
        let other = input[from + partner * from_channel];
        let mut angle = (at * half + pair) * lanes;
        if per_row {
            angle += batch * seq * half * lanes;
        }
        let mut sign = f32::new(1.0);
        if back {
            sign = -sign;
        }
        if is_first {
            sign = -sign;
        }
        #[unroll]
        for lane in 0..lanes {
            let sine = sign * sin[angle + lane];
            let sum =
                f32::cast_from(own[lane]) * cos[angle + lane] + f32::cast_from(other[lane]) * sine;
            turned[lane] = F::cast_from(sum);
        }
    }
    output[batch * to_batch + head * to_head + at * to_seq + channel] = turned;
}
