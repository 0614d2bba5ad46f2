//! The forms of a prompt, and what sets them apart.

use std::fmt;
use std::str::FromStr;

use super::ConversationError;

const SYSTEM: &str = "A chat between a curious user and an artificial intelligence assistant. \
    The assistant gives helpful, detailed, and polite answers to the user's questions.";

/// The form of a prompt: `--version` and `--conv-mode` of the reference.
///
/// All but [`Plain`](Template::Plain) read `{system} USER: … ASSISTANT: …{end}USER: …`, with
/// nothing between an answer's end of text and the next `USER`. They differ in that end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Template {
    /// Phi-1.5, Phi-2, StableLM-2, Qwen1.5: answers end in `<|endoftext|>`.
    #[default]
    Bunny,
    /// Phi-3: `<|endoftext|>` as well; its tokenizer may add a beginning of sequence.
    Phi3,
    /// MiniCPM: answers end in `</s>`.
    MiniCpm,
    /// Llama-3: answers end in `<|end_of_text|>`.
    Llama,
    /// Pre-training: a picture, its caption, a line break; no system text, roles or end of text.
    Plain,
}

impl Template {
    /// Every template.
    pub const ALL: [Template; 5] = [
        Template::Bunny,
        Template::Phi3,
        Template::MiniCpm,
        Template::Llama,
        Template::Plain,
    ];

    /// The name in recipes and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Template::Bunny => "bunny",
            Template::Phi3 => "phi3",
            Template::MiniCpm => "minicpm",
            Template::Llama => "llama",
            Template::Plain => "plain",
        }
    }

    /// Whether a prompt begins with the tokenizer's beginning of sequence; `None` where both will do.
    pub fn begins_with_bos(self) -> Option<bool> {
        match self {
            Template::Bunny => Some(false),
            Template::MiniCpm | Template::Llama => Some(true),
            Template::Phi3 | Template::Plain => None,
        }
    }

    /// What stands before the first turn, unless the conversation brings its own.
    pub fn system(self) -> &'static str {
        if self == Template::Plain { "" } else { SYSTEM }
    }

    /// The special token that ends an answer, if answers have one.
    pub fn end_of_text(self) -> Option<&'static str> {
        match self {
            Template::Bunny | Template::Phi3 => Some("<|endoftext|>"),
            Template::MiniCpm => Some("</s>"),
            Template::Llama => Some("<|end_of_text|>"),
            Template::Plain => None,
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Template {
    type Err = ConversationError;

    /// `default` is the reference's other name for `bunny`. The reference takes any unknown name
    /// for it as well, which ends in a loss of 0; here that is an error.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "default" => Ok(Template::Bunny),
            _ => Template::ALL
                .into_iter()
                .find(|template| template.name() == name)
                .ok_or_else(|| ConversationError::UnknownTemplate {
                    name: name.to_owned(),
                }),
        }
    }
}
