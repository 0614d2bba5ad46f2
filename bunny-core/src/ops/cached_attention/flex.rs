//! On flex: blocks are slices, read and written in place by the CPU kernels.

use bunny_kernels::{
    self as cpu, AttentionMask, AttentionShape, AttentionStrides, AttentionView, CachedBlockMut,
    CachedBlocks, CachedSequence, CachedShape,
};
use burn::tensor::{DType, Tensor, backend::Backend, bf16, f16};
use burn_flex::FlexTensor;

use super::{
    KvBlocks, KvPass, LayerCache,
    kv_cache::{BlockStore, Span},
};
use crate::ops::{
    Operands, Phase,
    flex::{heads, tensor, whole_rows},
    place::{Place, lower, raise, view},
};

/// How a cache is cut on flex; `None` where the backend is another one.
pub fn kv_blocks<B: Backend>() -> Option<KvBlocks> {
    (Place::of::<B>() == Place::Flex).then_some(KvBlocks {
        positions: CachedShape::GRAIN,
        per_tensor: 1,
    })
}

/// [`cached_attention`](super::cached_attention), or `None` where burn's operations serve better.
pub fn attend<B: Backend>(
    parts: [&Tensor<B, 4>; 3],
    layer: &mut LayerCache<B>,
    pass: &KvPass<B>,
    phase: Phase,
    scale: f64,
    operands: Operands,
) -> Option<Tensor<B, 3>> {
    let own = kv_blocks::<B>()?;
    let KvBlocks {
        positions,
        per_tensor,
    } = pass.blocks();
    let lies_so = positions.is_multiple_of(own.positions) && per_tensor == own.per_tensor;
    if !lies_so || parts.iter().any(|part| part.dtype() != DType::F32) {
        return None;
    }
    let ([_, query_heads, rows, head_dim], [_, kv_heads, ..]) = (parts[0].dims(), parts[1].dims());
    let shape = CachedShape {
        query_heads,
        kv_heads,
        head_dim,
        positions,
    };
    let parts = parts.map(|part| whole_rows(view(part)));
    let [query, key, value] = parts.each_ref().map(heads);
    for (store, rows) in layer.stores_mut().into_iter().zip([key, value]) {
        keep(store, rows, pass, shape);
    }

    let (sequences, held) = read_by(layer, pass);
    let dtype = layer.stores_mut()[0].dtype();
    let mut output = vec![0f32; rows * query_heads * head_dim];
    let (out, scale) = (&mut output[..], scale as f32);
    with_blocks(dtype, &held, |blocks| match phase {
        Phase::Decode => cpu::decode_attention(query, blocks, &sequences, out, shape, scale),
        _ if operands == Operands::Bf16 && cpu::has_tiles() => {
            for sequence in sequences {
                prefill_on_tiles([query, key, value], blocks, sequence, out, shape, scale);
            }
        }
        _ => cpu::prefill_attention(query, blocks, &sequences, out, shape, scale),
    });
    Some(raise(tensor(output, [1, rows, query_heads * head_dim])))
}

/// The sizes of a store's blocks, with as many heads of queries as it has.
fn shape<B: Backend>(store: &BlockStore<B>) -> CachedShape {
    let [_, kv_heads, positions, head_dim] = store.shape();
    CachedShape {
        query_heads: kv_heads,
        kv_heads,
        head_dim,
        positions,
    }
}

/// Writes the rows of a pass to a cache in eight bits; `false` where it is one of floats, to which burn's
/// operations write.
pub fn keep_coded<B: Backend>(
    layer: &mut LayerCache<B>,
    pass: &KvPass<B>,
    rows: [&Tensor<B, 4>; 2],
) -> bool {
    for (store, rows) in layer.stores_mut().into_iter().zip(rows) {
        if store.dtype() != DType::I8 {
            return false;
        }
        let rows = whole_rows(view(rows));
        let shape = shape(store);
        keep(store, heads(&rows), pass, shape);
    }
    true
}

/// All that a cache in eight bits holds of a sequence, keys and values, each
/// `[1, kv_heads, len, head_dim]`; `None` where it is one of floats.
pub fn open_coded<B: Backend>(layer: &mut LayerCache<B>, span: &Span) -> Option<[Tensor<B, 4>; 2]> {
    let stores = layer.stores_mut();
    if stores[0].dtype() != DType::I8 {
        return None;
    }
    let shape = shape(stores[0]);
    let held = held(&stores, span).collect::<Vec<_>>();
    let len = span.past + span.count;
    let sequence = CachedSequence {
        first_block: 0,
        len,
        first_row: 0,
        queries: span.count,
    };
    let both = with_blocks(DType::I8, &held, |blocks| {
        cpu::gather_heads(blocks, sequence, shape)
    });
    let sides = [1, shape.kv_heads, len, shape.head_dim];
    Some(both.map(|numbers| raise(tensor(numbers, sides))))
}

/// Writes the rows of a pass where they belong.
fn keep<B: Backend>(
    store: &mut BlockStore<B>,
    rows: AttentionView<'_>,
    pass: &KvPass<B>,
    shape: CachedShape,
) {
    let dtype = store.dtype();
    for run in pass.runs() {
        // In place: nothing else holds the tensor between two passes.
        store.tensors_mut()[run.block].inplace(|block| {
            let mut block: FlexTensor = lower(block);
            let to = match dtype {
                DType::F16 => CachedBlockMut::F16(block.storage_mut()),
                DType::BF16 => CachedBlockMut::Bf16(block.storage_mut()),
                DType::I8 => {
                    CachedBlockMut::Int8(bytemuck::cast_slice_mut(block.storage_mut::<f32>()))
                }
                _ => CachedBlockMut::F32(block.storage_mut()),
            };
            cpu::keep_rows(to, rows, (run.row, run.count), run.at, shape);
            raise(block)
        });
    }
}

/// The sequences of a pass, and the blocks that they read, keys and values.
fn read_by<B: Backend>(
    layer: &mut LayerCache<B>,
    pass: &KvPass<B>,
) -> (Vec<CachedSequence>, Vec<[FlexTensor; 2]>) {
    let stores = layer.stores_mut();
    let mut sequences = Vec::with_capacity(pass.spans().len());
    let mut blocks = Vec::new();
    let mut first_row = 0;
    for span in pass.spans() {
        sequences.push(CachedSequence {
            first_block: blocks.len(),
            len: span.past + span.count,
            first_row,
            queries: span.count,
        });
        first_row += span.count;
        blocks.extend(held(&stores, span));
    }
    (sequences, blocks)
}

/// The blocks of a sequence, keys and values.
fn held<B: Backend>(
    stores: &[&mut BlockStore<B>; 2],
    span: &Span,
) -> impl Iterator<Item = [FlexTensor; 2]> {
    let block = move |block: &usize| [0, 1].map(|which| view(&stores[which].tensors()[*block]));
    span.table.iter().map(block)
}

/// What `read` makes of the numbers of blocks.
fn with_blocks<T>(
    dtype: DType,
    held: &[[FlexTensor; 2]],
    read: impl FnOnce(CachedBlocks<'_>) -> T,
) -> T {
    macro_rules! pairs {
        ($type:ty) => {
            held.iter()
                .map(|[keys, values]| [keys.storage::<$type>(), values.storage()])
                .collect::<Vec<_>>()
        };
    }
    match dtype {
        DType::F16 => read(CachedBlocks::F16(&pairs!(f16))),
        DType::BF16 => read(CachedBlocks::Bf16(&pairs!(bf16))),
        DType::I8 => {
            fn bytes(block: &FlexTensor) -> &[i8] {
                bytemuck::cast_slice(block.storage::<f32>())
            }
            let pairs: Vec<_> = held.iter().map(|pair| pair.each_ref().map(bytes)).collect();
            read(CachedBlocks::Int8(&pairs))
        }
        _ => read(CachedBlocks::F32(&pairs!(f32))),
    }
}

/// What a prompt's queries see where tile registers round all factors to bf16 anyway: keys and values
/// are packed for them from where they lie side by side.
fn prefill_on_tiles(
    [query, key, value]: [AttentionView<'_>; 3],
    blocks: CachedBlocks<'_>,
    sequence: CachedSequence,
    out: &mut [f32],
    shape: CachedShape,
    scale: f32,
) {
    let CachedShape {
        query_heads,
        kv_heads,
        head_dim,
        ..
    } = shape;
    let CachedSequence {
        len,
        first_row,
        queries,
        ..
    } = sequence;
    let [query, key, value] = [query, key, value].map(|view| AttentionView {
        data: &view.data[first_row * view.strides.row..],
        strides: view.strides,
    });
    let gathered = match queries == len {
        true => None,
        false => Some(cpu::gather_heads(blocks, sequence, shape)),
    };
    let [key, value] = match &gathered {
        None => [key, value],
        Some(both) => [0, 1].map(|which| AttentionView {
            data: &both[which],
            strides: AttentionStrides::heads_first(kv_heads, len, head_dim),
        }),
    };
    let width = query_heads * head_dim;
    cpu::attention(
        query,
        key,
        value,
        &mut out[first_row * width..][..queries * width],
        AttentionStrides::rows_first(query_heads, queries, head_dim),
        AttentionShape {
            batch: 1,
            query_heads,
            kv_heads,
            query_len: queries,
            kv_len: len,
            head_dim,
        },
        scale,
        AttentionMask::Causal { starts: None },
        true,
        None,
    );
}
