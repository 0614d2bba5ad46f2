//! What one transformer layer keeps for its gradients, and what these take on their way through it.

use bunny_core::config::{BlockOrder, DecoderConfig, MlpKind, VisionConfig};

/// What decides how much a layer keeps.
pub struct LayerSizes {
    hidden: u64,
    /// Of all query heads together.
    query: u64,
    /// Of all key heads together.
    key_value: u64,
    wide: u64,
    heads: u64,
    /// Products of the MLP.
    products: u64,
    /// Norms of the residual stream.
    norms: u64,
    /// Norms of what was attended and of what was gated, as EVA-CLIP has them.
    has_inner_norms: bool,
    /// Dropouts of whole branches.
    dropouts: u64,
}

/// What gradients are formed of in a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learning {
    /// All weights, and the layer's input.
    All,
    /// Adapters beside every product, and the layer's input.
    Adapters {
        /// Their rank.
        rank: u64,
        /// Something of their inputs is dropped.
        drops: bool,
    },
    /// The layer's input alone.
    Inputs,
}

impl LayerSizes {
    /// Those of a decoder's layers.
    pub fn of_decoder(config: &DecoderConfig) -> Self {
        Self {
            hidden: config.hidden_size as u64,
            query: config.query_size() as u64,
            key_value: config.key_value_size() as u64,
            wide: config.intermediate_size as u64,
            heads: config.num_attention_heads as u64,
            products: config.mlp.products() as u64,
            norms: match config.block {
                BlockOrder::Parallel => 1,
                _ => 2,
            },
            has_inner_norms: false,
            dropouts: if config.residual_dropout > 0.0 { 2 } else { 0 },
        }
    }

    /// Those of a tower's layers.
    pub fn of_tower(tower: &VisionConfig) -> Self {
        let hidden = tower.width() as u64;
        Self {
            hidden,
            query: hidden,
            key_value: hidden,
            wide: tower.intermediate_size() as u64,
            heads: tower.num_attention_heads() as u64,
            products: tower.mlp().products() as u64,
            norms: 2,
            // Of the towers, EVA-CLIP alone has gates.
            has_inner_norms: tower.mlp() == MlpKind::Gated,
            dropouts: 0,
        }
    }

    /// Bytes that the way forward keeps of one row of `positions`, in activations of `number` bytes. By
    /// operation, what is needed for the gradients of
    ///
    /// - its input: of a norm what was normed, of attention queries, keys, values, the attended and each
    ///   head's log-sum (f32), of a nonlinearity or gate what went into it, of a branch's dropout its
    ///   factors; of a product nothing but the weight;
    /// - a weight: what went into the product. Norms' outputs are shared by the products behind them, and
    ///   the attended is there already, so that the normed and the gated are what is new;
    /// - an adapter: its own input, dropped, and the factors of the dropout, for each product; between `A`
    ///   and `B` as many numbers as its rank.
    ///
    /// Sums, turns of heads and rotations keep nothing of this size.
    pub fn kept(&self, positions: usize, number: u64, learning: Learning) -> u64 {
        let Self { hidden, wide, .. } = *self;
        let attention = 2 * self.query + 2 * self.key_value;
        let nonlinear = (self.products - 1) * wide;
        let inner = if self.has_inner_norms {
            hidden + wide
        } else {
            0
        };
        let of_inputs = (self.norms + self.dropouts) * hidden + attention + nonlinear + inner;
        let plain_inputs = self.norms * hidden + wide;
        let of_weights = match learning {
            Learning::All => plain_inputs,
            Learning::Adapters { rank, drops } => {
                // Queries, keys, values and those into the MLP; back from attention; back from the MLP.
                let inputs = (3 + self.products - 1) * hidden + self.query + wide;
                let inputs = if drops { 2 * inputs } else { plain_inputs };
                inputs + (4 + self.products) * rank
            }
            Learning::Inputs => 0,
        };
        positions as u64 * (number * (of_inputs + of_weights) + 4 * self.heads)
    }

    /// Bytes of the gradients of one row of `positions` at the widest place of the way back: within the MLP
    /// those of its products and of its two ends, within attention those of queries, keys, values, the
    /// attended and their ends; that of the residual stream passes by either.
    pub fn gradients(&self, positions: usize, number: u64) -> u64 {
        let mlp = 3 * self.hidden + self.products * self.wide;
        let attention = 4 * self.hidden + 2 * self.query + 2 * self.key_value;
        positions as u64 * number * mlp.max(attention)
    }

    /// Bytes of the widest product of the way back over so many `rows`: what the processor's kernels pack of
    /// its left side at a time, and where weights learn the gradient of one, which is whole before what it is
    /// made of goes.
    pub fn product(&self, rows: u64, learning: Learning) -> u64 {
        // `LEFT_FLOATS` of bunny-kernels' `product.rs`; 32 MiB.
        const PACKED: u64 = 8 << 20;

        let gradient = match learning {
            Learning::All => self.hidden * self.wide,
            Learning::Adapters { rank, .. } => rank * self.wide,
            Learning::Inputs => 0,
        };
        4 * ((rows * self.wide).min(PACKED) + gradient)
    }

    /// Bytes of one row of `positions` on its way forward where nothing is kept: the residual stream, the
    /// normed, and the inside of either branch.
    pub fn pass(&self, positions: usize, number: u64) -> u64 {
        let mlp = self.hidden + self.products * self.wide;
        let attention = 2 * self.query + 2 * self.key_value;
        positions as u64 * number * (2 * self.hidden + mlp.max(attention))
    }

    /// Bytes of attention's scores of one row, where they are stored: as they are, masked, and as shares,
    /// in f32.
    pub fn attention(&self, positions: usize) -> u64 {
        let positions = positions as u64;
        self.heads * positions * positions * 4 * 3
    }
}
