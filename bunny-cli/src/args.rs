//! Groups of options that several verbs share.

mod backend;
mod draft;
mod float;
mod generation;
mod memory;
mod model;
mod output;
mod picture;

pub use backend::{
    ActivationsName, BackendArgs, BackendName, DtypeName, EightBits, activations_name,
};
pub use draft::Draft;
pub use float::{FloatName, own_dtype};
pub use generation::GenerationArgs;
pub use memory::MemoryArgs;
pub use model::{ModelArgs, PartsArgs, SourceArgs};
pub use output::{ForceArgs, OutputArgs};
pub use picture::PictureArgs;
