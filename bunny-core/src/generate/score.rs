//! How likely a model finds a given answer.

use burn::tensor::{Tensor, TensorData, activation::log_softmax, backend::Backend};

use super::{Picture, session};
use crate::{Bunny, Error, input::tokenizer::Token, nn::Mode};

/// One token of a scored text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenScore {
    /// Its place among the tokens.
    pub place: usize,
    /// The token.
    pub id: u32,
    /// The logarithm of the probability that the model gives it behind what comes before it.
    pub log_probability: f32,
}

/// The log-probability of each token at the places `scored`, given all before it.
///
/// # Errors
/// When the text does not fit the model's positions, or a picture is missing.
pub fn score<B: Backend>(
    model: &Bunny<B>,
    tokens: &[Token],
    scored: &[usize],
    pictures: &mut [Picture<B>],
    device: &B::Device,
) -> Result<Vec<TokenScore>, Error> {
    let context = model.config().decoder.max_position_embeddings;
    let total = model.positions(tokens);
    if total > context {
        let text = tokens
            .iter()
            .filter(|token| matches!(token, Token::Text(_)))
            .count();
        return Err(Error::TooLong {
            prompt: total,
            pictures: total - text,
            answer: 0,
            context,
        });
    }
    let wanted: Vec<(usize, u32)> = scored
        .iter()
        .filter_map(|&place| match tokens.get(place) {
            Some(Token::Text(id)) if place > 0 => Some((place, *id)),
            _ => None,
        })
        .collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let embeds = session::embed(model, tokens, pictures, device)?;
    let hidden = model.forward(embeds, &[], None, &Mode::INFERENCE); // [1, seq, hidden]
    // A token is foretold by the position before its own.
    let before: Vec<i32> = wanted
        .iter()
        .map(|&(place, _)| model.positions(&tokens[..place]) as i32 - 1)
        .collect();
    let count = before.len();
    let before = Tensor::from_data(TensorData::new(before, [count]), device);
    let logits = model
        .language_model
        .logits(hidden.squeeze_dim::<2>(0).select(0, before));
    let ids: Vec<i32> = wanted.iter().map(|&(_, id)| id as i32).collect();
    let ids = Tensor::from_data(TensorData::new(ids, [count, 1]), device);
    let scores = log_softmax(logits, 1).gather(1, ids).into_data();
    Ok(wanted
        .into_iter()
        .zip(scores.iter::<f32>())
        .map(|((place, id), log_probability)| TokenScore {
            place,
            id,
            log_probability,
        })
        .collect())
}
