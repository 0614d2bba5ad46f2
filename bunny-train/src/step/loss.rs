//! Cross-entropy of the answers, a few rows at a time.
//!
//! Scores are formed for answer positions alone and in chunks, in f32: all scores of a batch of
//! 8 × 2,048 positions over Phi-2's 50,295 tokens would take 3.3 GB, several times over.

use bunny_core::{model::decoder::Decoder, ops};
use burn::tensor::{
    Tensor,
    backend::{AutodiffBackend, Backend},
};

use super::{Gradients, Slots, collect};
use crate::data::Answer;

/// Scores held at once, in numbers: 64 MiB in f32.
pub const CHUNK_SCORES: usize = 16 << 20;

/// The cross-entropy of answers, and what it teaches.
#[derive(Debug)]
pub struct AnswerLoss<B: AutodiffBackend> {
    /// The mean over the answers, `[1]`.
    pub mean: Tensor<B::InnerBackend, 1>,
    /// Its gradient in the decoder's output before the final norm, `[batch, seq, hidden]`.
    pub gradient: Tensor<B::InnerBackend, 3>,
}

/// The mean cross-entropy of `answers`, predicted from the output of the last layer; gradients of
/// the final norm and the head, where they learn, go into `gradients`, `weight` times.
///
/// # Shapes
/// `hidden` is `[batch, seq, hidden]`, before the final norm
pub fn answer_loss<B: AutodiffBackend>(
    decoder: &Decoder<B>,
    hidden: Tensor<B::InnerBackend, 3>,
    answers: &[Answer],
    weight: f64,
    slots: &Slots,
    gradients: &mut Gradients<B::InnerBackend>,
) -> AnswerLoss<B> {
    let [batch, seq, width] = hidden.dims();
    let device = hidden.device();
    let rows = hidden.reshape([batch * seq, width]);
    let share = 1.0 / answers.len() as f64;
    let mut own_rows = Vec::new();
    let mut mean: Option<Tensor<B::InnerBackend, 1>> = None;
    for answers in answers.chunks(chunk_rows(decoder)) {
        let asked = ops::pick_rows(rows.clone(), &positions(answers));
        let leaf = Tensor::<B, 2>::from_inner(asked);
        let leaf = leaf.require_grad();
        let loss = chunk_loss(decoder, leaf.clone(), answers, share);
        let mut own = loss.backward();
        let row_gradients = leaf.grad_remove(&mut own);
        collect(&decoder.model.norm, &mut own, weight, slots, gradients);
        match &decoder.lm_head {
            Some(head) => collect(head, &mut own, weight, slots, gradients),
            None => collect(
                &decoder.model.embed_tokens,
                &mut own,
                weight,
                slots,
                gradients,
            ),
        }
        own_rows.extend(row_gradients);
        let loss = loss.inner();
        mean = Some(match mean {
            Some(mean) => mean + loss,
            None => loss,
        });
    }
    // Where nothing is predicted, nothing is to be gained.
    let mut from = vec![None; batch * seq];
    for (row, answer) in answers.iter().enumerate() {
        from[answer.position] = Some(row as u32);
    }
    let gradient = match own_rows.is_empty() {
        true => rows.zeros_like(),
        false => ops::pick_rows(Tensor::cat(own_rows, 0), &from),
    };
    AnswerLoss {
        mean: mean.unwrap_or_else(|| Tensor::zeros([1], &device)),
        gradient: gradient.reshape([batch, seq, width]),
    }
}

/// Whether the scores of all `answers` may be held at once.
pub fn fits_at_once<B: Backend>(decoder: &Decoder<B>, answers: &[Answer]) -> bool {
    answers.len() <= chunk_rows(decoder)
}

/// The mean cross-entropy of `answers` alone, `[1]`.
///
/// # Shapes
/// `hidden` is `[batch, seq, hidden]`, before the final norm
pub fn mean_loss<B: Backend>(
    decoder: &Decoder<B>,
    hidden: Tensor<B, 3>,
    answers: &[Answer],
) -> Tensor<B, 1> {
    let [batch, seq, width] = hidden.dims();
    let rows = hidden.reshape([batch * seq, width]);
    let share = 1.0 / answers.len() as f64;
    let parts = answers.chunks(chunk_rows(decoder)).map(|answers| {
        let rows = ops::pick_rows(rows.clone(), &positions(answers));
        chunk_loss(decoder, rows, answers, share)
    });
    Tensor::cat(parts.collect(), 0).sum()
}

/// The share of some answers in a mean loss, `[1]`, from their rows `[answers, hidden]`.
fn chunk_loss<B: Backend>(
    decoder: &Decoder<B>,
    rows: Tensor<B, 2>,
    answers: &[Answer],
    share: f64,
) -> Tensor<B, 1> {
    let ids: Vec<u32> = answers.iter().map(|answer| answer.id).collect();
    let scores = decoder.logits(decoder.model.norm.forward(rows)); // [answers, vocab]
    ops::cross_entropy(scores, &ids).mul_scalar(share)
}

/// Where answers are predicted: at a position each, since the token behind it is one.
fn positions(answers: &[Answer]) -> Vec<Option<u32>> {
    answers
        .iter()
        .map(|answer| Some(answer.position as u32))
        .collect()
}

/// Rows whose scores are formed together.
fn chunk_rows<B: Backend>(decoder: &Decoder<B>) -> usize {
    (CHUNK_SCORES / vocab_size(decoder)).max(16)
}

fn vocab_size<B: Backend>(decoder: &Decoder<B>) -> usize {
    let table = match &decoder.lm_head {
        Some(head) => &head.weight,
        None => &decoder.model.embed_tokens.weight,
    };
    table.blocks.iter().map(|block| block.lazy_shape()[0]).sum()
}
