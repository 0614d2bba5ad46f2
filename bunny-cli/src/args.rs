//! Groups of options that several verbs share.

mod backend;
mod generation;
mod model;

pub use backend::{ActivationsName, BackendArgs, BackendName, DtypeName};
pub use generation::GenerationArgs;
pub use model::ModelArgs;
