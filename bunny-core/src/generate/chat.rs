//! A conversation with a model.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use burn::tensor::{Tensor, backend::Backend};
use image::RgbImage;

use super::{
    FinishReason, GenerationOptions, Picture, Pipeline, Sampler, Session,
    read::{read, wait},
    stop::StopFilter,
};
use crate::{
    Error,
    input::{
        conversation::{Conversation, Message},
        tokenizer::{Encoded, Token},
    },
};

/// A conversation: its messages and pictures, and what the decoder has read of it.
#[derive(Debug)]
pub struct Chat<'a, B: Backend> {
    pipeline: &'a Pipeline<B>,
    conversation: Conversation,
    pictures: Vec<Picture<B>>,
    session: Session<B>,
}

/// An answer, and how it came to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The text, without the spaces around it.
    pub text: String,
    /// The tokens as they were chosen, the end of text included when the model said it.
    pub ids: Vec<u32>,
    /// The rendered conversation that was answered.
    pub prompt: String,
    /// Its tokens and picture slots.
    pub prompt_tokens: Vec<Token>,
    /// Why the answer ended.
    pub finish: FinishReason,
    /// Where the time went.
    pub timings: Timings,
}

/// Where the time of an answer went.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Timings {
    /// Tower and projector.
    pub vision: Duration,
    /// Reading the prompt, up to the first token's scores.
    pub prefill: Duration,
    /// Positions read in that time; what an earlier turn read is not among them.
    pub prefill_positions: usize,
    /// All tokens after the first.
    pub decode: Duration,
    /// Tokens chosen in that time.
    pub decode_tokens: usize,
}

impl<'a, B: Backend> Chat<'a, B> {
    pub(super) fn new(pipeline: &'a Pipeline<B>) -> Self {
        Self {
            pipeline,
            conversation: Conversation::new(pipeline.template),
            pictures: Vec::new(),
            session: Session::new(),
        }
    }

    /// Another conversation instead, as under another template or system text; what was said and
    /// shown before is forgotten. Its messages must hold no pictures: those are given with
    /// [`Chat::ask`].
    #[must_use]
    pub fn with_conversation(self, conversation: Conversation) -> Self {
        Self {
            conversation,
            ..Self::new(self.pipeline)
        }
    }

    /// The conversation so far.
    pub fn conversation(&self) -> &Conversation {
        &self.conversation
    }

    /// Forgets everything said and shown, and goes back to the model's own template.
    pub fn clear(&mut self) {
        *self = Self::new(self.pipeline);
    }

    /// Asks about the conversation so far and `pictures`, and gives the answer; `listen` hears its
    /// text as it comes, whole characters at a time, and may end it.
    ///
    /// Waits for the device at every token; in a browser, where nothing may wait, use
    /// [`Chat::ask_async`].
    ///
    /// # Errors
    /// When there is nothing to answer, pictures are missing, or the conversation no longer fits the
    /// model's positions; it is then as it was before.
    pub fn ask(
        &mut self,
        text: &str,
        pictures: &[RgbImage],
        options: &GenerationOptions,
        listen: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer, Error> {
        wait(self.ask_async(text, pictures, options, listen))
    }

    /// [`Chat::ask`] without blocking a thread while the device computes. Dropped before it has ended,
    /// it leaves the conversation as it was before.
    ///
    /// # Errors
    /// As [`Chat::ask`].
    pub async fn ask_async(
        &mut self,
        text: &str,
        pictures: &[RgbImage],
        options: &GenerationOptions,
        mut listen: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer, Error> {
        let message = pictures
            .iter()
            .fold(Message::user(text), |message, _| message.with_picture());
        // Both sides of a turn are kept at once, when there is an answer. Pictures beyond those of
        // the conversation were shown with a question that got none.
        let mut conversation = self.conversation.clone();
        self.pictures.truncate(conversation.pictures());
        conversation.push(message)?;
        let processor = &self.pipeline.image_processor;
        self.pictures.extend(
            pictures
                .iter()
                .map(|picture| Picture::new(processor.process(picture))),
        );
        let (slots, given) = (conversation.pictures(), self.pictures.len());
        if slots != given {
            return Err(Error::Pictures { slots, given });
        }
        let answer = self.answer(&conversation, options, &mut listen).await?;
        conversation.push(Message::assistant(&answer.text))?;
        self.conversation = conversation;
        Ok(answer)
    }

    async fn answer(
        &mut self,
        conversation: &Conversation,
        options: &GenerationOptions,
        listen: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer, Error> {
        let Pipeline {
            model,
            tokenizer,
            device,
            ..
        } = self.pipeline;
        let segments = conversation.segments(true);
        let Encoded { tokens, .. } = tokenizer.encode(&segments)?;
        let mut timings = Timings::default();

        let started = Instant::now();
        if !self.pictures.iter().all(Picture::is_encoded) {
            Picture::encode_all(&mut self.pictures, model, device);
            timings.vision = sync::<B>(device, started);
        }
        let started = Instant::now();
        let (mut logits, read) = self.session.prefill(
            model,
            &tokens,
            &mut self.pictures,
            options.max_new_tokens,
            device,
        )?;
        timings.prefill_positions = read;

        let end = self.pipeline.end_under(conversation.template());
        let mut chooser = Chooser::new(options, &tokens);
        let mut stream = tokenizer.stream();
        let mut filter = StopFilter::new(&options.stop);
        let mut text = String::new();
        let mut say = |new: &str| {
            text.push_str(new);
            if new.is_empty() {
                ControlFlow::Continue(())
            } else {
                listen(new)
            }
        };
        let mut decoding = started;
        let finish = loop {
            if chooser.chosen.len() == options.max_new_tokens {
                break FinishReason::Length;
            }
            let id = chooser.choose(logits).await;
            if chooser.chosen.len() == 1 {
                timings.prefill = started.elapsed();
                decoding = Instant::now();
            }
            if Some(id) == end {
                break FinishReason::EndOfText;
            }
            if say(&filter.push(&stream.push(id)?)).is_break() {
                break FinishReason::Interrupted;
            }
            if filter.stopped() {
                break FinishReason::Stop;
            }
            if chooser.chosen.len() == options.max_new_tokens {
                break FinishReason::Length;
            }
            logits = self.session.step(model, id);
        };
        if !filter.stopped() {
            let rest = filter.push(&stream.finish()?) + &filter.finish();
            if finish == FinishReason::Interrupted {
                // Who has broken off hears no more.
                text.push_str(&rest);
            } else {
                // The answer has ended either way.
                let _ = say(&rest);
            }
        }
        timings.decode = decoding.elapsed();
        timings.decode_tokens = chooser.chosen.len().saturating_sub(1);
        Ok(Answer {
            text: text.trim().to_string(),
            ids: chooser.chosen,
            prompt: conversation.render(true),
            prompt_tokens: tokens,
            finish,
            timings,
        })
    }
}

/// Chooses tokens, and remembers what was seen.
struct Chooser {
    sampler: Sampler,
    greedy: bool,
    seen: Vec<u32>,
    chosen: Vec<u32>,
}

impl Chooser {
    fn new(options: &GenerationOptions, prompt: &[Token]) -> Self {
        let seen = prompt.iter().map(|token| match token {
            Token::Text(id) => *id,
            // The reference has 0 in a picture's place when it looks for repetitions.
            Token::Picture(_) => 0,
        });
        Self {
            sampler: Sampler::new(options),
            greedy: options.is_plain_greedy(),
            seen: seen.collect(),
            chosen: Vec::new(),
        }
    }

    /// Chooses by scores `[1, vocab]`; the one place where a token leaves the device.
    async fn choose<B: Backend>(&mut self, logits: Tensor<B, 2>) -> u32 {
        let id = if self.greedy {
            let best = read(logits.argmax(1)).await;
            best.iter::<u32>()
                .next()
                .expect("a row has a highest score")
        } else {
            let mut logits: Vec<f32> = read(logits).await.iter::<f32>().collect();
            self.sampler.sample(&mut logits, &self.seen)
        };
        self.seen.push(id);
        self.chosen.push(id);
        id
    }
}

/// Waits for the device, and gives the time since `started`. A device that cannot wait has failed,
/// which the next read-back reports.
fn sync<B: Backend>(device: &B::Device, started: Instant) -> Duration {
    let _ = B::sync(device);
    started.elapsed()
}
