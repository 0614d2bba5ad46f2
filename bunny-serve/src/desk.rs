//! The desk: where requests become sequences for the engine, and what comes of them is heard.
//!
//! A request takes its place first, with the time that it may take; then its words and pictures are prepared.

mod place;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Instant,
};

use bunny_core::{
    generate::Sequence,
    input::{
        conversation::{Conversation, Message, Segment, Template},
        image::{ImageProcessor, Pixels},
        tokenizer::{Encoded, Token, Tokenizer},
    },
};
use tokio::sync::{
    Semaphore,
    mpsc::{UnboundedReceiver, unbounded_channel},
    watch,
};

use crate::{
    ServerOptions,
    clock::now,
    fetch::Fetcher,
    metrics::Metrics,
    off_thread::off_thread_of,
    picture::{bytes, is_remote, prepare},
    wire::{ApiError, ChatRequest, Generation, PromptText},
    worker::{Ask, Command, Told, Wanted},
};

pub(crate) use place::Place;

/// Pictures that are fetched at a time: they take no processor, and may take long.
const FETCHES: usize = 64;

/// What all handlers share. It knows the model's words and pictures, and none of its numbers.
#[derive(Debug)]
pub(crate) struct Desk {
    pub model: Model,
    pub options: ServerOptions,
    pub metrics: Arc<Metrics>,
    /// In seconds since 1970.
    pub started: u64,
    /// Where hosts are allowed.
    fetcher: Option<Fetcher>,
    fetches: Arc<Semaphore>,
    /// As many bodies are read and pictures decoded at a time as there are processors.
    decoders: Arc<Semaphore>,
    commands: mpsc::Sender<Command>,
    requests: AtomicU64,
    /// Sequences that were asked for and have not ended.
    open: AtomicUsize,
    is_closing: watch::Sender<bool>,
}

/// What the desk must know of a model.
#[derive(Debug)]
pub(crate) struct Model {
    pub tokenizer: Arc<Tokenizer>,
    pub image_processor: ImageProcessor,
    pub template: Template,
    /// The tokens that end an answer.
    pub ends: Vec<u32>,
    /// Positions of a prompt and its answer.
    pub context: usize,
    /// Positions that a picture takes.
    pub picture_tokens: usize,
    /// Bytes of text that a position holds at most.
    pub longest_token: usize,
}

/// A prompt that is ready for the engine.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub tokens: Vec<Token>,
    pub pictures: Vec<Arc<Pixels>>,
}

/// A request's sequences, listened to; dropped, they are cancelled.
#[derive(Debug)]
pub(crate) struct Listening {
    request: u64,
    desk: Arc<Desk>,
    place: Place,
    from: UnboundedReceiver<(usize, Told)>,
}

impl Desk {
    pub(crate) fn new(
        model: Model,
        options: ServerOptions,
        commands: mpsc::Sender<Command>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let hosts = &options.allow_hosts;
        let fetcher = (!hosts.is_empty()).then(|| Fetcher::new(hosts, options.max_body as u64));
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self {
            model,
            fetcher,
            fetches: Arc::new(Semaphore::new(FETCHES)),
            decoders: Arc::new(Semaphore::new(processors)),
            options,
            metrics,
            started: now(),
            commands,
            requests: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            is_closing: watch::Sender::new(false),
        }
    }

    /// What clients are told that the model is called.
    pub(crate) fn name(&self) -> &str {
        self.options.names.first().map_or("", String::as_str)
    }

    /// Refuses a request for another model; one that names none is for this one.
    pub(crate) fn check_model(&self, model: Option<&str>) -> Result<(), ApiError> {
        match model {
            Some(name) if !self.options.names.iter().any(|ours| ours == name) => {
                Err(ApiError::unknown_model(self.name()))
            }
            _ => Ok(()),
        }
    }

    /// Reads a request's body on a thread that nobody waits for.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        off_thread_of(&self.decoders, read).await?
    }

    /// The tokens of a chat.
    pub(crate) fn chat_tokens(&self, request: &ChatRequest) -> Result<Vec<Token>, ApiError> {
        const PARAM: &str = "messages";
        let count: usize = request.turns.iter().map(|turn| turn.pictures.len()).sum();
        let most = self.options.max_pictures;
        if count > most {
            let message =
                format!("{count} pictures are more than the {most} that this server takes");
            return Err(ApiError::invalid(PARAM, message));
        }
        let texts = request.turns.iter().map(|turn| &turn.text);
        let bytes: usize = texts.chain(&request.system).map(String::len).sum();
        self.check_text(request.turns.len(), bytes, PARAM)?;
        let mut conversation = Conversation::new(self.model.template);
        if let Some(system) = &request.system {
            conversation = conversation.with_system(system);
        }
        for turn in &request.turns {
            let message = match turn.by_assistant {
                true => Message::assistant(&turn.text),
                false => Message::user(&turn.text),
            };
            let message = turn
                .pictures
                .iter()
                .fold(message, |message, _| message.with_picture());
            conversation
                .push(message)
                .map_err(|error| ApiError::invalid(PARAM, error.to_string()))?;
        }
        let tokens = self.tokens(&conversation.segments(true))?;
        self.check_length(&tokens, &request.generation, PARAM)?;
        Ok(tokens)
    }

    /// A chat's pictures, one after another: when nobody waits for them any more, at most one is still on
    /// its way.
    pub(crate) async fn pictures(
        self: &Arc<Self>,
        addresses: Vec<String>,
    ) -> Result<Vec<Arc<Pixels>>, ApiError> {
        let wrong = |message| ApiError::invalid("messages", message);
        let mut pictures = Vec::with_capacity(addresses.len());
        for address in addresses {
            let of = match self.fetcher.is_some() && is_remote(&address) {
                true => &self.fetches,
                false => &self.decoders,
            };
            let desk = self.clone();
            let bytes = off_thread_of(of, move || bytes(&address, desk.fetcher.as_ref())).await?;
            let (bytes, desk) = (bytes.map_err(wrong)?, self.clone());
            let pixels = off_thread_of(&self.decoders, move || {
                let most = desk.options.max_pixels;
                prepare(&bytes, &desk.model.image_processor, most)
            });
            pictures.push(Arc::new(pixels.await?.map_err(wrong)?));
        }
        Ok(pictures)
    }

    /// The prompt of a text completion.
    pub(crate) fn prepare_text(
        &self,
        prompt: &PromptText,
        generation: &Generation,
    ) -> Result<Prepared, ApiError> {
        const PARAM: &str = "prompt";
        let tokens = match prompt {
            PromptText::Words(text) => {
                self.check_text(1, text.len(), PARAM)?;
                self.tokens(&[Segment::Prompt(text)])?
            }
            PromptText::Ids(ids) => {
                self.check_ids(ids.iter().copied(), PARAM)?;
                ids.iter().map(|id| Token::Text(*id)).collect()
            }
        };
        if tokens.is_empty() {
            return Err(ApiError::invalid(PARAM, "`prompt` has no token"));
        }
        self.check_length(&tokens, generation, PARAM)?;
        Ok(Prepared {
            tokens,
            pictures: Vec::new(),
        })
    }

    fn tokens(&self, segments: &[Segment<'_>]) -> Result<Vec<Token>, ApiError> {
        let encoded = self.model.tokenizer.encode(segments);
        let Encoded { tokens, .. } = encoded.map_err(|error| ApiError::internal(&error))?;
        Ok(tokens)
    }

    /// Refuses ids that are no token's.
    fn check_ids(&self, ids: impl IntoIterator<Item = u32>, param: &str) -> Result<(), ApiError> {
        let rows = self.model.tokenizer.vocab_size();
        match ids.into_iter().find(|id| *id as usize >= rows) {
            Some(id) => {
                let message = format!("{id} is no token of this model, which has {rows}");
                Err(ApiError::invalid(param, message))
            }
            None => Ok(()),
        }
    }

    /// Refuses turns whose text is too long whatever its tokens are: to find them takes time and memory.
    fn check_text(&self, turns: usize, bytes: usize, param: &str) -> Result<(), ApiError> {
        let context = self.model.context;
        let least = turns.max(bytes / self.model.longest_token);
        match least > context {
            true => Err(ApiError::too_long(
                param,
                format!("{least} or more"),
                context,
            )),
            false => Ok(()),
        }
    }

    /// Refuses a prompt that leaves no room for what is asked for.
    fn check_length(
        &self,
        tokens: &[Token],
        generation: &Generation,
        param: &str,
    ) -> Result<(), ApiError> {
        let (positions, _) = self.positions(tokens);
        let least = generation.options.max_new_tokens.min(1);
        let context = self.model.context;
        match positions + least > context {
            true => Err(ApiError::too_long(param, positions, context)),
            false => Ok(()),
        }
    }

    /// Positions of a prompt, its pictures' included, and those of its pictures.
    pub(crate) fn positions(&self, tokens: &[Token]) -> (usize, usize) {
        let is_picture = |token: &&Token| matches!(token, Token::Picture(_));
        let pictures = tokens.iter().filter(is_picture).count();
        let of_pictures = pictures * self.model.picture_tokens;
        (tokens.len() - pictures + of_pictures, of_pictures)
    }

    /// Gives a request of so many prompts its place among the sequences that run and wait.
    ///
    /// # Errors
    /// When it could never have one, too many wait, or the server stops.
    pub(crate) fn admit(
        self: &Arc<Self>,
        prompts: usize,
        generation: &Generation,
    ) -> Result<Place, ApiError> {
        if self.is_closing() {
            return Err(ApiError::stopping());
        }
        let biased = generation.options.logit_bias.iter().map(|(id, _)| *id);
        self.check_ids(biased, "logit_bias")?;
        let sequences = prompts * generation.choices;
        let most = self.places();
        if sequences > most {
            let param = if prompts > 1 { "prompt" } else { "n" };
            let message = format!(
                "{sequences} answers are more than the {most} that this server has a place for"
            );
            return Err(ApiError::invalid(param, message));
        }
        Place::take(self, sequences).ok_or_else(|| {
            self.metrics.rejected();
            ApiError::busy()
        })
    }

    /// Sequences that have a place at a time, those that run and those that wait.
    fn places(&self) -> usize {
        self.options.slots.saturating_add(self.options.queue)
    }

    /// Has prompts answered, each as often as `generation` says: the answers to the first come first.
    pub(crate) fn ask(
        self: &Arc<Self>,
        place: Place,
        prompts: &[(Prepared, String)],
        generation: &Generation,
    ) -> Listening {
        let (listener, from) = unbounded_channel();
        let listening = Listening {
            request: self.requests.fetch_add(1, SeqCst),
            desk: self.clone(),
            place,
            from,
        };
        for (number, (prompt, _)) in prompts.iter().enumerate() {
            let ask = |choice: usize, wanted: Wanted| {
                let ask = Ask {
                    request: listening.request,
                    choice: number * generation.choices + choice,
                    tokens: prompt.tokens.clone(),
                    pictures: prompt.pictures.clone(),
                    wanted,
                    asked: Instant::now(),
                    listener: listener.clone(),
                };
                // A worker that is gone closes the channel, which the listener hears.
                drop(self.commands.send(Command::Answer(ask)));
            };
            if generation.scores_prompts {
                let alternatives = generation.options.log_probabilities.unwrap_or(0);
                ask(0, Wanted::Scores(alternatives));
            }
            for choice in 0..generation.choices {
                let sequence = self.sequence(prompt, generation, choice);
                ask(choice, Wanted::Answer(Box::new(sequence)));
            }
        }
        listening
    }

    /// The answer to be of a prompt, one of several that differ by their draws.
    fn sequence(&self, prompt: &Prepared, generation: &Generation, choice: usize) -> Sequence {
        let mut options = generation.options.clone();
        options.seed = options.seed.wrapping_add(choice as u64);
        let own_ends: &[u32] = match generation.ignore_eos {
            true => &[],
            false => &self.model.ends,
        };
        Sequence::new(&prompt.tokens, &options, self.model.tokenizer.clone())
            .ending_with(own_ends.iter().copied())
            .ending_with(generation.ends.iter().copied())
    }

    /// Admits no more.
    pub(crate) fn close(&self) {
        self.is_closing.send_replace(true);
    }

    pub(crate) fn is_closing(&self) -> bool {
        *self.is_closing.borrow()
    }

    /// Changes when no more is admitted.
    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.is_closing.subscribe()
    }

    /// Waits until no more is admitted.
    pub(crate) async fn closed(&self) {
        let mut closing = self.closing();
        if !self.is_closing() {
            drop(closing.changed().await);
        }
    }

    /// Ends what is under way.
    pub(crate) fn stop(&self) {
        // A worker that is gone has stopped already.
        drop(self.commands.send(Command::Stop));
    }
}

impl Listening {
    /// Where it stands.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// What is told next, and of which answer; nothing when the engine has stopped.
    pub(crate) async fn next(&mut self) -> Option<(usize, Told)> {
        self.from.recv().await
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // One that has ended is known to nobody, and a worker that is gone needs no word.
        drop(self.desk.commands.send(Command::Cancel(self.request)));
    }
}
