//! What can go wrong while records, pictures and mixes are read or written.

use std::path::{Path, PathBuf};

/// The result of this crate's record, picture and mix functions.
pub type Result<T, E = DataError> = std::result::Result<T, E>;

/// What can go wrong while records, pictures and mixes are read or written.
///
/// Every message is one line that names the file and the place in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb: `open`, `read`, `write`.
        action: &'static str,
        /// Why it was refused.
        source: std::io::Error,
    },
    /// The file is none of the layouts a record file can have.
    #[error("{}: {what}", path.display())]
    NotRecords {
        /// The file.
        path: PathBuf,
        /// What it looks like, and what was expected.
        what: &'static str,
    },
    /// The array or the lines around the records are broken.
    #[error("{}: byte {offset}, after {records} records: {what}", path.display())]
    Structure {
        /// The file.
        path: PathBuf,
        /// Where, from the start of the file.
        offset: u64,
        /// How many records stood before it.
        records: u64,
        /// What was found, and what was expected.
        what: &'static str,
    },
    /// One record is not JSON, or lacks the fields of a record.
    #[error("{}: record {index} (byte {offset}): {source}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Which record, from 0.
        index: usize,
        /// Where it starts in the file; for Parquet, the row.
        offset: u64,
        /// What the JSON reader found.
        source: serde_json::Error,
    },
    /// A record was asked for that the file does not hold.
    #[error("{}: there is no record {index}: the file holds {len}", path.display())]
    NoSuchRecord {
        /// The file.
        path: PathBuf,
        /// Which record, from 0.
        index: usize,
        /// How many there are.
        len: usize,
    },
    /// An order was asked for that cannot be.
    #[error("{field}: {what}")]
    Order {
        /// The value that is wrong.
        field: &'static str,
        /// What it has to be.
        what: &'static str,
    },
}

impl DataError {
    /// Wraps an error of the operating system; for `map_err`.
    pub(crate) fn io(
        path: impl AsRef<Path>,
        action: &'static str,
    ) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io {
            path: path.as_ref().to_owned(),
            action,
            source,
        }
    }
}
