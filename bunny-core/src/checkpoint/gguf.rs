//! Bunnies in GGUF, the format of llama.cpp and of all that is built on it: two files, the language model
//! with its tokenizer, and a projector file (mmproj) with the vision tower.
//!
//! ```text
//! architecture   which language models there are, and what their keys are called   both ways
//! names          what tensors are called                                           both ways
//! vocabulary     the tokenizer                                                     both ways
//! projector      keys and names of the projector file                              both ways
//! export         a model into files      (quantities, rows, card)
//! open           files into a model      (find)
//! ```

mod architecture;
mod card;
mod export;
mod fields;
mod find;
mod names;
mod open;
mod projector;
mod quantities;
mod rows;
mod vocabulary;

pub use export::GgufExport;
pub use projector::ProjectorKind as GgufProjector;
pub use quantities::Quantities as GgufWeights;

pub(super) use find::GgufFiles;
