//! Conversations, and the templates that render them as the text a Bunny was trained on.
//!
//! A [`Conversation`] becomes a list of [`Segment`]s: words that are read, words that are to be
//! said, the end-of-text after each answer, and the places of pictures. Segments borrow; joining
//! and tokenising them is the work of [`Tokenizer::encode`](crate::input::tokenizer::Tokenizer::encode).
//! What a person typed stays text: neither `<image>` nor `<|endoftext|>` inside a message means
//! anything.

mod error;
mod template;

use std::fmt;

pub use error::ConversationError;
pub use template::Template;

/// How a picture's place is written where a prompt is shown as text, and in datasets.
pub const IMAGE_PLACEHOLDER: &str = "<image>";

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::User => "user",
            Role::Assistant => "assistant",
        })
    }
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Part {
    /// Words.
    Text(String),
    /// The place of a picture; pictures are taken in reading order.
    Picture,
}

/// What one side says in one turn.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// Words and pictures, in order.
    pub parts: Vec<Part>,
}

impl Message {
    /// Words of the person; all of it is text, `<image>` included.
    pub fn user(text: impl Into<String>) -> Self {
        Self::of(Role::User, text.into())
    }

    /// Words of the model, without the end of text.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::of(Role::Assistant, text.into())
    }

    fn of(role: Role, text: String) -> Self {
        let parts = if text.is_empty() {
            Vec::new()
        } else {
            vec![Part::Text(text)]
        };
        Self { role, parts }
    }

    /// Puts a picture before what is there, on a line of its own: `<image>\n…`.
    #[must_use]
    pub fn with_picture(mut self) -> Self {
        if !self.parts.is_empty() {
            self.parts.insert(0, Part::Text("\n".to_owned()));
        }
        self.parts.insert(0, Part::Picture);
        self
    }

    /// A sentence of a record that has a picture: wherever `<image>` stands in it, and however
    /// often, one picture goes first, on a line of its own; a sentence without it is left alone.
    pub fn from_sentence(role: Role, sentence: &str) -> Self {
        if !sentence.contains(IMAGE_PLACEHOLDER) {
            return Self::of(role, sentence.to_owned());
        }
        let text = sentence.replace(IMAGE_PLACEHOLDER, "");
        Self::of(role, text.trim_matches(is_python_space).to_owned()).with_picture()
    }

    /// Whether there is nothing in it; the templates then write the role alone.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// How many pictures it holds.
    pub fn pictures(&self) -> usize {
        self.parts
            .iter()
            .filter(|part| matches!(part, Part::Picture))
            .count()
    }
}

/// What Python's `str.strip` takes away: the reference's datasets went through it.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// A piece of a rendered conversation.
///
/// Neighbouring words are one text to the tokenizer, since its merges cross the borders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Segment<'a> {
    /// Words the model reads: the template's and the person's.
    Prompt(&'a str),
    /// Words the model says, and learns to say.
    Answer(&'a str),
    /// The template's end of text: one special token, said and learnt after an answer.
    EndOfText(&'static str),
    /// The place of the next picture.
    Picture,
}

/// Messages in turn, and the template that renders them.
///
/// ```
/// # use bunny_core::input::conversation::{Conversation, Message, Template};
/// let mut chat = Conversation::new(Template::Bunny);
/// chat.push(Message::user("What is this?").with_picture())?;
/// assert!(chat.render(true).ends_with(" USER: <image>\nWhat is this? ASSISTANT:"));
/// # Ok::<(), bunny_core::input::conversation::ConversationError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    template: Template,
    system: String,
    messages: Vec<Message>,
}

impl Conversation {
    /// An empty conversation under the template's own system text.
    pub fn new(template: Template) -> Self {
        Self {
            template,
            system: template.system().to_owned(),
            messages: Vec::new(),
        }
    }

    /// Another system text, instead of the one that the models were trained with.
    #[must_use]
    pub fn with_system(mut self, system: impl Into<String>) -> Self {
        self.system = system.into();
        self
    }

    /// A record's sentences, as `("human" | "gpt", text)`, as training reads them.
    ///
    /// A first sentence of the `"system"` stands in the place of the template's own; after it, a first
    /// sentence that is not the human's is dropped. `has_picture` says whether the record
    /// names a picture; without one, `<image>` is text like any other.
    ///
    /// # Errors
    /// An unknown speaker; speakers that do not alternate; under [`Template::Plain`] anything
    /// but a sentence with `<image>` and one answer.
    pub fn from_record<'s>(
        template: Template,
        sentences: impl IntoIterator<Item = (&'s str, &'s str)>,
        has_picture: bool,
    ) -> Result<Self, ConversationError> {
        let mut conversation = Self::new(template);
        let mut first = 0;
        for (index, (from, value)) in sentences.into_iter().enumerate() {
            let role = match from {
                "human" => Role::User,
                "gpt" => Role::Assistant,
                "system" if index == 0 => {
                    conversation = conversation.with_system(value);
                    first = 1;
                    continue;
                }
                _ => {
                    return Err(ConversationError::UnknownSpeaker {
                        from: from.to_owned(),
                        index,
                    });
                }
            };
            if index == first && role == Role::Assistant {
                continue;
            }
            conversation.push(if has_picture {
                Message::from_sentence(role, value)
            } else {
                Message::of(role, value.to_owned())
            })?;
        }
        if template == Template::Plain {
            conversation.check_caption()?;
        }
        Ok(conversation)
    }

    fn check_caption(&self) -> Result<(), ConversationError> {
        match self.messages.as_slice() {
            [question, caption] if question.pictures() == 1 && caption.pictures() == 0 => Ok(()),
            sentences => Err(ConversationError::NotACaption {
                sentences: sentences.len(),
                pictures: sentences
                    .iter()
                    .filter(|message| message.pictures() > 0)
                    .count(),
            }),
        }
    }

    /// Adds the next message.
    ///
    /// # Errors
    /// If it is not this role's turn.
    pub fn push(&mut self, message: Message) -> Result<(), ConversationError> {
        let turn = if self.messages.len().is_multiple_of(2) {
            Role::User
        } else {
            Role::Assistant
        };
        if message.role != turn {
            return Err(ConversationError::OutOfTurn {
                role: message.role,
                index: self.messages.len(),
            });
        }
        self.messages.push(message);
        Ok(())
    }

    /// Takes the last message back.
    pub fn pop(&mut self) -> Option<Message> {
        self.messages.pop()
    }

    /// The template.
    pub fn template(&self) -> Template {
        self.template
    }

    /// The messages so far, the user's first.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// How many pictures the conversation holds.
    pub fn pictures(&self) -> usize {
        self.messages.iter().map(Message::pictures).sum()
    }

    /// The rendered pieces. With `for_generation` the text ends where the model goes on: after
    /// ` ASSISTANT:`, with no space behind it, or inside a last message of the assistant.
    pub fn segments(&self, for_generation: bool) -> Vec<Segment<'_>> {
        let mut segments = match self.template {
            Template::Plain => self.caption_segments(),
            _ => self.chat_segments(for_generation),
        };
        if for_generation
            && self
                .messages
                .last()
                .is_some_and(|last| last.role == Role::Assistant)
        {
            segments.pop_if(|last| matches!(last, Segment::EndOfText(_) | Segment::Answer("\n")));
        }
        segments
    }

    fn chat_segments(&self, for_generation: bool) -> Vec<Segment<'_>> {
        let mut segments = Vec::with_capacity(5 * self.messages.len() + 3);
        if !self.system.is_empty() {
            segments.extend([Segment::Prompt(&self.system), Segment::Prompt(" ")]);
        }
        for message in &self.messages {
            let words = match message.role {
                Role::User => Segment::Prompt,
                Role::Assistant => Segment::Answer,
            };
            segments.push(Segment::Prompt(match message.role {
                Role::User => "USER:",
                Role::Assistant => "ASSISTANT:",
            }));
            if message.is_empty() {
                continue;
            }
            segments.push(words(" "));
            segments.extend(message.parts.iter().map(|part| match part {
                Part::Text(text) => words(text),
                Part::Picture => Segment::Picture,
            }));
            segments.push(match (message.role, self.template.end_of_text()) {
                (Role::Assistant, Some(end)) => Segment::EndOfText(end),
                _ => words(" "),
            });
        }
        if for_generation
            && self
                .messages
                .last()
                .is_none_or(|last| last.role == Role::User)
        {
            segments.push(Segment::Prompt("ASSISTANT:"));
        }
        segments
    }

    /// What the user wrote is thrown away but for its pictures, as in the reference.
    fn caption_segments(&self) -> Vec<Segment<'_>> {
        let mut segments = Vec::new();
        for message in &self.messages {
            for part in &message.parts {
                match part {
                    Part::Picture => segments.push(Segment::Picture),
                    Part::Text(text) if message.role == Role::Assistant => {
                        segments.push(Segment::Answer(text))
                    }
                    Part::Text(_) => {}
                }
            }
            if message.role == Role::Assistant {
                segments.push(Segment::Answer("\n"));
            }
        }
        segments
    }

    /// The rendered text, with `<image>` at the places of pictures: for people and for logs.
    /// The model gets [`segments`](Self::segments), where typed words cannot pose as anything else.
    pub fn render(&self, for_generation: bool) -> String {
        self.segments(for_generation)
            .into_iter()
            .map(|segment| match segment {
                Segment::Prompt(text) | Segment::Answer(text) | Segment::EndOfText(text) => text,
                Segment::Picture => IMAGE_PLACEHOLDER,
            })
            .collect()
    }
}
