//! Products of few rows: what they take is the time to read the codes once.

use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, ir::StorageType, prelude::*},
    tensor::CubeTensor,
};

use super::{Words, code, scale};
use crate::ops::{
    gpu::launch::{empty, lanes, rows, spread},
    packed_linear::Bits,
};

/// As many rows are multiplied with one reading of the codes.
pub const FEW: usize = 8;

/// Threads that share a row of the weight.
const LANES: usize = 32;
/// Such teams of a cube.
const TEAMS: usize = 4;
/// Rows of the weight that a team has: what it reads of the input serves all.
const ROWS_A_TEAM: usize = 2;
const THREADS: usize = LANES * TEAMS;

/// `x Wᵀ + b`, the codes read once for every [`FEW`] rows of `x`.
///
/// # Shapes
/// `[rows, in]`, `[out, in]`, `[out]` → `[rows, out]`
pub fn few_rows<R: CubeRuntime>(
    input: CubeTensor<R>,
    weight: &Words<R>,
    bias: Option<CubeTensor<R>>,
) -> CubeTensor<R> {
    let dtype = input.dtype;
    let bits = weight.packing.bits;
    let [input, codes, scales] = [input, weight.codes.clone(), weight.scales.clone()].map(rows);
    let (count, out) = (input.count, codes.count);
    let output = empty(&input.tensor, [count, out], dtype);
    let biased = bias.is_some();
    // What has no bias does not read one, but something has to stand in its place.
    let bias = bias.unwrap_or_else(|| input.tensor.clone());
    let word_lanes = lanes(&[&codes]);
    // A vector of the input lies within a word's numbers.
    let input_lanes = lanes(&[&input]).min(4);
    let whole = weight.inner.is_multiple_of(bits.a_word());
    for first in (0..count).step_by(FEW) {
        let taken = (count - first).min(FEW);
        // SAFETY: rows beyond the last are read as the last and not written, numbers beyond a row's last
        // are not read, and strides are the tensors' own.
        unsafe {
            few_rows_kernel::launch_unchecked::<R>(
                &output.client,
                spread(out.div_ceil(TEAMS * ROWS_A_TEAM)),
                CubeDim::new_2d(LANES as u32, TEAMS as u32),
                input_lanes,
                word_lanes,
                input.tensor.clone().into_array_arg(),
                codes.tensor.clone().into_array_arg(),
                scales.tensor.clone().into_array_arg(),
                bias.clone().into_array_arg(),
                output.clone().into_array_arg(),
                first,
                count,
                out,
                weight.inner,
                codes.width / word_lanes,
                codes.stride / word_lanes,
                input.stride / input_lanes,
                scales.stride,
                weight.group(),
                taken.next_power_of_two(),
                bits,
                whole,
                biased,
                dtype.into(),
            );
        }
    }
    output
}

#[cube(launch_unchecked)]
fn few_rows_kernel<F: Float, X: Size, W: Size>(
    input: &Array<Vector<F, X>>,
    codes: &Array<Vector<u32, W>>,
    scales: &Array<u32>,
    bias: &Array<F>,
    output: &mut Array<F>,
    first: usize,
    count: usize,
    out: usize,
    inner: usize,
    steps: usize,
    code_stride: usize,
    input_stride: usize,
    scale_stride: usize,
    group: usize,
    #[comptime] rows: usize,
    #[comptime] bits: Bits,
    #[comptime] whole: bool,
    #[comptime] biased: bool,
    #[define(F)] _dtype: StorageType,
) {
    let input_lanes = X::value().comptime();
    let words = W::value().comptime();
    let a_word = bits.a_word().comptime();
    let vectors = comptime!(a_word / input_lanes);
    let sums_a_thread = comptime!(rows * ROWS_A_TEAM);

    let (lane, team) = (UNIT_POS_X as usize, UNIT_POS_Y as usize);
    let own = (CUBE_POS * TEAMS + team) * ROWS_A_TEAM;
    let mut sums = Array::<f32>::new(sums_a_thread);
    #[unroll]
    for at in 0..sums_a_thread {
        sums[at] = 0.0;
    }

    let mut step = lane;
    while step < steps {
        let from = step * words * a_word;
        #[unroll]
        for turn in 0..ROWS_A_TEAM {
            let row = min(own + turn, out - 1);
            let read = codes[row * code_stride + step];
            let scale = scale(scales, row * scale_stride, from / group);
            let mut parts = Array::<f32>::new(rows);
            #[unroll]
            for at in 0..rows {
                parts[at] = 0.0;
            }
            #[unroll]
            for word in 0..words {
                #[unroll]
                for vector in 0..vectors {
                    let column = from + comptime!(word * a_word + vector * input_lanes);
                    if comptime!(whole) || column < inner {
                        #[unroll]
                        for at in 0..rows {
                            let taken = min(first + at, count - 1);
                            let x = input[taken * input_stride + column / input_lanes];
                            let mut part = parts[at];
                            #[unroll]
                            for place in 0..input_lanes {
                                let place_of_code =
                                    comptime!((vector * input_lanes + place) as u32);
                                part += code(read[word], place_of_code, bits)
                                    * f32::cast_from(x[place]);
                            }
                            parts[at] = part;
                        }
                    }
                }
            }
            #[unroll]
            for at in 0..rows {
                sums[comptime!(turn * rows + at)] += scale * parts[at];
            }
        }
        step += LANES;
    }

    let unit = team * LANES + lane;
    let mut shared = SharedMemory::<f32>::new(comptime!(THREADS * rows * ROWS_A_TEAM));
    #[unroll]
    for at in 0..sums_a_thread {
        shared[at * THREADS + unit] = sums[at];
    }
    sync_cube();
    let mut at = unit;
    while at < comptime!(TEAMS * ROWS_A_TEAM * rows) {
        let (sum, team) = (at / TEAMS, at % TEAMS);
        let (turn, taken) = (sum / rows, first + sum % rows);
        let row = (CUBE_POS * TEAMS + team) * ROWS_A_TEAM + turn;
        if row < out && taken < count {
            let mut total = 0.0f32;
            for lane in 0..LANES {
                total += shared[sum * THREADS + team * LANES + lane];
            }
            if comptime!(biased) {
                total += f32::cast_from(bias[row]);
            }
            output[taken * out + row] = F::cast_from(total);
        }
        at += THREADS;
    }
}
