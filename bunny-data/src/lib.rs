//! What a Bunny learns from: records and their order, mixes of datasets, and coreset selection.
//!
//! No tensor framework stands behind this crate. Everything in it is exact and seeded: the same
//! input and options give the same bytes, whatever the number of threads.

mod error;
mod hash;
pub mod order;
pub mod record;

pub use error::{DataError, Result};
