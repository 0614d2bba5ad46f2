//! What JavaScript asks for, as JSON.

use bunny_core::generate::GenerationOptions;
use serde::Deserialize;

/// Which model.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Its folder, among the files that were put into memory; the model in the module unless given.
    pub model: Option<String>,
    /// The language model that it belongs to, where it is an adapter or a projector.
    pub base: Option<String>,
    /// The vision tower, where the model lacks it.
    pub vision_tower: Option<String>,
    /// What its weights are held in: `auto`, `f32`, `f16`, `int8` or `int4`, the last two with a group of
    /// numbers a scale (`int4:128`) or without.
    #[serde(default = "auto")]
    pub precision: String,
}

fn auto() -> String {
    "auto".into()
}

/// A conversation to be answered.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The system text, in place of the model's own.
    pub system: Option<String>,
    /// The messages, the user's first.
    pub messages: Vec<Message>,
    /// How the answer is chosen.
    #[serde(default)]
    pub options: Options,
}

/// One of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Whose it is.
    pub role: Role,
    /// What it says.
    pub text: String,
    /// How many of the pictures that were given, in their order, belong to it.
    #[serde(default)]
    pub pictures: usize,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// [`GenerationOptions`], each as there unless given.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    max_new_tokens: Option<usize>,
    min_new_tokens: Option<usize>,
    temperature: Option<f32>,
    top_k: Option<usize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    seed: Option<u64>,
    stop: Vec<String>,
    log_probabilities: Option<usize>,
}

impl Options {
    /// As the engine takes them.
    ///
    /// # Errors
    /// When a number is none that it can be.
    pub fn read(self) -> Result<GenerationOptions, String> {
        let usual = GenerationOptions::default();
        let within = |name: &str, given: Option<f32>, usual: f32, [least, most]: [f32; 2]| {
            let number = given.unwrap_or(usual);
            match (least..=most).contains(&number) {
                true => Ok(number),
                false => Err(format!("`{name}` must be from {least} to {most}")),
            }
        };
        Ok(GenerationOptions {
            max_new_tokens: self.max_new_tokens.unwrap_or(usual.max_new_tokens),
            min_new_tokens: self.min_new_tokens.unwrap_or(usual.min_new_tokens),
            temperature: within(
                "temperature",
                self.temperature,
                usual.temperature,
                [0.0, 2.0],
            )?,
            top_k: self.top_k.unwrap_or(usual.top_k),
            top_p: within("top_p", self.top_p, usual.top_p, [0.0, 1.0])?,
            min_p: within("min_p", self.min_p, usual.min_p, [0.0, 1.0])?,
            repetition_penalty: within(
                "repetition_penalty",
                self.repetition_penalty,
                usual.repetition_penalty,
                [0.01, 100.0],
            )?,
            presence_penalty: within(
                "presence_penalty",
                self.presence_penalty,
                usual.presence_penalty,
                [-2.0, 2.0],
            )?,
            frequency_penalty: within(
                "frequency_penalty",
                self.frequency_penalty,
                usual.frequency_penalty,
                [-2.0, 2.0],
            )?,
            seed: self.seed.unwrap_or(usual.seed),
            stop: self.stop,
            log_probabilities: self.log_probabilities,
            ..usual
        })
    }
}
