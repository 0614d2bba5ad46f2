//! Panics of the Parquet library on broken files, as errors.

use std::path::Path;

use bunny_base::caught;

use crate::error::{DataError, ParquetFault};

/// Runs the Parquet reader on a file that may be anything; its panics become errors.
pub(crate) fn guarded<T>(
    path: &Path,
    read: impl FnOnce() -> Result<T, ParquetFault>,
) -> Result<T, DataError> {
    caught(read)
        .unwrap_or(Err(ParquetFault::Broken))
        .map_err(DataError::parquet(path))
}
