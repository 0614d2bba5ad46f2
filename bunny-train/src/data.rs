//! What a model learns from: records become samples, samples batches, in the order of a plan and
//! ahead of the step that takes them.
//!
//! ```text
//! Steps: which records ─┐
//! record → Sample → Batch → Feed → step
//! ```

mod batch;
mod left_out;
mod loader;
mod pairs;
mod preflight;
mod sample;
mod step_plan;
mod texts;

pub(crate) use batch::row_len;
pub use batch::{Answer, Batch, Layout, Piece};
pub use left_out::{LeftOut, Tally};
pub use loader::{Dataset, Feed, Lesson, PicturePolicy, PictureProblem, Plan, Source};
pub use pairs::{PairBatch, PairScan, Pairs};
pub use preflight::Preflight;
pub use sample::{IGNORE_INDEX, Sample, SampleError};
pub use step_plan::Steps;
pub use texts::{Rows, TextBatch, Texts};
