//! From sequences to responses: whole, or as a stream of events.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json,
    http::{HeaderName, HeaderValue, header},
    response::{
        IntoResponse, Response,
        sse::{Event as SseEvent, KeepAlive, Sse},
    },
};
use bunny_core::generate::{FinishReason, GenerationOptions, Timings};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout_at};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    desk::{Desk, Listening, Prepared},
    wire::{
        ApiError, Choice, Usage, chat_chunk, chat_completion, text_chunk, text_completion,
    },
    worker::Told,
};

/// A comment goes out so often while nothing else does.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// In which of the API's two forms answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Chat,
    Text,
}

/// A request's answers to be.
#[derive(Debug)]
pub(crate) struct Answers {
    pub desk: Arc<Desk>,
    pub form: Form,
    /// Each prompt with what comes back before its answer.
    pub prompts: Vec<(Prepared, String)>,
    pub options: GenerationOptions,
    /// Answers to each prompt.
    pub choices: usize,
    pub include_usage: bool,
    pub request_id: String,
}

/// An answer that is being heard.
struct Heard {
    choice: Choice,
    /// Bunny's answers begin with the space that divides them from what was asked.
    is_first: bool,
    characters: usize,
}

impl Answers {
    fn id(&self) -> String {
        match self.form {
            Form::Chat => format!("chatcmpl-{}", self.request_id),
            Form::Text => format!("cmpl-{}", self.request_id),
        }
    }

    /// Has all of them begun.
    fn ask(&self) -> Result<Vec<(Listening, Heard)>, ApiError> {
        let mut heard = Vec::with_capacity(self.prompts.len() * self.choices);
        for (prompt, before) in &self.prompts {
            for number in 0..self.choices {
                let mut options = self.options.clone();
                options.seed = options.seed.wrapping_add(number as u64);
                let listening = self.desk.ask(prompt.clone(), &options)?;
                let choice = Choice {
                    index: heard.len(),
                    text: before.clone(),
                    finish: None,
                    log_probabilities: options.log_probabilities.map(|_| Vec::new()),
                };
                let heard_one = Heard {
                    choice,
                    is_first: self.form == Form::Chat,
                    characters: before.chars().count(),
                };
                heard.push((listening, heard_one));
            }
        }
        Ok(heard)
    }

    fn usage(&self) -> Usage {
        let positions = self.prompts.iter().map(|(prompt, _)| self.desk.positions(prompt));
        positions.fold(Usage::default(), |usage, (all, pictures)| Usage {
            prompt: usage.prompt + all,
            pictures: usage.pictures + pictures,
            ..usage
        })
    }

    /// All answers in one body.
    pub(crate) async fn whole(self) -> Result<Response, ApiError> {
        let deadline = self.deadline();
        let mut usage = self.usage();
        let mut choices = Vec::new();
        for (mut listening, mut heard) in self.ask()? {
            loop {
                let told = timeout_at(deadline, listening.next()).await;
                match heard.hear(told.map_err(|_| ApiError::timed_out())?)? {
                    Step::Said(text) => {
                        usage.answer += 1;
                        heard.choice.text += &text.said;
                        if let Some(all) = &mut heard.choice.log_probabilities {
                            all.extend(text.log_probability);
                        }
                    }
                    Step::Ended(timings) => {
                        usage.cached += timings.known_positions;
                        break;
                    }
                }
            }
            choices.push(heard.choice);
        }
        let (id, created) = (self.id(), now());
        let write = match self.form {
            Form::Chat => chat_completion,
            Form::Text => text_completion,
        };
        let body = write(&id, created, &self.desk.name, &choices, usage, &self.desk.tokenizer);
        Ok(Json(body).into_response())
    }

    fn deadline(&self) -> tokio::time::Instant {
        tokio::time::Instant::now() + self.desk.limits.timeout
    }

    /// A stream of events, which ends when the client goes.
    pub(crate) fn stream(self) -> Result<Response, ApiError> {
        let answers = self.ask()?;
        let deadline = self.deadline();
        // Room for a few events a choice: who does not read is not written for, and the engine, which
        // writes into channels without bounds, does not notice.
        let (events, stream) = mpsc::channel::<Result<SseEvent, Infallible>>(16);
        let shared = Arc::new(self);
        let mut tasks = tokio::task::JoinSet::new();
        for (listening, heard) in answers {
            let one = Speaker { answers: shared.clone(), id: shared.id(), created: now(), events: events.clone() };
            tasks.spawn(async move { one.speak(listening, heard, deadline).await });
        }
        tokio::spawn(async move {
            let mut usage = shared.usage();
            let mut failed = None;
            while let Some(ended) = tasks.join_next().await {
                match ended {
                    Ok(Ok(Some((answer, cached)))) => {
                        usage.answer += answer;
                        usage.cached += cached;
                    }
                    // The client is gone: all of its answers go with this task.
                    Ok(Ok(None)) => return,
                    Ok(Err(error)) => failed = Some(error),
                    Err(error) => {
                        tracing::error!("{error}");
                        failed = Some(ApiError::internal());
                    }
                }
            }
            let mut last = Vec::new();
            match failed {
                // After an error no end is told.
                Some(error) => last.push(error.json().to_string()),
                None => {
                    if shared.include_usage {
                        let object = match shared.form {
                            Form::Chat => "chat.completion.chunk",
                            Form::Text => "text_completion",
                        };
                        let chunk = json!({
                            "id": shared.id(), "object": object, "created": now(), "model": shared.desk.name,
                            "choices": [], "usage": usage.json(),
                        });
                        last.push(chunk.to_string());
                    }
                    last.push("[DONE]".into());
                }
            }
            for data in last {
                if events.send(Ok(SseEvent::default().data(data))).await.is_err() {
                    return;
                }
            }
        });
        let sse = Sse::new(ReceiverStream::new(stream)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
        let headers = [
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
        ];
        Ok((headers, sse).into_response())
    }
}

/// Writes one answer's events.
struct Speaker {
    answers: Arc<Answers>,
    id: String,
    created: u64,
    events: mpsc::Sender<Result<SseEvent, Infallible>>,
}

impl Speaker {
    /// The tokens said and the positions known before; nothing when the client has gone.
    async fn speak(
        self,
        mut listening: Listening,
        mut heard: Heard,
        deadline: tokio::time::Instant,
    ) -> Result<Option<(usize, usize)>, ApiError> {
        let wants_tokens = heard.choice.log_probabilities.is_some();
        if self.answers.form == Form::Chat {
            heard.choice.log_probabilities = None;
            let role = json!({"role": "assistant", "content": ""});
            if !self.send(&heard, role, 0).await {
                return Ok(None);
            }
        }
        let mut tokens = 0;
        loop {
            let told = tokio::select! {
                told = timeout_at(deadline, listening.next()) => told.map_err(|_| ApiError::timed_out())?,
                () = self.events.closed() => return Ok(None),
            };
            match heard.hear(told)? {
                Step::Said(Said { said, log_probability }) => {
                    tokens += 1;
                    if said.is_empty() && !wants_tokens {
                        continue;
                    }
                    heard.choice.log_probabilities = wants_tokens.then(|| log_probability.into_iter().collect());
                    let offset = heard.characters;
                    heard.characters += said.chars().count();
                    heard.choice.text = said;
                    // The reason comes with a chunk of its own, the last one.
                    let finish = heard.choice.finish.take();
                    let delta = json!({"content": heard.choice.text});
                    if !self.send(&heard, delta, offset).await {
                        return Ok(None);
                    }
                    heard.choice.finish = finish;
                }
                Step::Ended(timings) => {
                    heard.choice.text.clear();
                    heard.choice.log_probabilities = None;
                    let offset = heard.characters;
                    let sent = self.send(&heard, json!({}), offset).await;
                    return Ok(sent.then_some((tokens, timings.known_positions)));
                }
            }
        }
    }

    /// Whether there is still somebody to send to.
    async fn send(&self, heard: &Heard, delta: Value, offset: usize) -> bool {
        let Answers { desk, form, include_usage, .. } = &*self.answers;
        let (id, created, model, tokenizer) = (&self.id, self.created, &desk.name, &desk.tokenizer);
        let mut chunk = match form {
            Form::Chat => chat_chunk(id, created, model, &heard.choice, delta, tokenizer),
            Form::Text => text_chunk(id, created, model, &heard.choice, offset, tokenizer),
        };
        if *include_usage {
            chunk["usage"] = Value::Null;
        }
        let event = SseEvent::default().data(chunk.to_string());
        self.events.send(Ok(event)).await.is_ok()
    }
}

/// What was heard.
enum Step {
    Said(Said),
    Ended(Timings),
}

struct Said {
    said: String,
    log_probability: Option<bunny_core::generate::TokenLogProbability>,
}

impl Heard {
    fn hear(&mut self, told: Told) -> Result<Step, ApiError> {
        match told {
            Told::Token(event) => {
                self.choice.finish = event.finish.or(self.choice.finish);
                let mut said = event.text + &event.rest;
                if self.is_first && !said.is_empty() {
                    said = said.trim_start().to_string();
                    self.is_first = said.is_empty();
                }
                Ok(Step::Said(Said { said, log_probability: event.log_probability }))
            }
            Told::Finished(timings) => {
                // One that had no room for a token has ended without one.
                self.choice.finish.get_or_insert(FinishReason::Length);
                Ok(Step::Ended(timings))
            }
            Told::Failed(error) => Err(ApiError::of_model(&error)),
            Told::Stopped => Err(ApiError::stopping()),
        }
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}
