//! A whole prompt, as the tokenizer gets it.

use crate::named::named;
use crate::question::Question;

const SYSTEM: &str = "A chat between a curious user and an artificial intelligence assistant. \
    The assistant gives helpful, detailed, and polite answers to the user's questions.";

/// What stands for a picture in a prompt.
pub const PICTURE: &str = "<image>";

/// The form of a prompt: the reference's `--conv-mode`.
///
/// All forms have the same prompt before an answer; they differ in the text that ends one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Template {
    /// Phi-1.5, Phi-2, StableLM-2, Qwen1.5.
    #[default]
    Bunny,
    /// Phi-3.
    Phi3,
    /// MiniCPM.
    MiniCpm,
    /// Llama-3.
    Llama,
}

impl Template {
    /// Every form.
    pub const ALL: [Self; 4] = [Self::Bunny, Self::Phi3, Self::MiniCpm, Self::Llama];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bunny => "bunny",
            Self::Phi3 => "phi3",
            Self::MiniCpm => "minicpm",
            Self::Llama => "llama",
        }
    }

    /// The text that ends an answer.
    pub fn end_of_text(self) -> &'static str {
        match self {
            Self::Bunny | Self::Phi3 => "<|endoftext|>",
            Self::MiniCpm => "</s>",
            Self::Llama => "<|end_of_text|>",
        }
    }

    /// The prompt that asks a question: system text, picture, text, and the assistant's turn.
    pub fn prompt(self, question: &Question) -> String {
        let picture = if question.pictures.is_empty() {
            ""
        } else {
            "<image>\n"
        };
        format!("{SYSTEM} USER: {picture}{} ASSISTANT:", question.text)
    }
}

named!(Template, UnknownTemplate);

/// No form of a prompt has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no template `{0}`: take one of bunny, phi3, minicpm, llama")]
pub struct UnknownTemplate(pub String);
