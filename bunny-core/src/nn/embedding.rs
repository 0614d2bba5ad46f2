//! Tokens to vectors, and vectors to scores of tokens.
//!
//! Both are tables with one row per token, the largest tensors of a model (262 to 524 MB in Phi-2).
//! A device may not take one that large, so a table is held as blocks of rows; files never see it.

use burn::{
    module::Module,
    tensor::{Bool, DType, Tensor, TensorData, backend::Backend},
};

use super::{Builder, Initial, Phase, Weight};

/// A table with one row per token, in blocks of rows.
#[derive(Module, Debug)]
pub struct TokenTable<B: Backend> {
    /// Each `[rows, hidden]`; all but the last have the same number of rows.
    pub blocks: Vec<Weight<B>>,
}

impl<B: Backend> TokenTable<B> {
    fn new(builder: &Builder<'_, B>, vocab: usize, hidden: usize) -> Self {
        Self {
            blocks: builder.table("weight", [vocab, hidden], Initial::Normal(0.02)),
        }
    }

    /// How many tokens it has a row for.
    pub fn vocab_size(&self) -> usize {
        self.blocks.iter().map(Weight::rows).sum()
    }

    /// The rows of `ids`, `[ids, hidden]`.
    fn rows(&self, ids: &[i32]) -> Tensor<B, 2> {
        if let [whole] = &self.blocks[..] {
            return whole.token_rows(ids);
        }
        let mut first = 0;
        let mut sum: Option<Tensor<B, 2>> = None;
        for block in &self.blocks {
            let rows = block.rows() as i32;
            // A row lies in exactly one block; in the others its place is filled with zeros.
            let local: Vec<i32> = ids.iter().map(|id| id - first).collect();
            let elsewhere: Vec<bool> = local.iter().map(|id| !(0..rows).contains(id)).collect();
            let clamped: Vec<i32> = local.iter().map(|id| (*id).clamp(0, rows - 1)).collect();
            let found = block.token_rows(&clamped);
            let elsewhere = TensorData::new(elsewhere, [ids.len(), 1]);
            let elsewhere = Tensor::<B, 2, Bool>::from_data(elsewhere, &found.device());
            let found = found.clone().mask_fill(elsewhere.expand(found.dims()), 0.0);
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
        let part = |block: &Weight<B>| {
            let scores = block.linear(phase, hidden.clone(), None);
            scores.cast(DType::F32)
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
