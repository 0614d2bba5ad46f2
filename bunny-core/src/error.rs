//! What can go wrong, in words that name the file, the field and the mend.

use std::path::PathBuf;

use bunny_weights::CheckpointError;

use crate::config::ConfigError;
use crate::input::{conversation::ConversationError, image::ImageError, tokenizer::TokenizerError};

/// Any error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file of weights.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A tokenizer, or a text it cannot take.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A conversation that no template renders.
    #[error(transparent)]
    Conversation(#[from] ConversationError),
    /// A picture.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A checkpoint holds a part of a model, and the language model it belongs to is not given.
    #[error(
        "{}: holds only {holds}: give the language model it belongs to as `ModelSource::base`",
        folder.display()
    )]
    NoBase {
        /// The checkpoint's folder.
        folder: PathBuf,
        /// What it holds.
        holds: &'static str,
    },
    /// Nothing that is given holds a vision tower.
    #[error(
        "{}: holds no vision tower: give `{tower}`, which its configuration names, as `vision_tower`",
        folder.display()
    )]
    NoTower {
        /// The folder of the checkpoint, or of the language model it is made from.
        folder: PathBuf,
        /// The tower that the configuration names.
        tower: String,
    },
    /// A language model in GGUF lacks the file with its vision tower.
    #[error(
        "{}: a projector file (mmproj, .gguf) belongs to it, and none lies beside it: give one as \
         `vision_tower`",
        file.display()
    )]
    NoProjector {
        /// The language model's file.
        file: PathBuf,
    },
    /// A folder has several GGUF files of a kind.
    #[error("{}: holds several {what} ({files}): name one of them", folder.display())]
    SeveralFiles {
        /// The folder.
        folder: PathBuf,
        /// Of which kind.
        what: &'static str,
        /// Their names.
        files: String,
    },
    /// A GGUF file with a vision tower and a projector alone.
    #[error("{}: a projector file: name the language model's file that it belongs to", file.display())]
    NotAModel {
        /// The file.
        file: PathBuf,
    },
    /// A model that a file format has no place for.
    #[error("this model cannot be written as {format}: {reason}")]
    Unexportable {
        /// The format.
        format: &'static str,
        /// Why not.
        reason: String,
    },
    /// A model that is neither here nor could be on a hub.
    #[error("{name}: no such folder, and no hub id of the form org/name[@revision]")]
    NoSuchModel {
        /// What it was called.
        name: String,
    },
    /// A download.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(#[from] bunny_weights::hub::HubError),
    /// A prompt leaves the model no room for an answer.
    #[error(
        "the prompt takes {prompt} positions ({pictures} of them pictures'), and the model has {context} \
         for it and the answer: shorten the conversation"
    )]
    TooLong {
        /// Positions of the prompt, pictures expanded.
        prompt: usize,
        /// Positions of its pictures.
        pictures: usize,
        /// Positions the model has.
        context: usize,
    },
    /// A prompt's keys and values are more than all may take.
    #[error(
        "the prompt's keys and values take {needed} bytes, and all of them may take {allowed}: allow more, or \
         shorten the conversation"
    )]
    CacheTooSmall {
        /// Bytes of the prompt's, in whole blocks.
        needed: u64,
        /// Bytes that are allowed.
        allowed: u64,
    },
    /// A model's scores are infinite, or no numbers.
    #[error(
        "the scores of the token at place {place} are not all finite numbers: the weights are damaged, or \
         too large for their number type: take another (`f32` holds all)"
    )]
    NotFinite {
        /// The token's place in the text, a picture counting for one.
        place: usize,
    },
    /// A prompt has neither words nor pictures.
    #[error("the prompt is empty: give it words or a picture")]
    EmptyPrompt,
    /// A model whose weights are held in integers is to be written as floats.
    #[error("a model in {packing} is not written: load it in floats")]
    Packed {
        /// In which integers.
        packing: String,
    },
    /// A token that the model has no row for.
    #[error("token id {id} is beyond the {rows} of the model's table")]
    NoSuchToken {
        /// The id.
        id: u32,
        /// Rows of the table.
        rows: usize,
    },
    /// A prompt has other pictures than are given.
    #[error("the prompt has {slots} picture slots, and {given} pictures are given")]
    Pictures {
        /// Slots in the prompt.
        slots: usize,
        /// Pictures given.
        given: usize,
    },
}
