//! Tokens to vectors, and vectors to scores of tokens.
//!
//! Both are tables with one row per token, the largest tensors of a model (262 to 524 MB in Phi-2).
//! A device may not take one that large, so a table is held as blocks of rows; files never see it.

use burn::{
    module::{Module, Param},
    tensor::{DType, Int, Tensor, TensorData, backend::Backend},
};

use super::{Builder, Initial, Phase};
use crate::ops;

/// A table with one row per token, in blocks of rows.
#[derive(Module, Debug)]
pub struct TokenTable<B: Backend> {
    /// Each `[rows, hidden]`; all but the last have the same number of rows.
    pub blocks: Vec<Param<Tensor<B, 2>>>,
}

impl<B: Backend> TokenTable<B> {
    fn new(builder: &Builder<'_, B>, vocab: usize, hidden: usize) -> Self {
        Self {
            blocks: builder.table("weight", [vocab, hidden], Initial::Normal(0.02)),
        }
    }

    /// The rows of `ids`, `[ids, hidden]`.
    fn rows(&self, ids: &[i32]) -> Tensor<B, 2> {
        if let [whole] = &self.blocks[..] {
            return ops::token_rows(whole.val(), ids);
        }
        let device = self.blocks[0].lazy_device();
        let ids = TensorData::new(ids.to_vec(), [ids.len()]);
        let ids: Tensor<B, 1, Int> = Tensor::from_data(ids, &device);
        let mut first = 0;
        let mut sum: Option<Tensor<B, 2>> = None;
        for block in &self.blocks {
            let block = block.val();
            let [rows, hidden] = block.dims();
            // A row lies in exactly one block; in the others its place is filled with zeros.
            let local = ids.clone().sub_scalar(first as i64);
            let elsewhere = local
                .clone()
                .lower_elem(0)
                .bool_or(local.clone().greater_equal_elem(rows as i64));
            let seq = elsewhere.dims()[0];
            let found = block
                .select(0, local.clamp(0, rows as i64 - 1))
                .mask_fill(elsewhere.unsqueeze_dim::<2>(1).expand([seq, hidden]), 0.0);
            sum = Some(match sum {
                Some(sum) => sum + found,
                None => found,
            });
            first += rows;
        }
        sum.expect("a table has at least one block")
    }

    /// The product with every row, `[rows, hidden]` → `[rows, vocab]` in f32.
    fn scores(&self, hidden: Tensor<B, 2>, phase: Phase) -> Tensor<B, 2> {
        let part = |block: &Param<Tensor<B, 2>>| {
            ops::linear(phase, hidden.clone(), block.val(), None).cast(DType::F32)
        };
        let mut parts: Vec<_> = self.blocks.iter().map(part).collect();
        match parts.len() {
            1 => parts.remove(0),
            _ => Tensor::cat(parts, 1),
        }
    }
}

/// One vector per token.
#[derive(Module, Debug)]
pub struct Embedding<B: Backend> {
    /// `[vocab, hidden]`.
    pub weight: TokenTable<B>,
}

impl<B: Backend> Embedding<B> {
    /// A table of `vocab` rows.
    pub fn new(builder: &Builder<'_, B>, vocab: usize, hidden: usize) -> Self {
        Self {
            weight: TokenTable::new(builder, vocab, hidden),
        }
    }

    /// The vectors of `ids`.
    ///
    /// # Shapes
    /// `ids` → `[ids, hidden]`, in the type of the table
    pub fn forward(&self, ids: &[i32]) -> Tensor<B, 2> {
        self.weight.rows(ids)
    }

    /// The scores of every token, where the head is the embedding.
    ///
    /// # Shapes
    /// `[rows, hidden]` → `[rows, vocab]`, f32
    pub fn logits(&self, hidden: Tensor<B, 2>, phase: Phase) -> Tensor<B, 2> {
        self.weight.scores(hidden, phase)
    }
}

/// The scores of every token; a product without a bias.
#[derive(Module, Debug)]
pub struct LmHead<B: Backend> {
    /// `[vocab, hidden]`.
    pub weight: TokenTable<B>,
}

impl<B: Backend> LmHead<B> {
    /// A head of `vocab` rows.
    pub fn new(builder: &Builder<'_, B>, vocab: usize, hidden: usize) -> Self {
        Self {
            weight: TokenTable::new(builder, vocab, hidden),
        }
    }

    /// The scores of every token.
    ///
    /// # Shapes
    /// `[rows, hidden]` → `[rows, vocab]`, f32
    pub fn forward(&self, hidden: Tensor<B, 2>, phase: Phase) -> Tensor<B, 2> {
        self.weight.scores(hidden, phase)
    }
}
