//! One micro-batch through the model and back.
//!
//! The way back is made of pieces, each with a graph of its own: the answers' scores in chunks
//! (`answer_loss`), then the layers, either as one piece or, with gradient checkpointing, one at
//! a time, then what comes before them. Between two pieces only a gradient is handed on.
//!
//! With checkpointing the layers first run without a graph, and their inputs are kept: one
//! `[batch, seq, hidden]` a layer. On the way back each is run again, with a graph; its dropouts
//! draw from the [`Mode`], so the second pass drops what the first one dropped.

use bunny_core::{
    Bunny,
    model::{decoder::Decoder, tower::stack_pixels},
    nn::{Mask, Mode, Positions},
    ops,
};
use burn::{
    module::AutodiffModule,
    tensor::{
        Tensor,
        backend::{AutodiffBackend, Backend},
    },
};

use super::{
    Gradients, Slots, backward_from, collect,
    loss::{answer_loss, fits_at_once, mean_loss},
};
use crate::{
    data::{Answer, Batch, Piece, row_len},
    trainable::TrainableParts,
};

/// How micro-batches go through a model.
#[derive(Debug, Clone)]
pub struct ForwardBackward {
    /// What learns.
    pub parts: TrainableParts,
    /// Where its gradients go.
    pub slots: Slots,
    /// Keep the layers' inputs only, and run each layer again on the way back.
    pub gradient_checkpointing: bool,
}

/// What goes through a decoder, and what is asked of it.
pub(crate) struct DecoderInput<'a, B: AutodiffBackend> {
    /// `[batch, seq, hidden]`.
    pub embeds: Tensor<B, 3>,
    /// Where each of them stands.
    pub positions: &'a Positions,
    /// What each may look at.
    pub mask: Mask,
    /// What is to be predicted.
    pub answers: &'a [Answer],
    /// What gradients are multiplied with.
    pub weight: f64,
    /// Anything in the layers learns.
    pub layers_learn: bool,
    /// Anything that the embeddings are made by learns.
    pub below_learns: bool,
}

impl ForwardBackward {
    /// The mean loss of a micro-batch's answers, `[1]`; their gradients are added to `gradients`,
    /// `weight` times. `None` when the micro-batch has no answers.
    pub fn run<B: AutodiffBackend>(
        &self,
        model: &Bunny<B>,
        batch: &Batch,
        mode: &Mode,
        weight: f64,
        gradients: &mut Gradients<B::InnerBackend>,
        device: &B::Device,
    ) -> Option<Tensor<B::InnerBackend, 1>> {
        if batch.answers.is_empty() {
            return None;
        }
        let features = self.features(model, batch, mode, device);
        let input = DecoderInput {
            embeds: embed(model, batch, features),
            positions: &Positions::consecutive(0, batch.width),
            mask: Mask::CAUSAL,
            answers: &batch.answers,
            weight,
            layers_learn: self.parts.language || self.parts.lora,
            below_learns: self.parts.language
                || (self.parts.before_decoder() && !batch.pictures.is_empty()),
        };
        let (mean, rest) = self.decode(&model.language_model, input, mode, gradients);
        if let Some(mut rest) = rest {
            collect(model, &mut rest, weight, &self.slots, gradients);
        }
        Some(mean)
    }

    /// Takes embeddings through a decoder and back. Gives the mean loss of the answers, `[1]`, and
    /// the gradients that are yet to be collected: those of what lies below the embeddings, and
    /// without checkpointing those of the layers too.
    pub(crate) fn decode<B: AutodiffBackend>(
        &self,
        decoder: &Decoder<B>,
        input: DecoderInput<'_, B>,
        mode: &Mode,
        gradients: &mut Gradients<B::InnerBackend>,
    ) -> (Tensor<B::InnerBackend, 1>, Option<B::Gradients>) {
        let DecoderInput {
            embeds,
            positions,
            mask,
            answers,
            weight,
            layers_learn,
            below_learns,
        } = input;
        let slots = &self.slots;
        let stack = &decoder.model;
        let embeds = stack.enter(embeds, mode);
        let context = stack.context(&embeds, positions, mask.clone(), mode);
        let any_learns = below_learns || layers_learn;

        if !self.gradient_checkpointing {
            let mut hidden = embeds;
            for layer in &stack.layers {
                hidden = layer.forward(hidden, None, &context);
            }
            if any_learns && fits_at_once(decoder, answers) {
                // One graph and one way back, which ranks in one process do not wait for.
                let mean = mean_loss(decoder, hidden, answers);
                let rest = mean.backward();
                return (mean.inner(), Some(rest));
            }
            let top = hidden.clone().inner();
            let loss = answer_loss::<B>(decoder, top, answers, weight, slots, gradients);
            let rest = any_learns.then(|| backward_from(hidden, loss.gradient));
            return (loss.mean, rest);
        }

        let mut hidden = embeds.clone().inner();
        let mut layer_inputs = Vec::with_capacity(stack.layers.len());
        {
            let plain = stack.valid();
            let context = plain.context(&hidden, positions, mask, mode);
            for layer in &plain.layers {
                layer_inputs.push(hidden.clone());
                hidden = layer.forward(hidden, None, &context);
            }
        }
        let loss = answer_loss::<B>(decoder, hidden, answers, weight, slots, gradients);
        if !any_learns {
            return (loss.mean, None);
        }
        let mut gradient = Some(loss.gradient);
        for layer in stack.layers.iter().rev() {
            let (Some(input), Some(above)) = (layer_inputs.pop(), gradient.take()) else {
                break;
            };
            let input = Tensor::<B, 3>::from_inner(input).require_grad();
            let output = layer.forward(input.clone(), None, &context);
            let mut own = backward_from(output, above);
            gradient = input.grad_remove(&mut own);
            collect(layer, &mut own, weight, slots, gradients);
        }
        let gradient = gradient.filter(|_| below_learns);
        let rest = gradient.map(|gradient| backward_from(embeds, gradient));
        (loss.mean, rest)
    }

    /// The features of a batch's pictures, `[pictures, tokens, hidden]`; without pictures, tower and
    /// projector do not run.
    fn features<B: AutodiffBackend>(
        &self,
        model: &Bunny<B>,
        batch: &Batch,
        mode: &Mode,
        device: &B::Device,
    ) -> Option<Tensor<B, 3>> {
        if batch.pictures.is_empty() {
            return None;
        }
        let compute = model.precision().compute;
        let features = if self.parts.tower {
            let pixels = stack_pixels::<B>(&batch.pictures, device).cast(compute);
            model.vision_tower.forward(pixels)
        } else {
            // A frozen tower runs where no graph is kept.
            let pixels = stack_pixels::<B::InnerBackend>(&batch.pictures, device).cast(compute);
            Tensor::from_inner(model.vision_tower.valid().forward(pixels))
        };
        Some(model.mm_projector.forward(features, mode))
    }
}

/// The mean loss of a batch's answers, `[1]`, without gradients.
pub fn loss<B: Backend>(
    model: &Bunny<B>,
    batch: &Batch,
    mode: &Mode,
    device: &B::Device,
) -> Tensor<B, 1> {
    let features = (!batch.pictures.is_empty()).then(|| {
        let pixels = stack_pixels::<B>(&batch.pictures, device).cast(model.precision().compute);
        model
            .mm_projector
            .forward(model.vision_tower.forward(pixels), mode)
    });
    let embeds = embed(model, batch, features);
    let positions = Positions::consecutive(0, batch.width);
    let decoder = &model.language_model;
    decoder_loss(
        decoder,
        embeds,
        &positions,
        Mask::CAUSAL,
        &batch.answers,
        mode,
    )
}

/// The mean loss of `answers`, `[1]`, predicted from embeddings `[batch, seq, hidden]`.
pub(crate) fn decoder_loss<B: Backend>(
    decoder: &Decoder<B>,
    embeds: Tensor<B, 3>,
    positions: &Positions,
    mask: Mask,
    answers: &[Answer],
    mode: &Mode,
) -> Tensor<B, 1> {
    let stack = &decoder.model;
    let mut hidden = stack.enter(embeds, mode);
    let context = stack.context(&hidden, positions, mask, mode);
    for layer in &stack.layers {
        hidden = layer.forward(hidden, None, &context);
    }
    mean_loss(decoder, hidden, answers)
}

/// Rows of embeddings, words and pictures in their places, padded with zeros on the right.
///
/// # Shapes
/// features `[pictures, tokens, hidden]` → `[batch, width, hidden]`
fn embed<B: Backend>(
    model: &Bunny<B>,
    batch: &Batch,
    features: Option<Tensor<B, 3>>,
) -> Tensor<B, 3> {
    let compute = model.precision().compute;
    let words = model.language_model.model.embed(&batch.ids).cast(compute); // [words, hidden]
    let [count, hidden] = words.dims();
    let per_picture = features.as_ref().map_or(0, |features| features.dims()[1]);
    // Every position's row among the words' and, behind them, the pictures'.
    let mut from = Vec::with_capacity(batch.rows.len() * batch.width);
    for row in &batch.rows {
        for piece in row {
            let place = match piece {
                Piece::Words(range) => range.clone(),
                Piece::Picture { picture, features } => {
                    let first = count + picture * per_picture;
                    first..first + features
                }
            };
            from.extend(place.map(|row| Some(row as u32)));
        }
        from.extend(std::iter::repeat_n(None, batch.width - row_len(row)));
    }
    let all = match features {
        Some(features) => Tensor::cat(vec![words, features.flatten(0, 1)], 0),
        None => words,
    };
    ops::pick_rows(all, &from).reshape([batch.rows.len(), batch.width, hidden])
}
