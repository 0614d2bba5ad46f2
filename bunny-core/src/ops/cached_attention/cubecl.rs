//! A cache's blocks: rows written to where they belong, and attention of one query a sequence that
//! finds its keys through a table, a head a cube.

use burn::tensor::{Tensor, backend::Backend};
use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, ir::StorageType, prelude::*},
    tensor::CubeTensor,
};

use super::{KvPass, LayerCache};
use crate::ops::{
    gpu::{
        Gpu,
        launch::{elementwise, empty, max_over_cube, spread, sum_over_cube},
    },
    place::{lower, lower_int, raise, view},
};

/// Threads of a cube; the channels of a head are at most as many.
const THREADS: usize = 256;
/// Scores that a cube's memory holds: 32 KiB.
const MOST_KEYS: usize = 8192;

/// Writes keys and values `[1, kv_heads, rows, head_dim]` to the blocks of a pass, in one launch;
/// whether it could: not where the blocks do not lie in one tensor.
pub fn keep_rows<B: Backend, K: Gpu>(
    layer: &mut LayerCache<B>,
    pass: &KvPass<B>,
    rows: [&Tensor<B, 4>; 2],
) -> bool {
    let device = rows[0].device();
    let [keys, values]: [CubeTensor<K::Runtime>; 2] = rows.map(view);
    let [key_store, value_store] = layer.stores_mut();
    let same_type = key_store.dtype() == keys.dtype && values.dtype == keys.dtype;
    let ([key_blocks], [value_blocks], true) = (
        key_store.tensors_mut(),
        value_store.tensors_mut(),
        same_type,
    ) else {
        return false;
    };
    let places: CubeTensor<K::Runtime> = lower_int(pass.row_places(&device));
    let positions = pass.blocks().positions;
    for (blocks, rows) in [(key_blocks, keys), (value_blocks, values)] {
        blocks.inplace(|blocks| {
            let blocks: CubeTensor<K::Runtime> = lower(blocks);
            let blocks = match blocks.can_mut() {
                true => blocks,
                false => blocks.copy(),
            };
            keep(&blocks, rows, places.clone(), positions);
            raise(blocks)
        });
    }
    true
}

/// Writes rows to blocks that nobody else holds.
fn keep<R: CubeRuntime>(
    blocks: &CubeTensor<R>,
    rows: CubeTensor<R>,
    places: CubeTensor<R>,
    positions: usize,
) {
    let [_, heads, count, width] = [0, 1, 2, 3].map(|dim| rows.meta.shape()[dim]);
    let [_, row_head, row_row, row_channel] = [0, 1, 2, 3].map(|dim| rows.meta.strides()[dim]);
    let to = [0, 1, 2].map(|dim| blocks.meta.strides()[dim]);
    let total = count * heads * width;
    let (cubes, threads) = elementwise(total);
    let dtype = rows.dtype;
    // SAFETY: threads beyond the last number do nothing, places are those of blocks that there are, and
    // strides are the tensors' own.
    unsafe {
        keep_kernel::launch_unchecked::<R>(
            &blocks.client,
            cubes,
            threads,
            rows.clone().into_array_arg(),
            places.into_array_arg(),
            blocks.clone().into_array_arg(),
            total,
            heads,
            width,
            positions,
            row_head,
            row_row,
            row_channel,
            to[0],
            to[1],
            to[2],
            dtype.into(),
        );
    }
}

#[cube(launch_unchecked)]
fn keep_kernel<F: Float>(
    rows: &Array<F>,
    places: &Array<i32>,
    blocks: &mut Array<F>,
    total: usize,
    heads: usize,
    width: usize,
    positions: usize,
    row_head: usize,
    row_row: usize,
    row_channel: usize,
    to_block: usize,
    to_head: usize,
    to_row: usize,
    #[define(F)] _dtype: StorageType,
) {
    let at = ABSOLUTE_POS;
    if at >= total {
        terminate!();
    }
    let (channel, head, row) = (at % width, at / width % heads, at / width / heads);
    let place = usize::cast_from(places[row]);
    let to = place / positions * to_block + head * to_head + place % positions * to_row + channel;
    blocks[to] = rows[head * row_head + row * row_row + channel * row_channel];
}

/// What queries `[1, heads, sequences, head_dim]` see, one of each sequence, as
/// `[1, sequences, heads * head_dim]`. `None` where there are too many keys, or they do not lie so.
pub fn decode_attention<B: Backend, K: Gpu>(
    query: &Tensor<B, 4>,
    layer: &mut LayerCache<B>,
    pass: &KvPass<B>,
    scale: f32,
) -> Option<Tensor<B, 3>> {
    let device = query.device();
    let query: CubeTensor<K::Runtime> = view(query);
    let [key, value] = layer.stores_mut().map(|store| match store.tensors() {
        [all] => Some(view::<B, CubeTensor<K::Runtime>, 4>(all)),
        _ => None,
    });
    let (key, value) = (key?, value?);
    let [_, heads, sequences, width] = [0, 1, 2, 3].map(|dim| query.meta.shape()[dim]);
    let most = pass.most_blocks();
    let positions = pass.blocks().positions;
    let keys = most * positions;
    let all = [&query, &key, &value];
    let lies_so = all
        .iter()
        .all(|one| one.meta.strides()[3] == 1 && one.dtype == query.dtype);
    let same_strides = key.meta.strides() == value.meta.strides();
    if !lies_so || !same_strides || width > THREADS || keys > MOST_KEYS {
        return None;
    }
    let of_query = [1, 2].map(|dim| query.meta.strides()[dim]);
    let of_keys = [0, 1, 2].map(|dim| key.meta.strides()[dim]);
    let kv_heads = key.meta.shape()[1];
    let output = empty(&query, [1, sequences, heads * width], query.dtype);
    let tables: CubeTensor<K::Runtime> = lower_int(pass.tables(&device));
    let lengths: CubeTensor<K::Runtime> = lower_int(pass.lengths(&device));
    let table_row = tables.meta.strides()[0];
    // SAFETY: cubes beyond the last head do nothing; tables name blocks that there are, lengths are
    // those of the tables' blocks at most, channels are below `width`, and strides are the tensors' own.
    unsafe {
        decode_kernel::launch_unchecked::<K::Runtime>(
            &output.client,
            spread(sequences * heads),
            CubeDim::new_1d(THREADS as u32),
            query.clone().into_array_arg(),
            key.into_array_arg(),
            value.into_array_arg(),
            tables.into_array_arg(),
            lengths.into_array_arg(),
            output.clone().into_array_arg(),
            sequences * heads,
            heads,
            heads / kv_heads,
            width,
            positions,
            table_row,
            of_query[0],
            of_query[1],
            of_keys[0],
            of_keys[1],
            of_keys[2],
            scale,
            keys.next_power_of_two(),
            query.dtype.into(),
        );
    }
    Some(raise(output))
}

#[cube(launch_unchecked)]
fn decode_kernel<F: Float>(
    query: &Array<F>,
    keys: &Array<F>,
    values: &Array<F>,
    tables: &Array<i32>,
    lengths: &Array<i32>,
    output: &mut Array<F>,
    count: usize,
    heads: usize,
    group: usize,
    width: usize,
    positions: usize,
    table_row: usize,
    query_head: usize,
    query_row: usize,
    key_block: usize,
    key_head: usize,
    key_row: usize,
    scale: f32,
    #[comptime] room: usize,
    #[define(F)] _dtype: StorageType,
) {
    let place = CUBE_POS;
    if place >= count {
        terminate!();
    }
    let mut scores = SharedMemory::<f32>::new(room);
    let mut shared = SharedMemory::<f32>::new(THREADS);
    let (sequence, head) = (place / heads, place % heads);
    let own_query = sequence * query_row + head * query_head;
    let own_head = head / group * key_head;
    let table = sequence * table_row;
    let length = usize::cast_from(lengths[sequence]);
    let unit = UNIT_POS_X as usize;

    // Below every score, and finite: WGSL has no infinity.
    let mut largest = f32::new(-3.0e38);
    let mut at = unit;
    while at < length {
        let block = usize::cast_from(tables[table + at / positions]);
        let row = block * key_block + own_head + at % positions * key_row;
        let mut score = 0.0f32;
        for channel in 0..width {
            score +=
                f32::cast_from(query[own_query + channel]) * f32::cast_from(keys[row + channel]);
        }
        score *= scale;
        scores[at] = score;
        largest = max(largest, score);
        at += THREADS;
    }
    let largest = max_over_cube(largest, &mut shared, THREADS);
    let mut sum = 0.0f32;
    let mut at = unit;
    while at < length {
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
        let mut at = lane;
        while at < length {
            let block = usize::cast_from(tables[table + at / positions]);
            let row = block * key_block + own_head + at % positions * key_row;
            seen += scores[at] * f32::cast_from(values[row + channel]);
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
        output[place * width + unit] = F::cast_from(total / sum);
    }
}
