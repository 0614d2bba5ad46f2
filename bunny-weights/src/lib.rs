//! Files of tensors: read, checked, converted and written; no model is known here.
//!
//! [`TensorFiles`] opens safetensors and what `torch.save` wrote, one file, shards or a whole
//! folder; a tensor's bytes are the mapped file itself. [`writer`] writes safetensors, whole or not
//! at all, and a [`ModelFolder`] what lies beside them. [`gguf`] does both for llama.cpp's files.
//! [`adapter`] reads and writes LoRA as PEFT does, [`convert`] takes numbers from one type to another, and `hub` (behind the feature of that name) downloads what is not here.
//!
//! Files may be damaged or hostile: whatever they say is checked against their length before
//! anything is reserved for it, and a pickle runs nothing but a short list of instructions.
//!
//! ```
//! use bunny_weights::TensorFiles;
//!
//! # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/checkpoints/sharded");
//! let files = TensorFiles::open_folder(folder)?;
//! for name in files.names() {
//!     let tensor = files.get(name).unwrap();
//!     println!("{name} {:?} {}", tensor.shape, tensor.dtype.name());
//! }
//! # Ok::<(), bunny_weights::CheckpointError>(())
//! ```

pub mod adapter;
pub mod convert;
mod error;
mod files;
pub mod folder;
pub mod gguf;
#[cfg(feature = "hub")]
pub mod hub;
mod index;
pub mod packed;
mod pickle;
mod plan;
mod safetensors;
mod tensor;
pub mod writer;

pub use error::{
    AdapterError, CheckpointError, GgufError, HeaderError, IndexError, PackedError, PickleError,
};
pub use files::TensorFiles;
pub use folder::ModelFolder;
pub use tensor::{StoredDtype, StoredTensor};

/// Its example runs as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
