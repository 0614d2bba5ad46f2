//! What a model learns from: records become samples, samples batches, in the order of a plan and
//! ahead of the step that takes them.
//!
//! ```text
//! StepPlan: which records ─────────┐
//! record → Sample → Batch → DataLoader → step
//! ```

mod batch;
mod dataset;
mod instructions;
mod left_out;
mod loader;
mod pairs;
mod pictures;
mod preflight;
mod sample;
mod step_plan;
mod texts;

pub(crate) use batch::row_len;
pub use batch::{Answer, Batch, Layout, Piece};
pub use dataset::{BatchInfo, Dataset};
pub use instructions::InstructionDataset;
pub use left_out::LeftOut;
pub use loader::{BatchPlan, DataLoader, batches_at_once};
pub use pairs::{PairBatch, PairScan, Pairs};
pub use pictures::Pictures;
pub use preflight::Preflight;
pub use sample::{IGNORE_INDEX, Sample};
pub use step_plan::StepPlan;
pub use texts::{PackedTexts, TextBatch, Texts};
