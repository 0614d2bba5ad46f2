//! What a model is: its sizes and choices, as `config.json` says them and as values.
//!
//! [`BunnyConfig`] is the whole; [`DecoderConfig`], [`VisionConfig`] and [`ProjectorConfig`] are its
//! parts. A [`Family`] knows what a language model's fields and tensors are called. [`presets`] has
//! the published combinations.

mod bunny;
mod decoder;
mod error;
mod families;
mod fields;
mod pair;
pub mod presets;
mod projector;
mod table;
mod tower;

pub(crate) use bunny::vision_tower_name;
pub use bunny::{BunnyConfig, PART_PATHS};
pub use decoder::{BlockOrder, DecoderConfig, MlpKind, NormKind};
pub use error::ConfigError;
pub use families::Family;
pub(crate) use families::{WITHOUT_EFFECT, refuse_foreign_integers};
pub use fields::Fields;
pub use pair::{PairConfig, PairKind, TextConfig};
pub use projector::{ProjectorConfig, ProjectorKind};
pub use tower::{
    ClipConfig, EvaClipConfig, MultiscaleConfig, SiglipConfig, TowerConfig, VisionConfig,
};
