//! The three-step coreset of "Efficient Multimodal Learning from Data-centric Perspective" (§3.2):
//! how Bunny-pretrain-LAION-2M was condensed from LAION-2B, for any set of CLIP embeddings.
//!
//! ```text
//! embeddings ─ scan ─ k-means on a sample ─ nearest centroid, sorted into buckets of clusters
//!   1. in each cluster, rows above cosine 0.86 are joined; of each connected component the row
//!      at the median distance to the centroid stays
//!   2. of those, ranks 40 % to 60 % by the cosine of image and text stay
//!   3. of those, ranks 15 % to 35 % by the cosine of image and centroid stay
//! ─ a seeded sample of them ─ keys, Parquet, pretraining JSON, report
//! ```
//! What the paper leaves open follows the authors' published code; where that code cannot run as
//! written, the paper's words are followed (both are options in [`CoresetOptions`]).
//!
//! - **Exact.** Products in float32 or `bf16` only find candidates; whatever they cannot tell is
//!   decided in float64. The result is the same bytes for any number of threads, tiles or memory.
//! - **Out of core.** Embeddings are mapped and let go again, clusters are compared in tiles, and
//!   per-row state goes to disk where it outgrows its share of the memory.
//! - **Resumable.** Each part of each stage appears whole, with a manifest.
//!
//! ```no_run
//! use bunny_data::coreset::engine::Local;
//! use bunny_data::coreset::{
//!     CoresetOptions, Division, OutputOptions, Paths, Silent, TileSize, Worker, select,
//! };
//!
//! let worker = Worker { memory: 2 << 30, tile: TileSize::default(), progress: &Silent };
//! let paths = Paths {
//!     embeddings: "laion".into(),
//!     out: "coreset".into(),
//!     work: None,
//!     keep_work: false,
//!     force: false,
//!     division: Division::default(),
//! };
//! let options = CoresetOptions { sample: Some(2_000_000), ..CoresetOptions::default() };
//! let report = select(&Local::new(None, worker)?, &paths, &options, &OutputOptions::default())?;
//! println!("{} rows kept", report.written.rows);
//! # Ok::<(), bunny_data::DataError>(())
//! ```

mod arrays;
mod bucket;
mod centroids;
pub mod engine;
mod histogram;
mod in_memory;
mod manifest;
mod numeric;
mod options;
mod pipeline;
mod plan;
mod report;
mod resources;
mod search;
mod stages;
mod survivor;
mod worker;

pub use self::centroids::Centroids;
pub use self::histogram::{Cosines, Sizes};
pub use self::in_memory::{assign, components, in_window, train, train_from};
pub use self::options::{
    ClusterOptions, CoresetOptions, DuplicateOptions, Edge, Geometry, Group, Invalid, Keep, Median,
    Order, Scope, Search, Similarity, Start, Window, WindowOptions,
};
pub use self::pipeline::{Division, Paths, Selection, next_parts, select};
pub use self::plan::{Calibration, Plan, PlanOptions, PlanStep, calibrate, plan};
pub use self::report::{Report, Step};
pub use self::stages::assign::Assigned;
pub use self::stages::duplicates::{Deduplicated, Joined};
pub use self::stages::output::{MissingImages, OutputOptions, Written};
pub use self::stages::scan::Scanned;
pub use self::stages::windows::{Ranked, Seat};
pub use self::worker::{DiskUse, Progress, Silent, TileSize, Worker};
