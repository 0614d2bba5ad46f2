//! Answers of a request, as they come, and whole.

use std::sync::Arc;

use bunny_core::{
    generate::{Event, FinishReason, Timings, TokenLogProbability, TokenScore},
    input::tokenizer::Token,
};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::{
    desk::{Desk, Listening, Prepared},
    wire::{ApiError, Choice, Form, Generation, Usage, Writer},
    worker::Told,
};

/// A request that is ready to be answered.
#[derive(Debug)]
pub(crate) struct Question {
    /// Each prompt with what comes back before its answer.
    pub prompts: Vec<(Prepared, String)>,
    pub generation: Generation,
    pub writer: Writer,
}

/// A request's answers, as they come.
#[derive(Debug)]
pub(crate) struct Answers {
    pub writer: Writer,
    pub usage: Usage,
    pub choices: Vec<Heard>,
    pub desk: Arc<Desk>,
    prompts: Vec<(Prepared, String)>,
    listening: Listening,
    deadline: Instant,
    /// Answers to one prompt.
    of_a_prompt: usize,
    going_on: usize,
}

/// An answer as far as it was heard.
#[derive(Debug)]
pub(crate) struct Heard {
    pub choice: Choice,
    /// The characters of all that was said of it, and of what came before.
    pub characters: usize,
    /// A chat's answer begins with the space that divides it from what was asked.
    has_space: bool,
}

/// What is new of an answer, and of which one.
#[derive(Debug)]
pub(crate) enum New {
    Said(usize, Said),
    Ended(usize),
    /// Nothing is: all have ended.
    Nothing,
}

/// What a token adds to an answer.
#[derive(Debug)]
pub(crate) struct Said {
    pub text: String,
    pub log_probability: Option<TokenLogProbability>,
}

impl Answers {
    /// Has a request's prompts answered.
    ///
    /// # Errors
    /// When too many wait, or the server stops.
    pub(crate) fn new(question: Question, desk: Arc<Desk>) -> Result<Self, ApiError> {
        let Question {
            prompts,
            generation,
            writer,
        } = question;
        let usage = prompts.iter().fold(Usage::default(), |usage, (prompt, _)| {
            let (all, pictures) = desk.positions(&prompt.tokens);
            Usage {
                prompt: usage.prompt + all,
                pictures: usage.pictures + pictures,
                ..usage
            }
        });
        let listening = desk.ask(&prompts, &generation)?;
        let before = prompts.iter().map(|(_, before)| before);
        let before = before.flat_map(|text| std::iter::repeat_n(text, generation.choices));
        let choices = before.enumerate().map(|(index, text)| Heard {
            choice: Choice {
                index,
                text: text.clone(),
                finish: None,
                log_probabilities: generation.options.log_probabilities.map(|_| Vec::new()),
            },
            characters: text.chars().count(),
            has_space: writer.form == Form::Chat,
        });
        let choices: Vec<Heard> = choices.collect();
        Ok(Self {
            usage,
            listening,
            deadline: Instant::now() + desk.options.timeout,
            of_a_prompt: generation.choices,
            going_on: choices.len() + usize::from(generation.scores_prompts) * prompts.len(),
            prompts,
            choices,
            writer,
            desk,
        })
    }

    /// What is heard next.
    pub(crate) async fn next(&mut self) -> Result<New, ApiError> {
        while self.going_on > 0 {
            let told = timeout_at(self.deadline, self.listening.next()).await;
            let told = told.map_err(|_| ApiError::timed_out())?;
            match told.ok_or_else(ApiError::stopping)? {
                (at, Told::Token(event)) => {
                    self.usage.answer += 1;
                    return Ok(New::Said(at, self.choices[at].hear(event)));
                }
                (at, Told::Finished(timings)) => {
                    self.end(at, &timings);
                    return Ok(New::Ended(at));
                }
                (at, Told::Scored(scores)) => self.echo(at, scores),
                (_, Told::Failed(error)) => return Err(ApiError::internal(&error)),
            }
        }
        Ok(New::Nothing)
    }

    /// Puts a prompt's own scores before those of all of its answers, the first of which is `at`.
    fn echo(&mut self, at: usize, scores: Vec<TokenScore>) {
        self.going_on -= 1;
        let known = |score: TokenScore| TokenLogProbability {
            id: score.id,
            log_probability: score.log_probability,
            top: score.top,
        };
        let first = match self.prompts[at / self.of_a_prompt].0.tokens.first() {
            // Nothing foretells it.
            Some(Token::Text(id)) => Some(TokenLogProbability {
                id: *id,
                log_probability: f32::NAN,
                top: Vec::new(),
            }),
            _ => None,
        };
        let scores = Vec::from_iter(first.into_iter().chain(scores.into_iter().map(known)));
        for heard in &mut self.choices[at..at + self.of_a_prompt] {
            if let Some(all) = &mut heard.choice.log_probabilities {
                all.splice(0..0, scores.iter().cloned());
            }
        }
    }

    fn end(&mut self, at: usize, timings: &Timings) {
        self.going_on -= 1;
        // A prompt is counted once, however many answers it has; the others know it from the first.
        if at.is_multiple_of(self.of_a_prompt) {
            self.usage.cached += timings.known_positions;
        }
        // One that had no room for a token has ended without one.
        let finish = &mut self.choices[at].choice.finish;
        finish.get_or_insert(FinishReason::Length);
    }

    /// When the request has taken too long.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// All answers in one body.
    pub(crate) async fn whole(mut self) -> Result<Value, ApiError> {
        loop {
            match self.next().await? {
                New::Said(at, said) => {
                    let choice = &mut self.choices[at].choice;
                    choice.text += &said.text;
                    if let Some(all) = &mut choice.log_probabilities {
                        all.extend(said.log_probability);
                    }
                }
                New::Ended(_) => {}
                New::Nothing => break,
            }
        }
        let choices = self.choices.iter().map(|heard| heard.choice.clone());
        let choices: Vec<Choice> = choices.collect();
        Ok(self.writer.whole(&choices, self.usage))
    }
}

impl Heard {
    fn hear(&mut self, event: Event) -> Said {
        self.choice.finish = event.finish;
        let mut text = event.text + &event.rest;
        if self.has_space && !text.is_empty() {
            text = text.trim_start().to_string();
            self.has_space = text.is_empty();
        }
        self.characters += text.chars().count();
        Said {
            text,
            log_probability: event.log_probability,
        }
    }
}
