//! The model and its parts: a vision tower, a projector and a decoder, joined by [`Bunny`].

mod bunny;
pub mod decoder;
mod described;
mod projector;
pub mod tower;

pub use bunny::Bunny;
pub use decoder::Decoder;
pub use described::PartParameters;
pub use projector::Projector;
pub use tower::VisionTower;
