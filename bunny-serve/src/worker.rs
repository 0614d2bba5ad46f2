//! The thread that owns the engine: takes sequences, steps, and tells what became of them.

use std::{
    collections::HashMap,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Instant,
};

use bunny_core::{
    Error,
    generate::{Engine, Event, Finished, Picture, Prompt, Sequence, SequenceId, Timings, Update},
    input::{image::Pixels, tokenizer::Token},
};
use burn::tensor::backend::Backend;
use tokio::sync::mpsc::UnboundedSender;

use crate::metrics::Metrics;

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Take a sequence.
    Answer(Box<Ask>),
    /// Nobody listens to it any more.
    Cancel(u64),
    /// End all that is under way, and the thread.
    Stop,
}

/// A sequence to be answered.
#[derive(Debug)]
pub(crate) struct Ask {
    /// Its number, given by whoever asks.
    pub number: u64,
    pub tokens: Vec<Token>,
    pub pictures: Vec<Pixels>,
    pub sequence: Sequence,
    pub asked: Instant,
    /// Unbounded, since an answer has an end: the engine never waits for a reader.
    pub listener: UnboundedSender<Told>,
}

/// What a listener is told.
#[derive(Debug)]
pub(crate) enum Told {
    /// It has begun: so many positions of its prompt were known.
    Token(Event),
    /// The answer has ended.
    Finished(Timings),
    /// It cannot be answered.
    Failed(Error),
    /// The server stops.
    Stopped,
}

/// A sequence under way.
struct Listener {
    number: u64,
    asked: Instant,
    last_token: Option<Instant>,
    to: UnboundedSender<Told>,
}

/// Starts the thread.
pub(crate) fn start<B: Backend>(
    engine: Engine<B>,
    metrics: Arc<Metrics>,
) -> std::io::Result<(mpsc::Sender<Command>, JoinHandle<()>)> {
    let (commands, inbox) = mpsc::channel();
    let worker = thread::Builder::new().name("engine".into());
    let worker = worker.spawn(move || Worker::new(engine, metrics).run(&inbox))?;
    Ok((commands, worker))
}

struct Worker<B: Backend> {
    engine: Engine<B>,
    metrics: Arc<Metrics>,
    listeners: HashMap<SequenceId, Listener>,
}

impl<B: Backend> Worker<B> {
    fn new(engine: Engine<B>, metrics: Arc<Metrics>) -> Self {
        Self {
            engine,
            metrics,
            listeners: HashMap::new(),
        }
    }

    fn run(mut self, inbox: &mpsc::Receiver<Command>) {
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
                    Command::Answer(ask) => self.admit(*ask),
                    Command::Cancel(number) => self.cancel(number),
                    Command::Stop => return self.stop(),
                }
                command = inbox.try_recv().ok();
            }
            for (id, update) in self.engine.step() {
                self.tell(id, update);
            }
            self.count();
        }
    }

    fn admit(&mut self, ask: Ask) {
        let Ask { number, tokens, pictures, sequence, asked, listener } = ask;
        let pictures = pictures.into_iter().map(Picture::new).collect();
        match self.engine.admit(Prompt { tokens, pictures }, sequence) {
            Ok(id) => {
                let listener = Listener { number, asked, last_token: None, to: listener };
                self.listeners.insert(id, listener);
            }
            // Who does not listen any more need not be told.
            Err(error) => drop(listener.send(Told::Failed(error))),
        }
        self.count();
    }

    fn cancel(&mut self, number: u64) {
        let listeners = self.listeners.iter();
        let id = listeners.filter(|(_, one)| one.number == number).map(|(id, _)| *id).next();
        if let Some(id) = id {
            self.listeners.remove(&id);
            if let Err(error) = self.engine.cancel(id) {
                tracing::error!("{error}");
            }
            self.metrics.ended("cancelled");
        }
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
                let reason = sequence.finish().map_or("length", |finish| finish.name());
                self.metrics.finished(reason, &timings, sequence.ids().len(), now - listener.asked);
                Told::Finished(timings)
            }
            Update::Failed(error) => {
                self.metrics.ended("error");
                Told::Failed(error)
            }
            _ => return,
        };
        let ends = !matches!(told, Told::Token(_));
        let is_gone = listener.to.send(told).is_err();
        if ends {
            self.listeners.remove(&id);
        } else if is_gone {
            let number = listener.number;
            self.cancel(number);
        }
    }

    fn count(&self) {
        self.metrics.queue(self.engine.running(), self.engine.waiting());
    }

    fn stop(mut self) {
        self.engine.cancel_all();
        for (_, listener) in self.listeners.drain() {
            drop(listener.to.send(Told::Stopped));
        }
        self.count();
    }
}
