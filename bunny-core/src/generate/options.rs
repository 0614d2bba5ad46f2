//! How an answer is chosen, and when it ends.

/// How tokens are chosen and when to stop.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationOptions {
    /// The most tokens an answer may have; where the model has fewer positions left, as many as those.
    pub max_new_tokens: usize,
    /// No token ends the answer before it has so many.
    pub min_new_tokens: usize,
    /// Divides the logits; 0 takes the likeliest token every time.
    pub temperature: f32,
    /// Only this many of the likeliest tokens are drawn from; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that together have this probability are drawn from.
    pub top_p: f32,
    /// Only tokens at least this share as likely as the likeliest are drawn from; 0 for all.
    pub min_p: f32,
    /// Makes tokens that the prompt or the answer has already less likely; 1 for no change.
    pub repetition_penalty: f32,
    /// Taken off the logit of every token that the answer has already.
    pub presence_penalty: f32,
    /// Taken off the logit of a token as often as the answer has it.
    pub frequency_penalty: f32,
    /// Added to the logits of some tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Seeds the draws.
    pub seed: u64,
    /// Texts that end an answer; they are not part of it.
    pub stop: Vec<String>,
    /// Whether each token comes with the logarithm of its probability, and how many of the likeliest
    /// tokens stand beside it with theirs: the model's own, before penalties and temperature.
    pub log_probabilities: Option<usize>,
}

impl Default for GenerationOptions {
    /// Greedy, up to 512 tokens: what every published evaluation of Bunny uses, at the length of
    /// the reference's command line.
    fn default() -> Self {
        Self {
            max_new_tokens: 512,
            min_new_tokens: 0,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
            stop: Vec::new(),
            log_probabilities: None,
        }
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
    /// The most tokens allowed were said, or the model has no more positions.
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
