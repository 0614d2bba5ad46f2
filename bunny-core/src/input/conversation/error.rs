use super::Role;

/// What can be wrong with a conversation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConversationError {
    /// No template has this name.
    #[error("unknown template `{name}`: use bunny, phi3, minicpm, llama or plain")]
    UnknownTemplate {
        /// The name as given.
        name: String,
    },
    /// The `from` of a record's sentence is neither `human` nor `gpt`, nor that of a `system` which
    /// speaks first.
    #[error(
        "unknown speaker `{}` in sentence {index}: use human or gpt, and system for the first alone",
        from.escape_debug()
    )]
    UnknownSpeaker {
        /// The speaker as given.
        from: String,
        /// Which sentence of the record, from 0.
        index: usize,
    },
    /// Two messages of one role in a row, or an assistant that speaks first.
    #[error(
        "message {index} is the {role}'s, out of turn: user and assistant alternate, and the user begins"
    )]
    OutOfTurn {
        /// Whose message it is.
        role: Role,
        /// Its place in the conversation, from 0.
        index: usize,
    },
    /// The `plain` template learns from one picture and its caption, nothing else.
    #[error(
        "the plain template takes a sentence with `<image>` and one answer: this record has {sentences} sentences, {pictures} of them with `<image>`"
    )]
    NotACaption {
        /// How many sentences the record has.
        sentences: usize,
        /// How many of them hold `<image>`.
        pictures: usize,
    },
}
