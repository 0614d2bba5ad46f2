//! What can go wrong while a coreset is selected.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;

/// The result of the embedding and coreset functions.
pub type Result<T, E = CoresetError> = std::result::Result<T, E>;

/// What can go wrong while a coreset is selected.
///
/// Every message is one line that names the file and the row, or the option, and the mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoresetError {
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
    /// The folder holds none of the known layouts, or its files do not belong together.
    #[error("{}: {what}", path.display())]
    Layout {
        /// The folder or file.
        path: PathBuf,
        /// What was found, and what was expected.
        what: Cow<'static, str>,
    },
    /// A file's bytes are not what its kind asks for.
    #[error("{}: {what}", path.display())]
    Format {
        /// The file; a member of an archive is written as a path below it.
        path: PathBuf,
        /// What was found, and what was expected.
        what: Cow<'static, str>,
    },
    /// The images cannot be opened.
    #[error(transparent)]
    Images(#[from] crate::error::DataError),
    /// The Parquet reader or writer refused.
    #[error("{}: {}", path.display(), one_line(&source.to_string()))]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What it found.
        source: ParquetError,
    },
    /// Files of one shard hold different numbers of rows.
    #[error("{}: {rows} rows, but {} has {other_rows}", path.display(), other.display())]
    RowCount {
        /// The file.
        path: PathBuf,
        /// Its rows.
        rows: u64,
        /// The file it is read beside.
        other: PathBuf,
        /// The rows of that one.
        other_rows: u64,
    },
    /// Rows of two files have different widths.
    #[error("{}: rows of {dims} numbers, but {} has {other_dims}", path.display(), other.display())]
    Dims {
        /// The file.
        path: PathBuf,
        /// The width of its rows.
        dims: usize,
        /// The file it is read beside.
        other: PathBuf,
        /// The width there.
        other_dims: usize,
    },
    /// One row cannot be used.
    #[error("{}: row {row}: {what}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Which row of it, from 0.
        row: u64,
        /// What is wrong with it, and the mend.
        what: Cow<'static, str>,
    },
    /// An option has a value that cannot be.
    #[error("{option}: {what}")]
    Option {
        /// The option, as the command line names it.
        option: &'static str,
        /// What it has to be.
        what: Cow<'static, str>,
    },
    /// The work does not fit the memory it was given.
    #[error("{what} needs {need} bytes of memory, more than the {budget} given: raise --memory")]
    Memory {
        /// What does not fit.
        what: &'static str,
        /// How much it takes.
        need: u64,
        /// How much there is.
        budget: u64,
    },
    /// The work does not fit the disk.
    #[error("{}: the work files need {need} bytes, and {free} are free", path.display())]
    Disk {
        /// The folder of the work files.
        path: PathBuf,
        /// How much they take.
        need: u64,
        /// How much there is.
        free: u64,
    },
    /// A file of ours comes from a newer version.
    #[error("{}: format version {found} is newer than {known}: update bunny", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version it says.
        found: u32,
        /// The newest one this program knows.
        known: u32,
    },
}

impl CoresetError {
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

    /// Wraps an error of the Parquet reader or writer; for `map_err`.
    pub(crate) fn parquet(path: impl AsRef<Path>) -> impl FnOnce(ParquetError) -> Self {
        move |source| Self::Parquet {
            path: path.as_ref().to_owned(),
            source,
        }
    }

    /// A file that is not what its kind asks for.
    pub(crate) fn format(path: impl AsRef<Path>, what: impl Into<Cow<'static, str>>) -> Self {
        let what = what.into();
        Self::Format {
            path: path.as_ref().to_owned(),
            what: match what.contains(char::is_control) {
                true => one_line(&what).into(),
                false => what,
            },
        }
    }

    /// A folder or file that does not belong where it is.
    pub(crate) fn layout(path: impl AsRef<Path>, what: impl Into<Cow<'static, str>>) -> Self {
        Self::Layout {
            path: path.as_ref().to_owned(),
            what: what.into(),
        }
    }

    /// A row that cannot be used.
    pub(crate) fn row(
        path: impl AsRef<Path>,
        row: u64,
        what: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::Row {
            path: path.as_ref().to_owned(),
            row,
            what: what.into(),
        }
    }

    /// An option whose value cannot be.
    pub(crate) fn option(option: &'static str, what: impl Into<Cow<'static, str>>) -> Self {
        Self::Option {
            option,
            what: what.into(),
        }
    }
}

/// What a broken file may call a column, an array or a type, fit for a message of one line.
pub(crate) fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_calls_a_column_does_not_break_a_message() {
        let found = ParquetError::General("no field named k\ney".to_owned());
        let error = CoresetError::parquet("set.parquet")(found);
        assert!(
            error.to_string().ends_with("no field named k ey"),
            "{error}"
        );
    }
}
