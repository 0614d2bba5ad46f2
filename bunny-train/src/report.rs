//! What people are shown: what a stage will take, records as the model sees them, a run's curves.

mod card;
pub mod inspect;
mod learn_counts;
mod memory;
pub mod plot;

pub use card::{CARD, Origin, average_card, llava_card, merged_card, with_origin};
pub use learn_counts::{LearnCounts, lora_parameters};
pub use memory::MemoryPlan;
