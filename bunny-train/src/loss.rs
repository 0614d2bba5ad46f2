//! Cross-entropy of the answers, a few rows at a time.
//!
//! Scores are formed for answer positions alone and in chunks, in f32: all scores of a batch of
//! 8 × 2,048 positions over Phi-2's 50,295 tokens would take 3.3 GB, several times over.

use bunny_core::language::Decoder;
use burn::tensor::{Int, Tensor, TensorData, activation, backend::AutodiffBackend};

use crate::{
    batch::Answer,
    gradients::{Gradients, Slots, collect},
};

/// Scores held at once, in numbers: 64 MiB in f32.
const CHUNK_SCORES: usize = 16 << 20;

/// The cross-entropy of answers, and what it teaches.
#[derive(Debug)]
pub struct AnswerLoss<B: AutodiffBackend> {
    /// The mean over the answers, `[1]`.
    pub mean: Tensor<B::InnerBackend, 1>,
    /// Its gradient in the decoder's output before the final norm, `[batch, seq, hidden]`; absent
    /// when only the loss is asked for.
    pub gradient: Option<Tensor<B::InnerBackend, 3>>,
}

/// The mean cross-entropy of `answers`, foretold from the output of the last layer; gradients of
/// the final norm and the head, where they learn, go into `sums`, `weight` times.
///
/// # Shapes
/// `hidden` is `[batch, seq, hidden]`, before the final norm
pub fn answer_loss<B: AutodiffBackend>(
    decoder: &Decoder<B>,
    hidden: Tensor<B::InnerBackend, 3>,
    answers: &[Answer],
    weight: f64,
    slots: &Slots,
    sums: &mut Gradients<B::InnerBackend>,
) -> AnswerLoss<B> {
    let [batch, seq, width] = hidden.dims();
    let device = hidden.device();
    let rows = hidden.clone().reshape([batch * seq, width]);
    let share = 1.0 / answers.len() as f64;
    let chunk = (CHUNK_SCORES / vocab_size(decoder)).max(16);
    let mut gradient = rows.zeros_like();
    let mut mean: Option<Tensor<B::InnerBackend, 1>> = None;
    for answers in answers.chunks(chunk) {
        let numbers = |values: Vec<i32>| {
            let data = TensorData::new(values, [answers.len()]);
            Tensor::<B::InnerBackend, 1, Int>::from_data(data, &device)
        };
        let places = numbers(answers.iter().map(|answer| answer.place as i32).collect());
        let ids = numbers(answers.iter().map(|answer| answer.id as i32).collect());
        let leaf = Tensor::<B, 2>::from_inner(rows.clone().select(0, places.clone()));
        let leaf = leaf.require_grad();
        let scores = decoder.logits(decoder.model.norm.forward(leaf.clone()));
        let log_shares = activation::log_softmax(scores, 1); // [answers, vocab]
        let ids = Tensor::from_inner(ids.unsqueeze_dim::<2>(1));
        let loss = log_shares.gather(1, ids).sum().mul_scalar(-share);
        let mut gradients = loss.backward();
        let own = leaf.grad_remove(&mut gradients);
        collect(&decoder.model.norm, &mut gradients, weight, slots, sums);
        match &decoder.lm_head {
            Some(head) => collect(head, &mut gradients, weight, slots, sums),
            None => collect(
                &decoder.model.embed_tokens,
                &mut gradients,
                weight,
                slots,
                sums,
            ),
        }
        if let Some(own) = own {
            gradient = gradient.select_assign(0, places, own, burn::tensor::IndexingUpdateOp::Add);
        }
        let loss = loss.inner();
        mean = Some(match mean {
            Some(mean) => mean + loss,
            None => loss,
        });
    }
    AnswerLoss {
        mean: mean.unwrap_or_else(|| Tensor::zeros([1], &device)),
        gradient: Some(gradient.reshape([batch, seq, width])),
    }
}

fn vocab_size<B: AutodiffBackend>(decoder: &Decoder<B>) -> usize {
    let table = match &decoder.lm_head {
        Some(head) => &head.weight,
        None => &decoder.model.embed_tokens.weight,
    };
    table.blocks.iter().map(|block| block.lazy_shape()[0]).sum()
}
