//! The floats that codes stand for.

use burn::tensor::DType;
use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, ir::StorageType, prelude::*},
    tensor::CubeTensor,
};

use super::{Words, code, scale};
use crate::ops::{
    gpu::launch::{elementwise, empty, rows},
    packed_linear::Bits,
};

/// All rows, `[out, in]` in the type `dtype`.
pub fn opened<R: CubeRuntime>(weight: &Words<R>, dtype: DType) -> CubeTensor<R> {
    let all = weight.codes.meta.shape()[0];
    open(weight, None, all, dtype)
}

/// Rows by number, `[ids, in]` in the type `dtype`.
pub fn opened_rows<R: CubeRuntime>(
    weight: &Words<R>,
    ids: CubeTensor<R>,
    dtype: DType,
) -> CubeTensor<R> {
    let count = ids.meta.num_elements();
    open(weight, Some(ids), count, dtype)
}

fn open<R: CubeRuntime>(
    weight: &Words<R>,
    ids: Option<CubeTensor<R>>,
    count: usize,
    dtype: DType,
) -> CubeTensor<R> {
    let [codes, scales] = [weight.codes.clone(), weight.scales.clone()].map(rows);
    let output = empty(&codes.tensor, [count, weight.inner], dtype);
    let written = rows(output.clone());
    let most = codes.tensor.client.properties().hardware.max_vector_size;
    let fits = [weight.inner, written.stride]
        .iter()
        .all(|side| side.is_multiple_of(4));
    let lanes = if fits && most >= 4 { 4 } else { 1 };
    let (cubes, threads) = elementwise(count * weight.inner / lanes);
    let named = ids.is_some();
    // Where all rows are opened no numbers of them are read, but something has to stand in their place.
    let ids = ids.unwrap_or_else(|| codes.tensor.clone());
    // SAFETY: threads beyond the last number do nothing, ids are those of rows, and strides are the
    // tensors' own.
    unsafe {
        open_kernel::launch_unchecked::<R>(
            &output.client,
            cubes,
            threads,
            lanes,
            codes.tensor.into_array_arg(),
            scales.tensor.into_array_arg(),
            ids.into_array_arg(),
            written.tensor.into_array_arg(),
            count * weight.inner / lanes,
            weight.inner / lanes,
            written.stride / lanes,
            codes.stride,
            scales.stride,
            weight.group(),
            weight.packing.bits,
            named,
            dtype.into(),
        );
    }
    output
}

#[cube(launch_unchecked)]
fn open_kernel<F: Float, N: Size>(
    codes: &Array<u32>,
    scales: &Array<u32>,
    ids: &Array<i32>,
    output: &mut Array<Vector<F, N>>,
    count: usize,
    width: usize,
    stride: usize,
    code_stride: usize,
    scale_stride: usize,
    group: usize,
    #[comptime] bits: Bits,
    #[comptime] named: bool,
    #[define(F)] _dtype: StorageType,
) {
    let at = ABSOLUTE_POS;
    if at >= count {
        terminate!();
    }
    let lanes = N::value().comptime();
    let a_word = bits.a_word().comptime();
    let (to, column) = (at / width, at % width * lanes);
    let mut row = to;
    if comptime!(named) {
        row = usize::cast_from(ids[to]);
    }
    let word = codes[row * code_stride + column / a_word];
    let scale = scale(scales, row * scale_stride, column / group);
    let mut numbers = Vector::<F, N>::empty();
    #[unroll]
    for lane in 0..lanes {
        let place = u32::cast_from(column % a_word + lane);
        numbers[lane] = F::cast_from(scale * code(word, place, bits));
    }
    output[to * stride + at % width] = numbers;
}
