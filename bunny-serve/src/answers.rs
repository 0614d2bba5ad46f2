//! Answers of a request, as they come, and whole.

use std::{collections::VecDeque, sync::Arc};

use bunny_core::{
    Error,
    generate::{Event, FinishReason, Timings, TokenLogProbability, TokenScore},
    input::tokenizer::{Token, Tokenizer},
};
use serde_json::Value;
use tokio::time::timeout_at;

use crate::{
    desk::{Desk, Listening, Place, Prepared},
    wire::{ApiError, Choice, Form, Generation, Usage, Writer, characters_begun},
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
    prompts: Vec<(Prepared, String)>,
    listening: Listening,
    /// Answers to one prompt.
    of_a_prompt: usize,
    going_on: usize,
    /// What is to be told next.
    ready: VecDeque<New>,
    /// Of each prompt whose scores are wanted and have not come: what is told after them.
    behind_scores: Vec<Option<Vec<New>>>,
}

/// An answer as far as it was heard.
#[derive(Debug)]
pub(crate) struct Heard {
    pub choice: Choice,
    /// The characters that have begun in its tokens, and in what came before: what of a character has not
    /// come yet is no text so far.
    pub characters: usize,
    /// A chat's answer begins with the space that divides it from what was asked.
    has_space: bool,
}

/// What is new of an answer, and of which one.
#[derive(Debug, Clone)]
pub(crate) enum New {
    /// Its prompt comes back, which is all of it so far.
    Echoed(usize),
    Said(usize, Said),
    Ended(usize),
    /// Nothing is: all have ended.
    Nothing,
}

/// What a token adds to an answer.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub text: String,
    /// Characters before it.
    pub offset: usize,
    pub log_probability: Option<TokenLogProbability>,
}

impl Answers {
    /// Has a request's prompts answered.
    pub(crate) fn new(question: Question, place: Place, desk: Arc<Desk>) -> Self {
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
        let listening = desk.ask(place, &prompts, &generation);
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
        let behind_scores = generation.scores_prompts.then(Vec::new);
        let ready = match behind_scores {
            Some(_) => VecDeque::new(),
            None => {
                let echoed = choices.iter().map(|heard| &heard.choice);
                let echoed = echoed.filter(|choice| !choice.text.is_empty());
                echoed.map(|choice| New::Echoed(choice.index)).collect()
            }
        };
        Self {
            ready,
            behind_scores: vec![behind_scores; prompts.len()],
            usage,
            listening,
            of_a_prompt: generation.choices,
            going_on: choices.len() + usize::from(generation.scores_prompts) * prompts.len(),
            prompts,
            choices,
            writer,
        }
    }

    /// Where the request stands, and until when.
    pub(crate) fn place(&self) -> &Place {
        self.listening.place()
    }

    /// What is heard next.
    pub(crate) async fn next(&mut self) -> Result<New, ApiError> {
        loop {
            if let Some(new) = self.ready.pop_front() {
                return Ok(new);
            }
            if self.going_on == 0 {
                return Ok(New::Nothing);
            }
            let deadline = self.place().deadline;
            let told = timeout_at(deadline, self.listening.next()).await;
            let told = told.map_err(|_| ApiError::timed_out())?;
            let (at, told) = told.ok_or_else(ApiError::stopping)?;
            let new = match told {
                Told::Token(event) => {
                    self.usage.answer += 1;
                    New::Said(at, self.choices[at].hear(event, &self.writer.tokenizer))
                }
                Told::Finished(timings) => {
                    self.end(at, &timings);
                    New::Ended(at)
                }
                Told::Scored(scores) => {
                    self.echo(at, scores);
                    continue;
                }
                Told::Failed(error) => return Err(failed(&error)),
            };
            match &mut self.behind_scores[at / self.of_a_prompt] {
                Some(behind) => behind.push(new),
                None => return Ok(new),
            }
        }
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
            self.ready.push_back(New::Echoed(heard.choice.index));
        }
        let behind = self.behind_scores[at / self.of_a_prompt].take();
        self.ready.extend(behind.into_iter().flatten());
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
                New::Echoed(_) | New::Ended(_) => {}
                New::Nothing => break,
            }
        }
        let choices = self.choices.iter().map(|heard| heard.choice.clone());
        let choices: Vec<Choice> = choices.collect();
        Ok(self.writer.whole(&choices, self.usage))
    }
}

/// Why an answer could not go on.
fn failed(error: &Error) -> ApiError {
    match error {
        Error::TooLong { .. } | Error::CacheTooSmall { .. } => {
            ApiError::bad_request(error.to_string())
        }
        _ => ApiError::internal(error),
    }
}

impl Heard {
    fn hear(&mut self, event: Event, tokenizer: &Tokenizer) -> Said {
        self.choice.finish = event.finish;
        let mut text = event.text + &event.rest;
        if self.has_space && !text.is_empty() {
            text = text.trim_start().to_string();
            self.has_space = text.is_empty();
        }
        let offset = self.characters;
        if let Some(token) = &event.log_probability {
            self.characters += characters_begun(&tokenizer.token_bytes(token.id));
        }
        Said {
            text,
            offset,
            log_probability: event.log_probability,
        }
    }
}
