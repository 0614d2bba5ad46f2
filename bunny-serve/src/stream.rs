//! Answers as a stream of events.
//!
//! A task listens and writes into a channel of a few events. Who goes away closes it, and the answers
//! are cancelled; who does not read leaves it full, until the request's time is over. The engine notices
//! neither: it writes into a channel without bounds.

use std::{convert::Infallible, time::Duration};

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use serde_json::Value;
use tokio::{
    sync::mpsc::{Sender, channel},
    time::{timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    answers::{Answers, New, Said},
    wire::{ApiError, Choice},
};

/// After such a silence a comment says that there is still somebody.
const SILENCE: Duration = Duration::from_secs(10);

/// Why a stream ends early.
enum Broken {
    /// Nobody reads it.
    Unheard,
    /// It ends with this error.
    Failed(ApiError),
}

impl From<ApiError> for Broken {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}

/// Begins a stream.
pub(crate) fn respond(answers: Answers) -> Response {
    let (events, stream) = channel(16);
    let speaker = Speaker { answers, events };
    tokio::spawn(speaker.run());
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    (headers, Sse::new(ReceiverStream::new(stream))).into_response()
}

struct Speaker {
    answers: Answers,
    events: Sender<Result<Event, Infallible>>,
}

impl Speaker {
    async fn run(mut self) {
        let last = match self.speak().await {
            Ok(()) => "[DONE]".to_string(),
            // After an error no end is told.
            Err(Broken::Failed(error)) => error.json().to_string(),
            Err(Broken::Unheard) => return,
        };
        // Nothing is left to do for who does not read it.
        drop(timeout(SILENCE, self.events.send(Ok(Event::default().data(last)))).await);
    }

    async fn speak(&mut self) -> Result<(), Broken> {
        for index in 0..self.answers.choices.len() {
            self.send(self.answers.writer.begin(index)).await?;
        }
        if let Some(before) = self.answers.place().behind {
            self.comment(format!("waits its turn, {before} before it"))
                .await?;
        }
        loop {
            let next = tokio::select! {
                next = timeout(SILENCE, self.answers.next()) => next,
                () = self.events.closed() => return Err(Broken::Unheard),
            };
            match next {
                Err(_) => self.comment("still here".into()).await?,
                Ok(new) => match new? {
                    New::Echoed(at) => {
                        let echo = &self.answers.choices[at].choice;
                        self.send(Some(self.answers.writer.piece(echo, 0))).await?;
                    }
                    New::Said(at, said) => self.say(at, said).await?,
                    New::Ended(at) => {
                        let finish = self.answers.choices[at].choice.finish;
                        self.send(Some(self.answers.writer.end(at, finish))).await?;
                    }
                    New::Nothing => break,
                },
            }
        }
        self.send(self.answers.writer.usage(self.answers.usage))
            .await
    }

    async fn say(&mut self, at: usize, said: Said) -> Result<(), Broken> {
        let Answers {
            choices, writer, ..
        } = &self.answers;
        let heard = &choices[at];
        let wants_tokens = heard.choice.log_probabilities.is_some();
        if said.text.is_empty() && !wants_tokens {
            return Ok(());
        }
        let piece = Choice {
            text: said.text,
            log_probabilities: wants_tokens.then(|| said.log_probability.into_iter().collect()),
            ..heard.choice
        };
        let chunk = writer.piece(&piece, said.offset);
        self.send(Some(chunk)).await
    }

    /// Says something that no client takes for a part of the answer.
    async fn comment(&self, text: String) -> Result<(), Broken> {
        self.put(Event::default().comment(text)).await
    }

    async fn send(&self, data: Option<Value>) -> Result<(), Broken> {
        match data {
            Some(data) => self.put(Event::default().data(data.to_string())).await,
            None => Ok(()),
        }
    }

    async fn put(&self, event: Event) -> Result<(), Broken> {
        let sent = timeout_at(self.answers.place().deadline, self.events.send(Ok(event))).await;
        match sent {
            Ok(Ok(())) => Ok(()),
            _ => Err(Broken::Unheard),
        }
    }
}
