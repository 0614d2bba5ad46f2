#![doc = include_str!("../README.md")]

pub mod coreset;
pub mod embed;
pub mod embeddings;
mod error;
mod fast_hash;
mod html;
pub mod images;
pub mod mix;
pub mod order;
mod panic_guard;
pub mod picture_world;
pub mod preview;
pub mod record;
mod schema;
pub mod stats;
pub mod store;
mod toml_text;
pub mod validate;
mod whole;

pub use bunny_base::escape::for_terminal;
pub use error::{
    ArchiveFault, ArrayFault, ColumnFault, CountDifference, DataError, OptionFault, ParquetFault,
    Result, RowFault, SetFault, TaskFault, Unusable, WorkFault,
};
pub use schema::toml_schema;
pub use toml_text::parse_toml;
pub use whole::write_whole;

/// Called by long work with what is done and what there is in all; a place for a progress bar.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);
