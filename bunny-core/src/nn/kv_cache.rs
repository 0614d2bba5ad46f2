//! The keys and values of what a decoder has read.

use burn::tensor::{DType, Tensor, backend::Backend};

use super::kernel;
use crate::config::DecoderConfig;

/// Keys and values of every layer, in buffers that are allocated once.
///
/// A cache is a value: a model holds none, so that one model serves many conversations at once.
#[derive(Debug, Clone)]
pub struct KvCache<B: Backend> {
    layers: Vec<LayerCache<B>>,
    capacity: usize,
}

/// Keys and values of one layer.
#[derive(Debug, Clone)]
pub struct LayerCache<B: Backend> {
    keys: Tensor<B, 4>,
    values: Tensor<B, 4>,
    len: usize,
}

impl<B: Backend> KvCache<B> {
    /// An empty cache for `capacity` positions in each of `batch` rows, numbers of type `dtype`.
    pub fn new(
        config: &DecoderConfig,
        batch: usize,
        capacity: usize,
        dtype: DType,
        device: &B::Device,
    ) -> Self {
        let shape = [batch, config.num_key_value_heads, capacity, config.head_dim];
        let empty = || Tensor::zeros(shape, (device, dtype));
        let layers = (0..config.num_hidden_layers)
            .map(|_| LayerCache {
                keys: empty(),
                values: empty(),
                len: 0,
            })
            .collect();
        Self { layers, capacity }
    }

    /// How many positions are filled.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.len)
    }

    /// Whether no position is filled.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many positions there is room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Makes room for `capacity` positions, keeping what is there.
    pub fn reserve(&mut self, capacity: usize) {
        if capacity > self.capacity {
            self.layers
                .iter_mut()
                .for_each(|layer| layer.grow(capacity));
            self.capacity = capacity;
        }
    }

    /// Forgets all positions from `len` on.
    pub fn truncate(&mut self, len: usize) {
        for layer in &mut self.layers {
            layer.len = layer.len.min(len);
        }
    }

    /// The layers' caches, first layer first.
    pub fn layers_mut(&mut self) -> &mut [LayerCache<B>] {
        &mut self.layers
    }
}

impl<B: Backend> LayerCache<B> {
    fn grow(&mut self, capacity: usize) {
        for buffer in [&mut self.keys, &mut self.values] {
            let [batch, heads, _, head_dim] = buffer.dims();
            let shape = [batch, heads, capacity, head_dim];
            let filled = [0..batch, 0..heads, 0..self.len, 0..head_dim];
            let larger = Tensor::zeros(shape, (&buffer.device(), buffer.dtype()));
            *buffer = match self.len {
                0 => larger,
                _ => larger.slice_assign(filled.clone(), buffer.clone().slice(filled)),
            };
        }
    }

    /// Appends keys and values, and gives all there are so far.
    ///
    /// # Shapes
    /// `[batch, kv_heads, seq, head_dim]` twice → `[batch, kv_heads, len, head_dim]` twice
    ///
    /// # Panics
    /// When the cache is full: whoever fills it asks [`KvCache::capacity`] first.
    pub fn append(
        &mut self,
        keys: Tensor<B, 4>,
        values: Tensor<B, 4>,
    ) -> (Tensor<B, 4>, Tensor<B, 4>) {
        let [batch, heads, count, head_dim] = keys.dims();
        let (from, to) = (self.len, self.len + count);
        let room = self.keys.dims()[2];
        assert!(to <= room, "{to} positions do not fit a cache of {room}");
        // In place: nothing else holds the buffer between two forward passes.
        self.keys.inplace(|all| kernel::write_rows(all, keys, from));
        self.values
            .inplace(|all| kernel::write_rows(all, values, from));
        self.len = to;
        let filled = [0..batch, 0..heads, 0..to, 0..head_dim];
        (
            self.keys.clone().slice(filled.clone()),
            self.values.clone().slice(filled),
        )
    }
}
