//! An answer as it grows: which token comes next, what text that makes, and when it ends.

use std::sync::Arc;

use super::{FinishReason, GenerationOptions, Sampler, stop::StopFilter};
use crate::{
    Error,
    input::tokenizer::{Token, TokenStream, Tokenizer},
};

/// An answer, and all that decides how it goes on.
///
/// It knows nothing of models: whoever has the scores of the next token lets it
/// [`choose`](Self::choose) one, and [`push`](Self::push) tells what became of it.
#[derive(Debug)]
pub struct Sequence {
    options: GenerationOptions,
    sampler: Sampler,
    /// Tokens that end it.
    ends: Vec<u32>,
    /// The most tokens that it may have.
    limit: usize,
    /// The tokens of the prompt and of the answer; behind so many the answer begins.
    seen: Vec<u32>,
    prompt: usize,
    text: Option<Text>,
    /// What is known of the token that was chosen last.
    chosen: Option<TokenLogProbability>,
    log_probabilities: Vec<TokenLogProbability>,
    finish: Option<FinishReason>,
}

/// The text of an answer.
#[derive(Debug)]
struct Text {
    stream: TokenStream<Arc<Tokenizer>>,
    filter: StopFilter,
    said: String,
}

/// What a token did to an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The token.
    pub id: u32,
    /// The text that can be said now; whole characters.
    pub text: String,
    /// What was held back, in case a stop text or a character went on; said when the answer ends.
    pub rest: String,
    /// Why the answer ended with this token, if it did.
    pub finish: Option<FinishReason>,
    /// How likely the model found it, where that was asked for.
    pub log_probability: Option<TokenLogProbability>,
}

/// How likely a model found a token, and which were the likeliest.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogProbability {
    /// The token.
    pub id: u32,
    /// The logarithm of the probability that the model gave it.
    pub log_probability: f32,
    /// The likeliest tokens with theirs, likeliest first.
    pub top: Vec<(u32, f32)>,
}

impl Sequence {
    /// The answer to a prompt, as text and tokens.
    pub fn new(prompt: &[Token], options: &GenerationOptions, tokenizer: Arc<Tokenizer>) -> Self {
        let text = Text {
            stream: TokenStream::new(tokenizer),
            filter: StopFilter::new(&options.stop),
            said: String::new(),
        };
        Self {
            text: Some(text),
            ..Self::of_tokens(prompt, options)
        }
    }

    /// An answer of tokens alone, which has no text, and so no stop texts.
    pub fn of_tokens(prompt: &[Token], options: &GenerationOptions) -> Self {
        let seen = prompt.iter().map(|token| match token {
            Token::Text(id) => *id,
            // The reference has 0 in a picture's place when it looks for repetitions.
            Token::Picture(_) => 0,
        });
        Self {
            options: options.clone(),
            sampler: Sampler::new(options),
            ends: Vec::new(),
            limit: options.max_new_tokens,
            seen: seen.collect(),
            prompt: prompt.len(),
            text: None,
            chosen: None,
            log_probabilities: Vec::new(),
            finish: None,
        }
    }

    /// The same, ending with any of these tokens too.
    #[must_use]
    pub fn ending_with(mut self, ends: impl IntoIterator<Item = u32>) -> Self {
        self.ends.extend(ends);
        self
    }

    /// Allows at most `most` tokens.
    pub(super) fn limit(&mut self, most: usize) {
        self.limit = self.limit.min(most);
        if self.limit == 0 {
            self.finish = Some(FinishReason::Length);
        }
    }

    /// The most tokens that it may have.
    pub(super) fn most_tokens(&self) -> usize {
        self.limit
    }

    /// Chooses the next token by its scores, one of every token, which are changed on the way.
    ///
    /// # Errors
    /// When a score is no number, or infinite.
    pub fn choose(&mut self, scores: &mut [f32]) -> Result<u32, Error> {
        require_finite(scores, || self.seen.len())?;
        let top = self.options.log_probabilities;
        let before = top.map(|_| scores.to_vec());
        self.sampler.adjust(scores, self.ids());
        if self.ids().len() < self.options.min_new_tokens {
            for end in &self.ends {
                if let Some(score) = scores.get_mut(*end as usize) {
                    *score = f32::NEG_INFINITY;
                }
            }
        }
        let id = self.sampler.sample(scores, &self.seen);
        self.chosen = before.zip(top).map(|(scores, top)| {
            let norm = log_sum_exp(&scores);
            let of = |id: u32| (f64::from(scores[id as usize]) - norm) as f32;
            TokenLogProbability {
                id,
                log_probability: of(id),
                top: likeliest(&scores, top)
                    .into_iter()
                    .map(|id| (id, of(id)))
                    .collect(),
            }
        });
        Ok(id)
    }

    /// Takes the next token, and tells what it did.
    ///
    /// # Errors
    /// When the token is not the tokenizer's.
    pub fn push(&mut self, id: u32) -> Result<Event, Error> {
        self.seen.push(id);
        let log_probability = self.chosen.take().filter(|chosen| chosen.id == id);
        self.log_probabilities.extend(log_probability.clone());
        let mut event = Event {
            id,
            text: String::new(),
            rest: String::new(),
            finish: None,
            log_probability,
        };
        let is_full = self.ids().len() >= self.limit;
        if self.ends.contains(&id) {
            event.finish = Some(FinishReason::EndOfText);
        } else if let Some(text) = &mut self.text {
            event.text = text.filter.push(&text.stream.push(id)?);
            text.said += &event.text;
            if text.filter.stopped() {
                event.finish = Some(FinishReason::Stop);
            }
        }
        if event.finish.is_none() && is_full {
            event.finish = Some(FinishReason::Length);
        }
        if event.finish.is_some() {
            self.finish = event.finish;
            event.rest = self.flush()?;
        }
        Ok(event)
    }

    /// Ends the answer before it has ended by itself. What was held back becomes part of it.
    ///
    /// # Errors
    /// When a token is not the tokenizer's.
    pub fn interrupt(&mut self) -> Result<(), Error> {
        self.flush()?;
        self.finish = Some(FinishReason::Interrupted);
        Ok(())
    }

    /// What was held back, now that no more comes.
    fn flush(&mut self) -> Result<String, Error> {
        let Some(text) = &mut self.text else {
            return Ok(String::new());
        };
        if text.filter.stopped() {
            return Ok(String::new());
        }
        let rest = text.filter.push(&text.stream.finish()?) + &text.filter.finish();
        text.said += &rest;
        Ok(rest)
    }

    /// The tokens that were chosen, the end of text included when it came.
    pub fn ids(&self) -> &[u32] {
        &self.seen[self.prompt..]
    }

    /// How many tokens it may have yet.
    pub(super) fn left(&self) -> usize {
        self.limit - self.ids().len().min(self.limit)
    }

    /// The text so far, without what is held back.
    pub fn text(&self) -> &str {
        self.text.as_ref().map_or("", |text| &text.said)
    }

    /// Why the answer ended; `None` while it goes on.
    pub fn finish(&self) -> Option<FinishReason> {
        self.finish
    }

    /// How likely the model found each token, where that was asked for.
    pub fn log_probabilities(&self) -> &[TokenLogProbability] {
        &self.log_probabilities
    }
}

/// Refuses scores that are no numbers; `place` tells the place of their token.
pub(super) fn require_finite(scores: &[f32], place: impl FnOnce() -> usize) -> Result<(), Error> {
    let all = |some: &[f32]| some.iter().fold(true, |all, score| all & score.is_finite());
    // Some at a time: the compiler makes vectors of them.
    match scores.chunks(256).all(all) {
        true => Ok(()),
        false => Err(Error::NotFinite { place: place() }),
    }
}

/// `ln Σ e^score`.
pub(super) fn log_sum_exp(scores: &[f32]) -> f64 {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = scores
        .iter()
        .map(|score| f64::from(score - most).exp())
        .sum();
    f64::from(most) + sum.ln()
}

/// The `count` tokens of the highest scores, highest first.
pub(super) fn likeliest(scores: &[f32], count: usize) -> Vec<u32> {
    let by_score = |a: &u32, b: &u32| {
        let order = scores[*b as usize].total_cmp(&scores[*a as usize]);
        order.then(a.cmp(b))
    };
    let mut ids: Vec<u32> = (0..scores.len() as u32).collect();
    let count = count.min(ids.len());
    if count > 0 && count < ids.len() {
        ids.select_nth_unstable_by(count - 1, by_score);
    }
    ids.truncate(count);
    ids.sort_unstable_by(by_score);
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_an_answer_that_has_not_its_least_tokens() {
        let options = GenerationOptions {
            min_new_tokens: 2,
            ..Default::default()
        };
        let mut sequence = Sequence::of_tokens(&[], &options).ending_with([1, u32::MAX]);
        let mut ids = Vec::new();
        while sequence.finish().is_none() {
            ids.push(sequence.choose(&mut [0.0, 2.0, 1.0]).unwrap());
            sequence.push(ids[ids.len() - 1]).unwrap();
        }
        assert_eq!(ids, [2, 2, 1]);
    }
}
