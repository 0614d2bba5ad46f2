//! The desk: where requests become sequences for the engine, and what comes of them is heard.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    time::Instant,
};

use bunny_core::{
    generate::{GenerationOptions, Sequence},
    input::{
        conversation::{Conversation, Message, Template},
        image::{ImageProcessor, Pixels},
        tokenizer::{Token, Tokenizer},
    },
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::{
    Limits,
    metrics::Metrics,
    picture::{data_url, prepare},
    wire::{ApiError, ChatRequest, PromptText},
    worker::{Ask, Command, Told},
};

/// What all handlers share. It knows the model's words and pictures, and none of its numbers.
#[derive(Debug)]
pub(crate) struct Desk {
    pub name: String,
    pub tokenizer: Arc<Tokenizer>,
    pub metrics: Arc<Metrics>,
    pub limits: Limits,
    pub context: usize,
    /// Positions that a picture takes.
    pub picture_tokens: usize,
    template: Template,
    image_processor: ImageProcessor,
    /// The token that ends an answer.
    end: Option<u32>,
    commands: mpsc::Sender<Command>,
    numbers: AtomicU64,
    /// Sequences that have been asked and have not ended.
    open: AtomicUsize,
    stopping: AtomicBool,
}

/// What the desk must know of a model.
#[derive(Debug)]
pub(crate) struct Model {
    pub name: String,
    pub tokenizer: Arc<Tokenizer>,
    pub image_processor: ImageProcessor,
    pub template: Template,
    pub end: Option<u32>,
    pub context: usize,
    pub picture_tokens: usize,
}

/// A prompt that is ready for the engine.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub tokens: Vec<Token>,
    pub pictures: Vec<Pixels>,
}

/// A sequence that is listened to; dropped, it is cancelled.
#[derive(Debug)]
pub(crate) struct Listening {
    number: u64,
    desk: Arc<Desk>,
    from: UnboundedReceiver<Told>,
}

impl Desk {
    pub(crate) fn new(
        model: Model,
        limits: Limits,
        commands: mpsc::Sender<Command>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let Model { name, tokenizer, image_processor, template, end, context, picture_tokens } = model;
        Self {
            name,
            tokenizer,
            metrics,
            limits,
            context,
            picture_tokens,
            template,
            image_processor,
            end,
            commands,
            numbers: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
        }
    }

    /// Whether a request's `model` is served here: by its name, or by none.
    pub(crate) fn check_model(&self, model: Option<&str>) -> Result<(), ApiError> {
        match model {
            Some(name) if name != self.name => Err(ApiError::unknown_model(name)),
            _ => Ok(()),
        }
    }

    /// The prompt of a chat. Decodes pictures: not for a thread that others wait for.
    pub(crate) fn prepare_chat(&self, request: &ChatRequest) -> Result<Prepared, ApiError> {
        let mut conversation = Conversation::new(self.template);
        if let Some(system) = &request.system {
            conversation = conversation.with_system(system);
        }
        let count: usize = request.turns.iter().map(|turn| turn.pictures.len()).sum();
        if count > self.limits.pictures {
            return Err(ApiError::invalid(
                "messages",
                format!("{count} pictures are more than the {} that this server takes", self.limits.pictures),
            ));
        }
        let mut pictures = Vec::with_capacity(count);
        for turn in &request.turns {
            let message = match turn.by_assistant {
                true => Message::assistant(&turn.text),
                false => Message::user(&turn.text),
            };
            let message = turn.pictures.iter().fold(message, |message, _| message.with_picture());
            for address in &turn.pictures {
                let bytes = data_url(address, "messages")?;
                let pixels = prepare(&bytes, &self.image_processor, self.limits.pixels, "messages")?;
                pictures.push(pixels);
            }
            conversation
                .push(message)
                .map_err(|error| ApiError::invalid("messages", error.to_string()))?;
        }
        let encoded = self.tokenizer.encode(&conversation.segments(true));
        let tokens = encoded.map_err(|error| ApiError::of_model(&error.into()))?.tokens;
        Ok(Prepared { tokens, pictures })
    }

    /// The prompt of a text completion.
    pub(crate) fn prepare_text(&self, prompt: &PromptText) -> Result<Prepared, ApiError> {
        let tokens = match prompt {
            PromptText::Words(text) => {
                let tokens = self.tokenizer.encode_text(text);
                tokens.map_err(|error| ApiError::of_model(&error.into()))?
            }
            PromptText::Ids(ids) => {
                let rows = self.tokenizer.vocab_size();
                if let Some(id) = ids.iter().find(|id| **id as usize >= rows) {
                    return Err(ApiError::invalid("prompt", format!("{id} is no token of this model")));
                }
                ids.iter().map(|id| Token::Text(*id)).collect()
            }
        };
        Ok(Prepared { tokens, pictures: Vec::new() })
    }

    /// Positions of a prompt, its pictures' included, and those of its pictures.
    pub(crate) fn positions(&self, prompt: &Prepared) -> (usize, usize) {
        let pictures = prompt.tokens.iter().filter(|token| matches!(token, Token::Picture(_))).count();
        let of_pictures = pictures * self.picture_tokens;
        (prompt.tokens.len() - pictures + of_pictures, of_pictures)
    }

    /// Has a prompt answered.
    ///
    /// # Errors
    /// When too many wait, or the server stops.
    pub(crate) fn ask(
        self: &Arc<Self>,
        prompt: Prepared,
        options: &GenerationOptions,
    ) -> Result<Listening, ApiError> {
        if self.stopping.load(SeqCst) {
            return Err(ApiError::stopping());
        }
        let rows = self.tokenizer.vocab_size();
        if let Some((id, _)) = options.logit_bias.iter().find(|(id, _)| *id as usize >= rows) {
            return Err(ApiError::invalid("logit_bias", format!("{id} is no token of this model")));
        }
        let most = self.limits.slots + self.limits.queue;
        let is_free = |open: usize| (open < most).then_some(open + 1);
        if self.open.fetch_update(SeqCst, SeqCst, is_free).is_err() {
            self.metrics.rejected();
            return Err(ApiError::busy());
        }
        let (listener, from) = unbounded_channel();
        let number = self.numbers.fetch_add(1, SeqCst);
        let listening = Listening { number, desk: self.clone(), from };
        let Prepared { tokens, pictures } = prompt;
        let sequence = Sequence::new(&tokens, options, self.tokenizer.clone()).ending_with(self.end);
        let asked = Instant::now();
        let ask = Ask { number, tokens, pictures, sequence, asked, listener };
        match self.commands.send(Command::Answer(Box::new(ask))) {
            Ok(()) => Ok(listening),
            Err(_) => Err(ApiError::stopping()),
        }
    }

    /// Admits no more.
    pub(crate) fn close(&self) {
        self.stopping.store(true, SeqCst);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.stopping.load(SeqCst)
    }

    /// Sequences that have not ended.
    pub(crate) fn open(&self) -> usize {
        self.open.load(SeqCst)
    }

    /// Ends what is under way.
    pub(crate) fn stop(&self) {
        // A worker that is gone has stopped already.
        drop(self.commands.send(Command::Stop));
    }
}

impl Listening {
    /// What is told next.
    pub(crate) async fn next(&mut self) -> Told {
        // The worker says how each sequence ended; without it, all have.
        self.from.recv().await.unwrap_or(Told::Stopped)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.desk.open.fetch_sub(1, SeqCst);
        // One that has ended is known to nobody, and a worker that is gone needs no word.
        drop(self.desk.commands.send(Command::Cancel(self.number)));
    }
}
