//! Groups of options that several verbs share.

mod backend;
mod draft;
mod generation;
mod memory;
mod model;
mod picture;

pub use backend::{ActivationsName, BackendArgs, BackendName, DtypeName, activations_name};
pub use draft::Draft;
pub use generation::GenerationArgs;
pub use memory::MemoryArgs;
pub use model::ModelArgs;
pub use picture::PictureArgs;
