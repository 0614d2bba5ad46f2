//! Attention of sequences that are each as long as they are, to keys and values in a cache's blocks.
//!
//! A pass is over rows of prompts or over one row of each of several sequences. Its keys and values are
//! written to the cache first; then every row looks at its own position and all before it.

#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod cubecl;
#[cfg(feature = "flex")]
mod flex;
mod kv_cache;
mod windowed;

use burn::tensor::{DType, Int, Tensor, TensorData, backend::Backend};

use self::kv_cache::{BlockStore, Run, Span};
pub use self::{
    kv_cache::{KvBlocks, KvCache, KvPass, KvSequence, LayerCache, kv_row_bytes},
    windowed::windowed_attention,
};
use super::{
    AttentionMask, Mask, Operands, Phase,
    attention::{attention, plain_hiding},
    place::on_gpu,
};

/// How a cache is best cut for the backend at hand.
pub fn kv_blocks<B: Backend>() -> KvBlocks {
    #[cfg(feature = "flex")]
    if let Some(blocks) = flex::kv_blocks::<B>() {
        return blocks;
    }
    KvBlocks {
        positions: 64,
        per_tensor: 1 << 12,
    }
}

/// Whether a cache of the backend at hand may hold keys and values in fewer bits than it is given and
/// asked for.
pub fn narrows_cache<B: Backend>() -> bool {
    #[cfg(feature = "flex")]
    if flex::kv_blocks::<B>().is_some() {
        return true;
    }
    false
}

/// Writes the keys and values of a pass to a layer's cache, and gives what its queries see: softmax of
/// scaled scores, times the values.
///
/// # Shapes
/// queries `[1, heads, rows, head_dim]`, keys and values `[1, kv_heads, rows, head_dim]` →
/// `[1, rows, heads * head_dim]`
pub fn cached_attention<B: Backend>(
    [query, key, value]: [Tensor<B, 4>; 3],
    layer: &mut LayerCache<B>,
    pass: &KvPass<B>,
    phase: Phase,
    scale: f64,
    operands: Operands,
) -> Tensor<B, 3> {
    #[cfg(feature = "flex")]
    if let Some(output) = flex::attend([&query, &key, &value], layer, pass, phase, scale, operands)
    {
        return output;
    }
    keep_rows(layer, pass, [&key, &value]);
    if phase != Phase::Decode {
        return prefill([query, key, value], layer, pass, scale, operands);
    }
    let by_kernel: Option<Tensor<B, 3>> = on_gpu!(B;
        plain<K> => cubecl::decode_attention::<B, K>(&query, layer, pass, scale as f32),
        else => None,
    );
    by_kernel.unwrap_or_else(|| decode(query, layer, pass, scale))
}

/// Writes the rows of a pass where they belong.
fn keep_rows<B: Backend>(layer: &mut LayerCache<B>, pass: &KvPass<B>, rows: [&Tensor<B, 4>; 2]) {
    #[cfg(feature = "flex")]
    if flex::keep_coded(layer, pass, rows) {
        return;
    }
    let by_kernel: bool = on_gpu!(B;
        plain<K> => cubecl::keep_rows::<B, K>(layer, pass, rows),
        else => false,
    );
    if by_kernel {
        return;
    }
    for (store, rows) in layer.stores_mut().into_iter().zip(rows) {
        let [_, heads, _, width] = rows.dims();
        for Run {
            row,
            count,
            block,
            at,
        } in pass.runs()
        {
            let rows = rows.clone().narrow(2, row, count).cast(store.dtype());
            let (tensor, block) = store.place(block);
            let to = [block..block + 1, 0..heads, at..at + count, 0..width];
            // In place: nothing else holds the tensor between two passes.
            store.tensors_mut()[tensor].inplace(|all| all.slice_assign(to, rows));
        }
    }
}

/// What rows of prompts see, sequence by sequence.
fn prefill<B: Backend>(
    rows: [Tensor<B, 4>; 3],
    layer: &mut LayerCache<B>,
    pass: &KvPass<B>,
    scale: f64,
    operands: Operands,
) -> Tensor<B, 3> {
    let device = rows[0].device();
    let mut row = 0;
    let mut outputs = Vec::with_capacity(pass.spans().len());
    for span in pass.spans() {
        let [query, key, value] = match pass.spans().len() {
            1 => rows.clone(),
            _ => rows
                .each_ref()
                .map(|rows| rows.clone().narrow(2, row, span.count)),
        };
        let [key, value] = match span.past {
            0 => [key, value],
            _ => whole(layer, span, query.dtype()),
        };
        let keys = span.past + span.count;
        let mask = AttentionMask::new(Mask::CAUSAL, 1, span.count, keys, &device);
        outputs.push(attention(query, key, value, &mask, scale, operands));
        row += span.count;
    }
    match outputs.len() {
        1 => outputs.remove(0),
        _ => Tensor::cat(outputs, 1),
    }
}

/// All that a cache holds of a sequence, keys and values, each `[1, kv_heads, len, head_dim]`.
fn whole<B: Backend>(layer: &mut LayerCache<B>, span: &Span, dtype: DType) -> [Tensor<B, 4>; 2] {
    #[cfg(feature = "flex")]
    if let Some(both) = flex::open_coded(layer, span) {
        return both;
    }
    layer.stores_mut().map(|store| {
        let ids = span.table.iter().map(|block| *block as i32).collect();
        let ids = TensorData::new(ids, [span.table.len()]);
        let ids = Tensor::from_data(ids, &store.tensors()[0].device());
        let all = gather(store, std::slice::from_ref(span), span.table.len(), ids);
        all.narrow(2, 0, span.past + span.count).cast(dtype)
    })
}

/// What one row of each sequence sees: all of them at once, the short ones filled up with positions
/// that are hidden.
fn decode<B: Backend>(
    query: Tensor<B, 4>,
    layer: &mut LayerCache<B>,
    pass: &KvPass<B>,
    scale: f64,
) -> Tensor<B, 3> {
    let device = query.device();
    let [_, heads, rows, width] = query.dims();
    let most = pass.most_blocks();
    let room = most * pass.blocks().positions;
    let lengths = pass.lengths(&device).reshape([rows, 1]);
    let places = Tensor::<B, 1, Int>::arange(0..room as i64, &device).reshape([1, room]);
    let hidden = places
        .expand([rows, room])
        .greater_equal(lengths.expand([rows, room]));
    let tables = pass.tables(&device).flatten(0, 1);
    let [key, value] = layer
        .stores_mut()
        .map(|store| gather(store, pass.spans(), most, tables.clone()).cast(query.dtype()));
    // What is hidden has no share, and no share of what is no number is none.
    let [_, kv_heads, ..] = value.dims();
    let beyond = hidden.clone().reshape([rows, 1, room, 1]);
    let value = value.mask_fill(beyond.expand([rows, kv_heads, room, width]), 0.0);
    // Each row is a sequence.
    let query = query.reshape([heads, rows, width]).swap_dims(0, 1);
    let query = query.reshape([rows, heads, 1, width]);
    let hidden = hidden.reshape([rows, 1, 1, room]);
    plain_hiding(query, key, value, Some(hidden), scale).reshape([1, rows, heads * width])
}

/// The blocks `ids`, `most` of each sequence, as `[sequences, kv_heads, most * positions, head_dim]`.
fn gather<B: Backend>(
    store: &BlockStore<B>,
    spans: &[Span],
    most: usize,
    ids: Tensor<B, 1, Int>,
) -> Tensor<B, 4> {
    let blocks = match store.tensors() {
        [all] => all.clone().select(0, ids),
        _ => {
            let blocks = spans.iter().flat_map(|span| {
                let all = span.table.iter().chain(std::iter::repeat(&span.table[0]));
                all.take(most).map(|block| store.block(*block))
            });
            Tensor::cat(blocks.collect(), 0)
        }
    };
    let [count, heads, positions, width] = blocks.dims();
    let sequences = count / most;
    blocks
        .reshape([sequences, most, heads, positions, width])
        .swap_dims(1, 2)
        .reshape([sequences, heads, most * positions, width])
}
