//! A conversation with a model.

use std::ops::ControlFlow;

use burn::tensor::backend::Backend;
use image::RgbImage;

use super::{
    Engine, EngineOptions, Event, FinishReason, Finished, GenerationOptions, Picture, Pipeline,
    Prompt, Reuse, Sequence, Timings, TokenLogProbability, Update, read::wait,
};
use crate::{
    Error,
    input::{
        conversation::{Conversation, Message},
        tokenizer::{Encoded, Token},
    },
};

/// A conversation: its messages and pictures, and an engine of one slot, which keeps what was read.
#[derive(Debug)]
pub struct Chat<B: Backend> {
    pipeline: Pipeline<B>,
    conversation: Conversation,
    pictures: Vec<Picture<B>>,
    engine: Engine<B>,
    /// Tokens that are drafted at a time.
    draft: usize,
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
    /// How likely the model found each token, where that was asked for.
    pub log_probabilities: Vec<TokenLogProbability>,
    /// Where the time went.
    pub timings: Timings,
}

impl<B: Backend> Chat<B> {
    pub(super) fn new(pipeline: Pipeline<B>) -> Self {
        Self::drafting(pipeline, 0)
    }

    fn drafting(pipeline: Pipeline<B>, draft: usize) -> Self {
        let engine = pipeline.engine(EngineOptions {
            slots: 1,
            // There is nobody to hold up.
            chunk: usize::MAX,
            reuse: Reuse::Everything,
            draft,
            ..EngineOptions::default()
        });
        Self {
            conversation: Conversation::new(pipeline.template),
            pictures: Vec::new(),
            engine,
            draft,
            pipeline,
        }
    }

    /// The same with up to `most` tokens drafted at a time from what was said before: answers that repeat
    /// much of it come sooner, and in f32 on a CPU none changes. What was said before is forgotten.
    #[must_use]
    pub fn with_draft(self, most: usize) -> Self {
        Self {
            conversation: self.conversation,
            ..Self::drafting(self.pipeline, most)
        }
    }

    /// Another conversation instead, as under another template or system text; what was said and
    /// shown before is forgotten. Its messages must hold no pictures: those are given with
    /// [`Chat::ask`].
    #[must_use]
    pub fn with_conversation(self, conversation: Conversation) -> Self {
        Self {
            conversation,
            ..Self::drafting(self.pipeline, self.draft)
        }
    }

    /// The conversation so far.
    pub fn conversation(&self) -> &Conversation {
        &self.conversation
    }

    /// Forgets everything said and shown, and goes back to the model's own template.
    pub fn clear(&mut self) {
        self.conversation = Conversation::new(self.pipeline.template);
        self.pictures.clear();
        self.engine.clear();
    }

    /// Asks about the conversation so far and `pictures`, and gives the answer; `listen` hears its
    /// text as it comes, whole characters at a time and without spaces before it, and may end it.
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
        let Pipeline { tokenizer, .. } = &self.pipeline;
        let Encoded { tokens, .. } = tokenizer.encode(&conversation.segments(true))?;
        let ends = self.pipeline.ends_under(conversation.template());
        let sequence = Sequence::new(&tokens, options, tokenizer.clone()).ending_with(ends);
        let prompt = Prompt {
            tokens: tokens.clone(),
            pictures: self.pictures.clone(),
        };
        // Who dropped an answer before it had ended has left it here.
        self.engine.cancel_all();
        let id = self.engine.admit(prompt, sequence)?;
        let mut begun = false;
        let mut listen = |text: &str| {
            // An answer begins with the space behind `ASSISTANT:`, which people need not see.
            let text = if begun { text } else { text.trim_start() };
            begun |= !text.is_empty();
            match text {
                "" => ControlFlow::Continue(()),
                text => listen(text),
            }
        };
        let Finished { sequence, timings } = loop {
            let updates = self.engine.step_async().await;
            let mut has_broken_off = false;
            let mut ended = None;
            for (_, update) in updates {
                match update {
                    // A drafted token may come in the same step.
                    Update::Token(_) if has_broken_off => {}
                    Update::Token(event) => has_broken_off = says(event, &mut listen).is_break(),
                    Update::Finished(finished) => ended = Some(*finished),
                    Update::Failed(error) => return Err(error),
                    Update::Scored(_) => {}
                }
            }
            if has_broken_off && ended.is_none() {
                ended = self.engine.cancel(id)?;
            }
            if let Some(mut finished) = ended {
                if has_broken_off {
                    finished.sequence.interrupt()?;
                }
                break finished;
            }
        };
        Ok(Answer {
            text: sequence.text().trim().to_string(),
            ids: sequence.ids().to_vec(),
            prompt: conversation.render(true),
            prompt_tokens: tokens,
            finish: sequence.finish().unwrap_or(FinishReason::Length),
            log_probabilities: sequence.log_probabilities().to_vec(),
            timings,
        })
    }
}

/// Lets `listen` hear what a token says. Who breaks off hears no more; an answer that has ended by
/// itself has ended either way.
fn says(event: Event, listen: &mut dyn FnMut(&str) -> ControlFlow<()>) -> ControlFlow<()> {
    let Event {
        text, rest, finish, ..
    } = event;
    if !text.is_empty() && listen(&text).is_break() && finish != Some(FinishReason::EndOfText) {
        return ControlFlow::Break(());
    }
    if !rest.is_empty() {
        let _ = listen(&rest);
    }
    ControlFlow::Continue(())
}
