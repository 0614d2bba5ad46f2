//! The thread that owns the engine: takes sequences, steps, and tells what became of them.

use std::{
    collections::HashMap,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Instant,
};

use bunny_core::{
    Error,
    generate::{
        Engine, Event, Finished, Picture, Prompt, Sequence, SequenceId, Timings, TokenScore, Update,
    },
    input::{image::Pixels, tokenizer::Token},
};
use burn::tensor::backend::Backend;
use tokio::sync::{mpsc::UnboundedSender, oneshot};

use crate::metrics::Metrics;

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Take a sequence.
    Answer(Ask),
    /// Nobody listens to this request any more.
    Cancel(u64),
    /// End all that is under way, and the thread.
    Stop,
}

/// A sequence to be answered.
#[derive(Debug)]
pub(crate) struct Ask {
    /// The number of the request that it belongs to.
    pub request: u64,
    /// Which of the request's answers it is.
    pub choice: usize,
    pub tokens: Vec<Token>,
    pub pictures: Vec<Arc<Pixels>>,
    pub wanted: Wanted,
    pub asked: Instant,
    /// Unbounded, since an answer has an end: the engine never waits for a reader.
    pub listener: UnboundedSender<(usize, Told)>,
}

/// What is wanted of a prompt.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// Its answer.
    Answer(Box<Sequence>),
    /// How likely each of its own tokens is, and so many of the likeliest in its place.
    Scores(usize),
}

/// What a listener is told of an answer.
#[derive(Debug)]
pub(crate) enum Told {
    /// It has one more token.
    Token(Event),
    /// It has ended.
    Finished(Timings),
    /// The tokens of its prompt are scored, from the second on.
    Scored(Vec<TokenScore>),
    /// It cannot go on, and has ended.
    Failed(Error),
}

/// The thread, seen from outside.
#[derive(Debug)]
pub(crate) struct Worker {
    pub commands: mpsc::Sender<Command>,
    pub thread: JoinHandle<()>,
    /// Resolves when the thread is gone, in whatever way.
    pub gone: oneshot::Receiver<()>,
}

/// Starts the thread.
pub(crate) fn start<B: Backend>(
    engine: Engine<B>,
    metrics: Arc<Metrics>,
) -> std::io::Result<Worker> {
    let (commands, inbox) = mpsc::channel();
    let (alive, gone) = oneshot::channel();
    let at_work = AtWork {
        engine,
        metrics,
        listeners: HashMap::new(),
        _alive: alive,
    };
    let thread = thread::Builder::new().name("engine".into());
    let thread = thread.spawn(move || at_work.run(&inbox))?;
    Ok(Worker {
        commands,
        thread,
        gone,
    })
}

/// Who listens to a sequence.
struct Listener {
    request: u64,
    choice: usize,
    asked: Instant,
    last_token: Option<Instant>,
    to: UnboundedSender<(usize, Told)>,
}

struct AtWork<B: Backend> {
    engine: Engine<B>,
    metrics: Arc<Metrics>,
    listeners: HashMap<SequenceId, Listener>,
    _alive: oneshot::Sender<()>,
}

impl<B: Backend> AtWork<B> {
    fn run(mut self, inbox: &mpsc::Receiver<Command>) {
        self.count();
        loop {
            // With nothing to do it waits; between steps it only looks.
            let mut command = match self.engine.is_idle() {
                true => match inbox.recv() {
                    Ok(command) => Some(command),
                    Err(mpsc::RecvError) => return,
                },
                false => inbox.try_recv().ok(),
            };
            while let Some(next) = command {
                match next {
                    Command::Answer(ask) => self.admit(ask),
                    Command::Cancel(request) => self.cancel(request),
                    // Listeners hear of it by their channels, which are closed.
                    Command::Stop => return,
                }
                command = inbox.try_recv().ok();
            }
            let updates = self.step();
            // Counted first: whoever has the end of an answer finds it gone from the gauges.
            self.count();
            for (id, update) in updates {
                self.tell(id, update);
            }
        }
    }

    fn step(&mut self) -> Vec<(SequenceId, Update)> {
        let before = self.engine.prompt_positions_read();
        let updates = self.engine.step();
        let read = self.engine.prompt_positions_read() - before;
        let is_token = |(_, update): &&(SequenceId, Update)| matches!(update, Update::Token(_));
        let chosen = updates.iter().filter(is_token).count();
        // One in which sequences end of which nothing was wanted has none.
        let tokens = read as usize + chosen;
        if tokens > 0 {
            self.metrics.step(tokens);
        }
        updates
    }

    fn admit(&mut self, ask: Ask) {
        let pictures = ask.pictures.into_iter().map(Picture::new).collect();
        let prompt = Prompt {
            tokens: ask.tokens,
            pictures,
        };
        let admitted = match ask.wanted {
            Wanted::Answer(sequence) => self.engine.admit(prompt, *sequence),
            Wanted::Scores(alternatives) => {
                // Nothing foretells the first one.
                let places = Vec::from_iter(1..prompt.tokens.len());
                self.engine.admit_scoring(prompt, &places, alternatives)
            }
        };
        match admitted {
            Ok(id) => {
                let listener = Listener {
                    request: ask.request,
                    choice: ask.choice,
                    asked: ask.asked,
                    last_token: None,
                    to: ask.listener,
                };
                self.listeners.insert(id, listener);
            }
            // Who does not listen any more need not be told.
            Err(error) => drop(ask.listener.send((ask.choice, Told::Failed(error)))),
        }
    }

    fn cancel(&mut self, request: u64) {
        let of_it = |_: &SequenceId, listener: &mut Listener| listener.request == request;
        let ids: Vec<SequenceId> = self.listeners.extract_if(of_it).map(|(id, _)| id).collect();
        for id in ids {
            if let Err(error) = self.engine.cancel(id) {
                tracing::error!("{error}");
            }
            self.metrics.ended("abort");
        }
        self.count();
    }

    fn tell(&mut self, id: SequenceId, update: Update) {
        let Some(listener) = self.listeners.get_mut(&id) else {
            return;
        };
        let now = Instant::now();
        let told = match update {
            Update::Token(event) => {
                match listener.last_token.replace(now) {
                    None => self.metrics.first_token(now - listener.asked),
                    Some(last) => self.metrics.next_token(now - last),
                }
                Told::Token(event)
            }
            Update::Finished(finished) => {
                let Finished { sequence, timings } = *finished;
                self.metrics
                    .finished(&sequence, &timings, now - listener.asked);
                Told::Finished(timings)
            }
            Update::Scored(scores) => Told::Scored(scores),
            Update::Failed(error) => {
                self.metrics.ended("error");
                Told::Failed(error)
            }
            _ => return,
        };
        let has_ended = !matches!(told, Told::Token(_));
        // Whoever listens no more has sent word of it.
        drop(listener.to.send((listener.choice, told)));
        if has_ended {
            self.listeners.remove(&id);
        }
    }

    fn count(&self) {
        let (running, waiting) = (self.engine.running(), self.engine.waiting());
        self.metrics.queue(running, waiting);
        self.metrics.cache(self.engine.cache_use());
        self.metrics.pictures(self.engine.picture_use());
    }
}

impl<B: Backend> Drop for AtWork<B> {
    fn drop(&mut self) {
        self.metrics.queue(0, 0);
    }
}
