//! Attention of one query a row, as a token is decoded: a head a cube, from scores to output in one
//! launch, the scores in the cube's own memory.

use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, ir::StorageType, prelude::*},
    tensor::CubeTensor,
};

use crate::ops::gpu::launch::{empty, max_over_cube, spread, sum_over_cube};

/// Threads of a cube; the channels of a head are at most as many.
const THREADS: usize = 256;
/// Scores that a cube's memory holds: 32 KiB.
const MOST_KEYS: usize = 8192;

/// The rows `[batch, 1, heads * head_dim]` that queries `[batch, heads, 1, head_dim]` see of keys and
/// values `[batch, kv_heads, kv, head_dim]`, from `starts` on where given, one a row of the batch.
/// `None` where they are too many, or do not lie channel by channel.
pub fn single_query<R: CubeRuntime>(
    query: &CubeTensor<R>,
    key: &CubeTensor<R>,
    value: &CubeTensor<R>,
    starts: Option<CubeTensor<R>>,
    scale: f32,
) -> Option<CubeTensor<R>> {
    let [batch, heads, _, width] = [0, 1, 2, 3].map(|dim| query.meta.shape()[dim]);
    let (kv_heads, keys) = (key.meta.shape()[1], key.meta.shape()[2]);
    let lies_so = [query, key, value]
        .iter()
        .all(|one| one.meta.strides()[3] == 1);
    if !lies_so || width > THREADS || keys > MOST_KEYS {
        return None;
    }
    let strides = |one: &CubeTensor<R>| [0, 1, 2].map(|dim| one.meta.strides()[dim]);
    let (of_query, of_key, of_value) = (strides(query), strides(key), strides(value));
    let output = empty(query, [batch, 1, heads * width], query.dtype);
    let padded = starts.is_some();
    // Without padding no starts are read, but something has to stand in their place.
    let starts = starts.map_or_else(|| key.clone().into_array_arg(), CubeTensor::into_array_arg);
    // SAFETY: cubes beyond the last head do nothing; rows are below `keys`, channels below `width`,
    // and strides are the tensors' own.
    unsafe {
        single_query_kernel::launch_unchecked::<R>(
            &output.client,
            spread(batch * heads),
            CubeDim::new_1d(THREADS as u32),
            query.clone().into_array_arg(),
            key.clone().into_array_arg(),
            value.clone().into_array_arg(),
            starts,
            output.clone().into_array_arg(),
            batch * heads,
            heads,
            heads / kv_heads,
            keys,
            width,
            of_query[0],
            of_query[1],
            of_key[0],
            of_key[1],
            of_key[2],
            of_value[0],
            of_value[1],
            of_value[2],
            scale,
            keys.next_power_of_two(),
            padded,
            query.dtype.into(),
        );
    }
    Some(output)
}

#[cube(launch_unchecked)]
fn single_query_kernel<F: Float>(
    query: &Array<F>,
    key: &Array<F>,
    value: &Array<F>,
    starts: &Array<i32>,
    output: &mut Array<F>,
    count: usize,
    heads: usize,
    group: usize,
    keys: usize,
    width: usize,
    query_batch: usize,
    query_head: usize,
    key_batch: usize,
    key_head: usize,
    key_row: usize,
    value_batch: usize,
    value_head: usize,
    value_row: usize,
    scale: f32,
    #[comptime] room: usize,
    #[comptime] padded: bool,
    #[define(F)] _dtype: StorageType,
) {
    let place = CUBE_POS;
    if place >= count {
        terminate!();
    }
    let mut scores = SharedMemory::<f32>::new(room);
    let mut shared = SharedMemory::<f32>::new(THREADS);
    let (batch, head) = (place / heads, place % heads);
    let own_query = batch * query_batch + head * query_head;
    let own_key = batch * key_batch + head / group * key_head;
    let own_value = batch * value_batch + head / group * value_head;
    let unit = UNIT_POS_X as usize;
    let mut from = 0usize;
    if padded {
        from = min(usize::cast_from(starts[batch]), keys);
    }

    // Below every score, and finite: WGSL has no infinity.
    let mut largest = f32::new(-3.0e38);
    let mut at = from + unit;
    while at < keys {
        let row = own_key + at * key_row;
        let mut score = 0.0f32;
        for channel in 0..width {
            score +=
                f32::cast_from(query[own_query + channel]) * f32::cast_from(key[row + channel]);
        }
        score *= scale;
        scores[at] = score;
        largest = max(largest, score);
        at += THREADS;
    }
    let largest = max_over_cube(largest, &mut shared, THREADS);
    let mut sum = 0.0f32;
    let mut at = from + unit;
    while at < keys {
        let share = f32::exp(scores[at] - largest);
        scores[at] = share;
        sum += share;
        at += THREADS;
    }
    let sum = sum_over_cube(sum, &mut shared, THREADS);

    // As many lanes of channels as there are threads for; each lane takes every so many-th row.
    let lanes = THREADS / width;
    let (lane, channel) = (unit / width, unit % width);
    let mut seen = 0.0f32;
    if lane < lanes {
        let mut at = from + lane;
        while at < keys {
            seen += scores[at] * f32::cast_from(value[own_value + at * value_row + channel]);
            at += lanes;
        }
    }
    sync_cube();
    shared[unit] = seen;
    sync_cube();
    if unit < width {
        let mut total = 0.0f32;
        for lane in 0..lanes {
            total += shared[lane * width + unit];
        }
        let mut share_of_one = 0.0f32;
        if sum > 0.0 {
            share_of_one = 1.0 / sum;
        }
        output[place * width + unit] = F::cast_from(total * share_of_one);
    }
}
