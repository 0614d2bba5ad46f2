//! Several prompts answered at once.

use burn::tensor::backend::Backend;

use super::{EngineOptions, Finished, GenerationOptions, Pipeline, Prompt, Update, read::wait};
use crate::Error;

/// The answers to all prompts, in their order: the same as each prompt alone would get.
///
/// # Errors
/// When a prompt is empty or leaves no room for an answer, a picture is missing, or a model's scores are
/// no numbers.
pub fn generate<B: Backend>(
    pipeline: &Pipeline<B>,
    prompts: Vec<Prompt<B>>,
    options: &GenerationOptions,
) -> Result<Vec<Finished>, Error> {
    wait(generate_async(pipeline, prompts, options))
}

/// [`generate`] without blocking a thread while the device computes.
///
/// # Errors
/// As [`generate`].
pub async fn generate_async<B: Backend>(
    pipeline: &Pipeline<B>,
    prompts: Vec<Prompt<B>>,
    options: &GenerationOptions,
) -> Result<Vec<Finished>, Error> {
    let mut engine = pipeline.engine(EngineOptions {
        slots: prompts.len().max(1),
        // Nobody is held up: as many as keep a device busy.
        chunk: 4096,
        ..EngineOptions::default()
    });
    let mut ids = Vec::with_capacity(prompts.len());
    for prompt in prompts {
        let sequence = pipeline.sequence(&prompt.tokens, options);
        ids.push(engine.admit(prompt, sequence)?);
    }
    let mut answers: Vec<Option<Finished>> = ids.iter().map(|_| None).collect();
    while !engine.is_idle() {
        for (id, update) in engine.step_async().await {
            match update {
                Update::Finished(answer) => {
                    let at = ids.iter().position(|one| *one == id);
                    answers[at.expect("an id of this engine's")] = Some(*answer);
                }
                Update::Failed(error) => return Err(error),
                Update::Token(_) | Update::Scored(_) => {}
            }
        }
    }
    Ok(answers.into_iter().flatten().collect())
}
