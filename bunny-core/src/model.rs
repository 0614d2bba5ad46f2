//! The model and its parts: a vision tower, a projector and a decoder, joined by [`Bunny`].

mod bunny;
pub mod decoder;
mod described;
mod flops;
mod init;
pub mod pair;
mod projector;
pub mod tower;

pub use bunny::Bunny;
pub use decoder::Decoder;
pub use described::PartParameters;
pub use flops::{Learning, ModelFlops, TowerFlops, Workload};
pub use pair::Pair;
pub use projector::Projector;
pub use tower::VisionTower;
