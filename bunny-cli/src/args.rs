//! Groups of options that several verbs share.

mod backend;
mod draft;
mod generation;
mod model;

pub use backend::{ActivationsName, BackendArgs, BackendName, DtypeName, activations_name};
pub use draft::Draft;
pub use generation::GenerationArgs;
pub use model::ModelArgs;
