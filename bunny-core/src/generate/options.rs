//! How an answer is chosen, and when it ends.

/// How tokens are chosen and when to stop.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationOptions {
    /// The most tokens an answer may have.
    pub max_new_tokens: usize,
    /// Divides the logits; 0 takes the likeliest token every time.
    pub temperature: f32,
    /// Only this many of the likeliest tokens are drawn from; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that together have this probability are drawn from.
    pub top_p: f32,
    /// Makes tokens that the prompt or the answer has already less likely; 1 for no change.
    pub repetition_penalty: f32,
    /// Seeds the draws.
    pub seed: u64,
    /// Texts that end an answer; they are not part of it.
    pub stop: Vec<String>,
}

impl Default for GenerationOptions {
    /// Greedy, up to 512 tokens: what every published evaluation of Bunny uses, at the length of
    /// the reference's command line.
    fn default() -> Self {
        Self {
            max_new_tokens: 512,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            repetition_penalty: 1.0,
            seed: 0,
            stop: Vec::new(),
        }
    }
}

impl GenerationOptions {
    /// Whether the likeliest token is taken as it is, so that scores need not leave the device.
    pub(crate) fn is_plain_greedy(&self) -> bool {
        self.temperature == 0.0 && self.repetition_penalty == 1.0
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FinishReason {
    /// The model said its end of text.
    EndOfText,
    /// One of the stop texts came.
    Stop,
    /// The most tokens allowed were said.
    Length,
    /// Whoever listened had enough.
    Interrupted,
}

impl FinishReason {
    /// A word for it in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::EndOfText => "end_of_text",
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Interrupted => "interrupted",
        }
    }
}
