//! What attention may look at.

use std::cell::OnceCell;

use burn::tensor::{Bool, Tensor, TensorData, backend::Backend};

/// What a query may look at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
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
    window: Option<usize>,
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
            window: None,
            batch,
            queries,
            keys,
            device: device.clone(),
            hidden: OnceCell::new(),
        }
    }

    /// The same where a query sees no more than `window` positions, its own included.
    #[must_use]
    pub fn within(self, window: Option<usize>) -> Self {
        Self { window, ..self }
    }

    /// How many positions a query sees, its own included.
    pub fn window(&self) -> Option<usize> {
        self.window
    }

    /// Whether the window hides anything that the mask alone would show.
    pub fn is_cut(&self) -> bool {
        self.window.is_some_and(|window| self.keys > window)
    }

    /// What the mask says, its window aside.
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
                // Of the keys that a query comes after, the last `window` are seen.
                let is_near = |query: usize, key: usize| {
                    let end = keys - queries + query + 1;
                    self.window.is_none_or(|window| key + window >= end)
                };
                let shows = |row, query, key| {
                    self.mask.shows(row, query, queries, key, keys) && is_near(query, key)
                };
                let hidden: Vec<bool> = (0..rows)
                    .flat_map(|row| (0..queries).map(move |query| (row, query)))
                    .flat_map(|(row, query)| (0..keys).map(move |key| !shows(row, query, key)))
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
