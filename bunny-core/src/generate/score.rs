//! How likely a model finds a given answer.

use std::sync::Arc;

use burn::tensor::backend::Backend;

use super::{Engine, EngineOptions, Prompt, Update};
use crate::{Bunny, Error};

/// One token of a scored text.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenScore {
    /// Its place among the tokens.
    pub place: usize,
    /// The token.
    pub id: u32,
    /// The logarithm of the probability that the model gives it behind what comes before it.
    pub log_probability: f32,
    /// The likeliest tokens in its place with theirs, likeliest first, as many as were asked for.
    pub top: Vec<(u32, f32)>,
}

/// The log-probability of each token at the places `scored`, in order, given all before it.
///
/// # Errors
/// When the text is empty or does not fit the model's positions, a picture is missing, or a score is no
/// number.
pub fn score<B: Backend>(
    model: &Arc<Bunny<B>>,
    prompt: Prompt<B>,
    scored: &[usize],
    device: &B::Device,
) -> Result<Vec<TokenScore>, Error> {
    let options = EngineOptions {
        slots: 1,
        chunk: usize::MAX,
        ..EngineOptions::default()
    };
    let mut engine = Engine::new(model.clone(), options, device.clone());
    engine.admit_scoring(prompt, scored, 0)?;
    let mut found = Vec::new();
    while !engine.is_idle() {
        for (_, update) in engine.step() {
            match update {
                Update::Scored(scores) => found = scores,
                Update::Failed(error) => return Err(error),
                Update::Token(_) | Update::Finished(_) => {}
            }
        }
    }
    Ok(found)
}
