//! The keys and values of what decoders have read.
//!
//! A [`KvCache`] holds blocks of positions, and a [`KvSequence`] says which of them are its own, in
//! order. Sequences that begin alike hold the same blocks; who writes on gets a block of its own for
//! what is no longer shared:
//!
//! ```text
//! blocks of four      first    The cat sat on | the mat        blocks 0, 1
//!                     second   The cat sat on | the red sofa   blocks 0, 2
//! ```
//!
//! A block goes back to the cache when the last sequence that holds it is dropped.

use std::{
    cell::OnceCell,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bunny_kernels::CachedShape;
use burn::tensor::{DType, Int, Tensor, TensorData, backend::Backend};

/// Bytes of the keys, or of the values, of a position in one head.
pub fn kv_row_bytes(dtype: DType, head_dim: usize) -> usize {
    match dtype {
        DType::I8 => CachedShape::row_bytes(head_dim),
        _ => head_dim * dtype.size(),
    }
}

/// How a cache's blocks are cut, and how many of them lie in one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvBlocks {
    /// Positions of a block.
    pub positions: usize,
    /// Blocks of a tensor. A tensor of one block is made when it is needed, and nothing is ever
    /// moved; a tensor of many grows by being copied, and one kernel can read all of its blocks.
    pub per_tensor: usize,
}

/// Keys and values of every layer, in blocks that sequences share.
///
/// A cache is a value: a model holds none, so that one model serves many conversations at once.
#[derive(Debug)]
pub struct KvCache<B: Backend> {
    layers: Vec<LayerCache<B>>,
    blocks: KvBlocks,
    /// Blocks that there are, used or not.
    count: usize,
    free: FreeList,
}

/// Keys and values of one layer.
#[derive(Debug)]
pub struct LayerCache<B: Backend> {
    keys: BlockStore<B>,
    values: BlockStore<B>,
}

/// Blocks of one layer's keys, or of its values.
#[derive(Debug)]
pub struct BlockStore<B: Backend> {
    /// Each `[blocks, kv_heads, positions, head_dim]`, or a row's bytes as f32 in the place of its
    /// numbers; all but the last hold as many as they may.
    tensors: Vec<Tensor<B, 4>>,
    /// `[1, kv_heads, positions, head_dim]`.
    shape: [usize; 4],
    /// I8 stands for bytes with a scale a row, which lie in a tensor of as many f32.
    dtype: DType,
    device: B::Device,
    per_tensor: usize,
}

/// The numbers of blocks that nobody holds.
#[derive(Debug, Clone, Default)]
struct FreeList(Arc<Mutex<Vec<usize>>>);

impl FreeList {
    fn blocks(&self) -> MutexGuard<'_, Vec<usize>> {
        // A list of numbers is whole whenever somebody panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A block that is somebody's.
#[derive(Debug)]
struct Lease {
    block: usize,
    free: FreeList,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.free.blocks().push(self.block);
    }
}

/// What a cache holds of one sequence. A clone shares its blocks.
#[derive(Debug, Clone, Default)]
pub struct KvSequence {
    blocks: Vec<Arc<Lease>>,
    len: usize,
}

impl KvSequence {
    /// A sequence of which nothing was read.
    pub fn new() -> Self {
        Self::default()
    }

    /// Positions that were read.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all positions from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Takes positions that a pass has written for read.
    pub(crate) fn advance(&mut self, count: usize) {
        self.len += count;
    }

    /// The numbers of its blocks, in order.
    pub(crate) fn blocks(&self) -> impl ExactSizeIterator<Item = usize> {
        self.blocks.iter().map(|lease| lease.block)
    }

    /// The numbers of its first blocks.
    fn table(&self, count: usize) -> Vec<usize> {
        self.blocks().take(count).collect()
    }
}

impl<B: Backend> KvCache<B> {
    /// An empty cache for models of `layers` layers with `kv_heads` heads of `head_dim` numbers of
    /// type `dtype`: a float, or I8 where the backend [narrows](super::narrows_cache) its cache.
    pub fn new(
        layers: usize,
        kv_heads: usize,
        head_dim: usize,
        dtype: DType,
        blocks: KvBlocks,
        device: &B::Device,
    ) -> Self {
        let store = || BlockStore {
            tensors: Vec::new(),
            shape: [1, kv_heads, blocks.positions, head_dim],
            dtype,
            device: device.clone(),
            per_tensor: blocks.per_tensor,
        };
        let layers = (0..layers).map(|_| LayerCache {
            keys: store(),
            values: store(),
        });
        Self {
            layers: layers.collect(),
            blocks,
            count: 0,
            free: FreeList::default(),
        }
    }

    /// Positions of a block.
    pub fn block_positions(&self) -> usize {
        self.blocks.positions
    }

    /// Bytes of a block.
    pub fn block_bytes(&self) -> usize {
        self.blocks.positions * self.bytes_per_position()
    }

    /// Blocks that there are: the most that sequences ever held at once.
    pub fn blocks_made(&self) -> usize {
        self.count
    }

    /// Blocks that sequences hold, one that several share counted once.
    pub fn blocks_in_use(&self) -> usize {
        self.count - self.free.blocks().len()
    }

    /// Bytes of a position: keys and values, in every layer and head.
    pub fn bytes_per_position(&self) -> usize {
        let bytes =
            |store: &BlockStore<B>| store.shape[1] * kv_row_bytes(store.dtype, store.shape[3]);
        let layers = self.layers.iter();
        layers
            .map(|layer| bytes(&layer.keys) + bytes(&layer.values))
            .sum()
    }

    /// Bytes of the blocks that sequences hold.
    pub fn bytes_in_use(&self) -> usize {
        self.blocks_in_use() * self.block_bytes()
    }

    /// Gives back the blocks that `sequence` holds behind what it has read.
    pub(crate) fn trim(&self, sequence: &mut KvSequence) {
        let wanted = sequence.len.div_ceil(self.blocks.positions);
        sequence.blocks.truncate(wanted);
    }

    /// Makes room behind `sequence` for `count` positions, in blocks that nobody else holds.
    ///
    /// # Panics
    /// When the sequence is another cache's.
    pub fn reserve(&mut self, sequence: &mut KvSequence, count: usize) {
        let KvBlocks { positions, .. } = self.blocks;
        let (len, first) = (sequence.len, sequence.len / positions);
        let wanted = (len + count).div_ceil(positions);
        for lease in &sequence.blocks {
            let is_own = Arc::ptr_eq(&lease.free.0, &self.free.0);
            assert!(is_own, "the sequence is another cache's");
        }
        for at in first..wanted {
            match sequence.blocks.get_mut(at) {
                Some(lease) if Arc::strong_count(lease) == 1 => {}
                Some(lease) => {
                    let own = self.lease();
                    if at == first && len % positions > 0 {
                        self.copy(lease.block, own.block);
                    }
                    *lease = Arc::new(own);
                }
                None => sequence.blocks.push(Arc::new(self.lease())),
            }
        }
        sequence.blocks.truncate(wanted);
    }

    /// A block that nobody holds.
    fn lease(&mut self) -> Lease {
        let found = self.free.blocks().pop();
        let block = found.unwrap_or_else(|| {
            self.count += 1;
            self.count - 1
        });
        for layer in &mut self.layers {
            layer.keys.make_room(self.count);
            layer.values.make_room(self.count);
        }
        Lease {
            block,
            free: self.free.clone(),
        }
    }

    fn copy(&mut self, from: usize, to: usize) {
        for layer in &mut self.layers {
            layer.keys.copy(from, to);
            layer.values.copy(from, to);
        }
    }

    /// A pass that reads the next positions of some sequences: how many of each. Room for them was
    /// made with [`reserve`](Self::reserve).
    pub(crate) fn pass<'a>(
        &self,
        parts: impl IntoIterator<Item = (&'a KvSequence, usize)>,
    ) -> KvPass<B> {
        let positions = self.blocks.positions;
        let spans = parts.into_iter().map(|(sequence, count)| Span {
            table: sequence.table((sequence.len + count).div_ceil(positions)),
            past: sequence.len,
            count,
        });
        KvPass {
            spans: spans.collect(),
            blocks: self.blocks,
            #[cfg(any(feature = "cuda", feature = "wgpu"))]
            rows: OnceCell::new(),
            tables: OnceCell::new(),
            lengths: OnceCell::new(),
        }
    }

    /// The layers' caches, first layer first.
    pub(crate) fn layers_mut(&mut self) -> &mut [LayerCache<B>] {
        &mut self.layers
    }
}

impl<B: Backend> LayerCache<B> {
    /// The keys, and the values.
    pub(crate) fn stores_mut(&mut self) -> [&mut BlockStore<B>; 2] {
        [&mut self.keys, &mut self.values]
    }
}

impl<B: Backend> BlockStore<B> {
    /// Sees to it that there are `count` blocks.
    fn make_room(&mut self, count: usize) {
        while self.len() < count {
            let [_, heads, positions, head_dim] = self.shape;
            let (dtype, width) = match self.dtype {
                DType::I8 => (
                    DType::F32,
                    kv_row_bytes(DType::I8, head_dim) / size_of::<f32>(),
                ),
                dtype => (dtype, head_dim),
            };
            let zeros = |blocks| {
                let shape = [blocks, heads, positions, width];
                Tensor::zeros(shape, (&self.device, dtype))
            };
            match self.tensors.last_mut() {
                Some(last) if last.dims()[0] < self.per_tensor => {
                    // By half: each block is then moved twice on average.
                    let held = last.dims()[0];
                    let more = (held / 2).max(1).min(self.per_tensor - held);
                    let old = last.clone();
                    *last = Tensor::cat(vec![old, zeros(more)], 0);
                }
                _ => {
                    const FIRST: usize = 8;
                    let tensor = zeros(self.per_tensor.min(FIRST));
                    self.tensors.push(tensor);
                }
            }
        }
    }

    /// Blocks that there is room for.
    fn len(&self) -> usize {
        let last = self.tensors.last().map_or(0, |last| last.dims()[0]);
        self.tensors.len().saturating_sub(1) * self.per_tensor + last
    }

    fn copy(&mut self, from: usize, to: usize) {
        let block = self.block(from);
        let (tensor, row) = self.place(to);
        let [_, heads, positions, head_dim] = self.shape;
        let whole = &mut self.tensors[tensor];
        *whole = match self.per_tensor {
            // Both are one buffer until one of them is written to.
            1 => block,
            _ => whole
                .clone()
                .slice_assign([row..row + 1, 0..heads, 0..positions, 0..head_dim], block),
        };
    }

    /// The tensor that a block lies in, and its row there.
    pub(crate) fn place(&self, block: usize) -> (usize, usize) {
        (block / self.per_tensor, block % self.per_tensor)
    }

    /// A block, `[1, kv_heads, positions, head_dim]`.
    pub(crate) fn block(&self, block: usize) -> Tensor<B, 4> {
        let (tensor, row) = self.place(block);
        match self.per_tensor {
            1 => self.tensors[tensor].clone(),
            _ => self.tensors[tensor].clone().narrow(0, row, 1),
        }
    }

    /// The tensors that hold the blocks.
    pub(crate) fn tensors(&self) -> &[Tensor<B, 4>] {
        &self.tensors
    }

    /// The same, to be written to.
    pub(crate) fn tensors_mut(&mut self) -> &mut [Tensor<B, 4>] {
        &mut self.tensors
    }

    /// The sides of a block, `[1, kv_heads, positions, head_dim]`.
    #[cfg(feature = "flex")]
    pub(crate) fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// The type that numbers are kept in.
    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }
}

/// The part of a pass that is one sequence's.
#[derive(Debug, Clone)]
pub struct Span {
    /// The numbers of the sequence's blocks.
    pub table: Vec<usize>,
    /// Positions that were read before.
    pub past: usize,
    /// Positions that the pass reads: rows of it, one after the other.
    pub count: usize,
}

/// What a pass reads of which sequences: rows of all of them lie one after the other.
#[derive(Debug)]
pub struct KvPass<B: Backend> {
    spans: Vec<Span>,
    blocks: KvBlocks,
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    rows: OnceCell<Tensor<B, 1, Int>>,
    tables: OnceCell<Tensor<B, 2, Int>>,
    lengths: OnceCell<Tensor<B, 1, Int>>,
}

/// Some rows of a pass that lie in one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// The first of the rows.
    pub row: usize,
    /// How many there are.
    pub count: usize,
    /// The number of the block.
    pub block: usize,
    /// Their first position in it.
    pub at: usize,
}

impl<B: Backend> KvPass<B> {
    /// A pass over some rows of this one.
    pub(super) fn of(&self, span: Span) -> Self {
        Self {
            spans: vec![span],
            blocks: self.blocks,
            #[cfg(any(feature = "cuda", feature = "wgpu"))]
            rows: OnceCell::new(),
            tables: OnceCell::new(),
            lengths: OnceCell::new(),
        }
    }

    /// The sequences' parts.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// How the cache is cut.
    pub(crate) fn blocks(&self) -> KvBlocks {
        self.blocks
    }

    /// The position of every row.
    pub(crate) fn row_positions(&self) -> Vec<u32> {
        let spans = self.spans.iter();
        spans
            .flat_map(|span| (span.past..span.past + span.count).map(|at| at as u32))
            .collect()
    }

    /// Where the rows go, block by block.
    pub(crate) fn runs(&self) -> Vec<Run> {
        let mut runs = Vec::new();
        let mut row = 0;
        for span in &self.spans {
            let (mut at, end) = (span.past, span.past + span.count);
            while at < end {
                let (block, within) = (at / self.blocks.positions, at % self.blocks.positions);
                let count = (self.blocks.positions - within).min(end - at);
                runs.push(Run {
                    row,
                    count,
                    block: span.table[block],
                    at: within,
                });
                at += count;
                row += count;
            }
        }
        runs
    }

    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    /// Where each row goes: the number of its block times the positions of one, and its place there.
    pub(crate) fn row_places(&self, device: &B::Device) -> Tensor<B, 1, Int> {
        let made = self.rows.get_or_init(|| {
            let runs = self.runs().into_iter();
            let places = runs.flat_map(|run| {
                let first = run.block * self.blocks.positions + run.at;
                (first..first + run.count).map(|at| at as i32)
            });
            let places: Vec<i32> = places.collect();
            let count = places.len();
            Tensor::from_data(TensorData::new(places, [count]), device)
        });
        made.clone()
    }

    /// The blocks of the longest sequence.
    pub(crate) fn most_blocks(&self) -> usize {
        let tables = self.spans.iter().map(|span| span.table.len());
        tables.max().unwrap_or(0)
    }

    /// The sequences' blocks, `[sequences, most_blocks]`; a short one is filled up with its first.
    pub(crate) fn tables(&self, device: &B::Device) -> Tensor<B, 2, Int> {
        let made = self.tables.get_or_init(|| {
            let most = self.most_blocks();
            let tables = self.spans.iter().flat_map(|span| {
                let all = span.table.iter().chain(std::iter::repeat(&span.table[0]));
                all.take(most).map(|block| *block as i32)
            });
            let tables: Vec<i32> = tables.collect();
            Tensor::from_data(TensorData::new(tables, [self.spans.len(), most]), device)
        });
        made.clone()
    }

    /// The sequences' positions, those of the pass included.
    pub(crate) fn lengths(&self, device: &B::Device) -> Tensor<B, 1, Int> {
        let made = self.lengths.get_or_init(|| {
            let lengths = self
                .spans
                .iter()
                .map(|span| (span.past + span.count) as i32);
            let lengths: Vec<i32> = lengths.collect();
            Tensor::from_data(TensorData::new(lengths, [self.spans.len()]), device)
        });
        made.clone()
    }
}
