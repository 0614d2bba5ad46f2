//! Attention, and what it may look at.

use std::cell::OnceCell;

use burn::tensor::{Bool, DType, Tensor, TensorData, backend::Backend};

use super::{KvPass, LayerCache, Phase, kernel};

/// What a query may look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mask {
    /// Everything: the patches of a picture.
    Full,
    /// Itself and what came before, aligned to the end of the keys:
    ///
    /// ```text
    /// keys →    0 1 2 3 4        with starts [2]:  0 1 2 3 4
    /// query 0   1 1 1 . .                          . . 1 . .
    /// query 1   1 1 1 1 .                          . . 1 1 .
    /// query 2   1 1 1 1 1                          . . 1 1 1
    /// ```
    Causal {
        /// Per row of the batch, the first position that is not padding; empty when none is.
        starts: Vec<usize>,
    },
    /// Causal within each of several texts packed into one row.
    Segments {
        /// Per row of the batch, the segment of each position; as many as there are keys.
        ids: Vec<Vec<u32>>,
    },
}

impl Mask {
    /// Causal, without padding.
    pub const CAUSAL: Self = Self::Causal { starts: Vec::new() };

    /// Whether query `query` of `queries` in row `row` may look at key `key` of `keys`.
    fn shows(&self, row: usize, query: usize, queries: usize, key: usize, keys: usize) -> bool {
        let position = keys - queries + query;
        match self {
            Self::Full => true,
            Self::Causal { starts } => {
                key <= position && key >= starts.get(row).copied().unwrap_or(0)
            }
            Self::Segments { ids } => key <= position && ids[row][key] == ids[row][position],
        }
    }
}

/// A [`Mask`] for one forward pass, shared by all layers.
#[derive(Debug)]
pub struct AttentionMask<B: Backend> {
    mask: Mask,
    batch: usize,
    queries: usize,
    keys: usize,
    device: B::Device,
    hidden: OnceCell<Option<Tensor<B, 4, Bool>>>,
}

impl<B: Backend> AttentionMask<B> {
    /// The mask of `queries` queries over `keys` keys in each of `batch` rows.
    pub fn new(mask: Mask, batch: usize, queries: usize, keys: usize, device: &B::Device) -> Self {
        Self {
            mask,
            batch,
            queries,
            keys,
            device: device.clone(),
            hidden: OnceCell::new(),
        }
    }

    /// What the mask says.
    pub fn mask(&self) -> &Mask {
        &self.mask
    }

    /// True where a query must not look, `[batch | 1, 1, q, kv]`; `None` when nothing is hidden.
    ///
    /// Made at the first call: kernels that read [`AttentionMask::mask`] never pay for it.
    pub fn hidden(&self) -> Option<Tensor<B, 4, Bool>> {
        self.hidden
            .get_or_init(|| {
                let rows = match &self.mask {
                    Mask::Full => return None,
                    Mask::Causal { starts } if starts.is_empty() => 1,
                    _ => self.batch,
                };
                let (queries, keys) = (self.queries, self.keys);
                let hidden: Vec<bool> = (0..rows)
                    .flat_map(|row| (0..queries).map(move |query| (row, query)))
                    .flat_map(|(row, query)| {
                        (0..keys).map(move |key| !self.mask.shows(row, query, queries, key, keys))
                    })
                    .collect();
                if !hidden.contains(&true) {
                    return None;
                }
                let hidden = TensorData::new(hidden, [rows, 1, queries, keys]);
                Some(Tensor::from_data(hidden, &self.device))
            })
            .clone()
    }
}

/// Attention of every query to the keys its mask shows.
///
/// A query that may look at nothing (padding) gets numbers without meaning. `weights` is the type in
/// which the layer's projections are kept: where it is bf16, a processor that multiplies such numbers
/// may round what it multiplies to it here too, as it does in those projections.
///
/// # Shapes
/// queries `[batch, heads, q, head_dim]`, keys and values `[batch, kv_heads, kv, head_dim]` →
/// `[batch, q, heads * head_dim]`; each key head serves `heads / kv_heads` query heads.
pub fn attention<B: Backend>(
    query: Tensor<B, 4>,
    key: Tensor<B, 4>,
    value: Tensor<B, 4>,
    mask: &AttentionMask<B>,
    weights: DType,
) -> Tensor<B, 3> {
    let scale = (query.dims()[3] as f64).powf(-0.5);
    kernel::attention(query, key, value, mask, scale, weights == DType::BF16)
}

/// Attention of the rows of a pass to what a cache holds of their sequences, after their own keys and
/// values were written there: every row looks at its own position and all before it. `weights` as in
/// [`attention`].
///
/// # Shapes
/// queries `[1, heads, rows, head_dim]`, keys and values `[1, kv_heads, rows, head_dim]` →
/// `[1, rows, heads * head_dim]`
pub(crate) fn cached_attention<B: Backend>(
    heads: [Tensor<B, 4>; 3],
    layer: &mut LayerCache<B>,
    pass: &KvPass<B>,
    phase: Phase,
    weights: DType,
) -> Tensor<B, 3> {
    let scale = (heads[0].dims()[3] as f64).powf(-0.5);
    kernel::cached_attention(heads, layer, pass, phase, scale, weights == DType::BF16)
}
