//! What can go wrong while a model learns.

use bunny_base::escape::for_message;
use std::path::PathBuf;

use bunny_core::{
    ConfigError,
    input::{
        conversation::{ConversationError, Template},
        image::ImageError,
        tokenizer::TokenizerError,
    },
};
use bunny_data::DataError;
use bunny_weights::CheckpointError;

/// Any error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A model that is to be learnt from holds an adapter alone.
    #[error(
        "{}: holds an adapter, and no whole model: merge it first (`bunny-cli merge`), or name it in \
         init_adapter",
        folder.display()
    )]
    AdapterAsModel {
        /// The model's folder.
        folder: PathBuf,
    },
    /// A model that is to be learnt from is in GGUF.
    #[error(
        "{}: a model in GGUF, which training does not start from: make a folder of it first \
         (`bunny-cli merge --model GGUF --out FOLDER`)",
        model.display()
    )]
    GgufAsModel {
        /// The model's file, or the folder that holds it.
        model: PathBuf,
    },
    /// The model or its files.
    #[error(transparent)]
    Model(#[from] bunny_core::Error),
    /// A file of weights.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file that cannot be written.
    #[error(transparent)]
    File(#[from] bunny_base::FileError),
    /// Records or pictures.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A record that cannot be learnt from.
    #[error("{}: record {index} (`{id}`): {source}", file.display())]
    Sample {
        /// The record file.
        file: PathBuf,
        /// Which record, from 0.
        index: usize,
        /// Its name.
        id: String,
        /// What is wrong with it.
        source: SampleError,
    },
    /// A picture that a record names cannot be had.
    #[error("{}: record `{id}`: picture `{name}`: {problem}", file.display())]
    Picture {
        /// The record file.
        file: PathBuf,
        /// The record's name.
        id: String,
        /// The picture's name.
        name: String,
        /// Why it cannot be had.
        problem: PictureProblem,
    },
    /// A record of a file of texts has none.
    #[error("{}: record {index}: {source}: expected {{\"text\": \"...\"}}", file.display())]
    Text {
        /// The file.
        file: PathBuf,
        /// Which record, from 0.
        index: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A record of pictures and captions lacks one of them.
    #[error("{}: record {index} (`{id}`): {problem}", file.display())]
    Caption {
        /// The file.
        file: PathBuf,
        /// Which record, from 0.
        index: usize,
        /// Its name.
        id: String,
        /// What it lacks.
        problem: &'static str,
    },
    /// A tokenizer cannot be made.
    #[error("{}: cannot make a tokenizer: {source}", folder.display())]
    Tokenizer {
        /// Where it was to go.
        folder: PathBuf,
        /// What the library says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The tokenizer that texts are to be read with has nothing that ends one.
    #[error(
        "{}: the tokenizer has no end of text, which a model learns to stop by: name another one",
        file.display()
    )]
    NoEndOfText {
        /// The texts.
        file: PathBuf,
    },
    /// A thread that prepares batches is gone.
    #[error("a thread that prepares batches has stopped without a word")]
    Worker,
    /// The tokenizer is not one that the template was made for.
    #[error(
        "template `{template}` is for tokenizers that add {}beginning of sequence, and this one \
         {}: set version to the template of this language model",
        if *adds_bos { "no " } else { "a " },
        if *adds_bos { "does" } else { "does not" }
    )]
    BeginningOfSequence {
        /// The template.
        template: Template,
        /// Whether the tokenizer adds one.
        adds_bos: bool,
    },
    /// The loss is no number any more.
    #[error(
        "step {step}: {what} is {value}, at samples {}; the last good checkpoint is {}",
        samples.join(", "),
        checkpoint.as_ref().map_or("none".into(), |path| path.display().to_string())
    )]
    NotFinite {
        /// The step, from 1.
        step: u64,
        /// `loss` or `grad_norm`.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The samples of the step.
        samples: Vec<String>,
        /// The last checkpoint written.
        checkpoint: Option<PathBuf>,
    },
    /// A run goes on under other settings than it began with.
    #[error(
        "{}: {field} was {was} and is {is}: a run goes on only as it began; start anew in another \
         folder, or set {field} back",
        checkpoint.display()
    )]
    Resume {
        /// The checkpoint.
        checkpoint: PathBuf,
        /// The key that differs.
        field: String,
        /// Its value in the checkpoint.
        was: String,
        /// Its value now.
        is: String,
    },
    /// A checkpoint of a run cannot be used.
    #[error("{}: {}", path.display(), for_message(problem))]
    State {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it, and the mend.
        problem: String,
    },
    /// Something has no form in JSON.
    #[error("{what} cannot be written as JSON: {source}")]
    Json {
        /// What.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// The system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it was refused.
        source: std::io::Error,
    },
    /// A folder holds a run already.
    #[error("{} holds a run already: continue it with --resume, or name another folder", folder.display())]
    Occupied {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder that a run is to have holds something else.
    #[error("{} holds {held}, which is no run's: name another folder", folder.display())]
    NoRun {
        /// The folder.
        folder: PathBuf,
        /// One of the things in it.
        held: String,
    },
    /// A language model in integers is to learn itself.
    #[error(
        "weights in {packing} do not learn: let adapters learn beside them (lora_enable = true), or take \
         the model in floats"
    )]
    Packed {
        /// In which integers.
        packing: String,
    },
    /// A tower or a projector in integers is to learn.
    #[error(
        "tower and projector in int8, as --vision-weights holds them, do not learn: leave it out, or let \
         neither learn (freeze_mm_mlp_adapter = true)"
    )]
    PackedVision,
    /// Another run writes into a folder.
    #[error("{}: another run is at work in this folder", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// No step of a run has an answer to learn.
    #[error(
        "{}: there is nothing to learn: no step has an answer (records left out for their pictures: \
         {without_picture}, cut by model_max_length before their first answer: {without_answer})",
        file.display()
    )]
    NothingLearnt {
        /// The records.
        file: PathBuf,
        /// Records left out for their pictures.
        without_picture: usize,
        /// Records cut before their first answer.
        without_answer: usize,
    },
    /// Models cannot be averaged.
    #[error("these models cannot be averaged: {problem}")]
    Average {
        /// Where they differ.
        problem: String,
    },
    /// Ranks have lost each other.
    #[error(transparent)]
    Reduce(#[from] ReduceError),
    /// A projector that is to stay as it is, is nowhere to be found.
    #[error(
        "freeze_mm_mlp_adapter leaves the projector as it is, and there is none: name one with \
         pretrain_mm_mlp_adapter"
    )]
    NoProjector,
    /// No picture can be read that a tower could be fitted to.
    #[error("{}: none of {looked_at} pictures looked at can be read", file.display())]
    NoPictures {
        /// The records that name them.
        file: PathBuf,
        /// How many were looked at.
        looked_at: usize,
    },
    /// An adapter does not fit the model.
    #[error("{}: the adapter does not fit the model: {problem}", path.display())]
    Adapter {
        /// Its folder, or the file of a matrix.
        path: PathBuf,
        /// What does not fit.
        problem: String,
    },
}

impl TrainError {
    /// Wraps an error of the operating system; for `map_err`.
    pub(crate) fn io(
        path: impl AsRef<std::path::Path>,
        action: &'static str,
    ) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io {
            path: path.as_ref().to_path_buf(),
            action,
            source,
        }
    }
}

impl From<ConfigError> for TrainError {
    fn from(error: ConfigError) -> Self {
        Self::Model(error.into())
    }
}

impl From<TokenizerError> for TrainError {
    fn from(error: TokenizerError) -> Self {
        Self::Model(error.into())
    }
}

/// What makes a record unfit to learn from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// Its turns are not those of a conversation.
    #[error(transparent)]
    Conversation(#[from] ConversationError),
    /// Its text cannot be tokenised.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// It has no turn of the model.
    #[error("there is no answer to learn")]
    NoAnswer,
    /// A turn of the model says nothing.
    #[error("the answer in message {message} is empty")]
    EmptyAnswer {
        /// Which message, from 0.
        message: usize,
    },
    /// It names other pictures than its turns have places for.
    #[error("it has {slots} places for pictures and names {given} pictures")]
    Pictures {
        /// Places in its turns.
        slots: usize,
        /// Pictures it names.
        given: usize,
    },
}

/// Why a picture cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureProblem {
    /// Nobody said where pictures are.
    #[error("no image_folder is given")]
    NoFolder,
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] DataError),
    /// It cannot be decoded.
    #[error(transparent)]
    Decode(#[from] ImageError),
}

/// Why ranks could not agree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReduceError {
    /// Another rank has stopped, so that there is nothing to wait for.
    #[error("another rank has stopped; its own error says why")]
    Aborted,
    /// The ranks do not bring equally long buckets.
    #[error("ranks bring buckets of {ours} and {theirs} numbers: do they train the same model?")]
    Length {
        /// Numbers in this rank's bucket.
        ours: usize,
        /// Numbers in another rank's.
        theirs: usize,
    },
    /// NCCL is not there, or it or its device has failed.
    #[error("NCCL: {0}")]
    Nccl(String),
}
