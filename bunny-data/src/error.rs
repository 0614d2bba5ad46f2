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
    /// A Parquet file cannot be read.
    #[error("{}: not readable as Parquet: {what}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What its reader found.
        what: String,
    },
    /// A tar file is broken or cut short.
    #[error("{}: byte {offset}: {what}", path.display())]
    Tar {
        /// The file.
        path: PathBuf,
        /// Where, from the start of the file.
        offset: u64,
        /// What was found.
        what: &'static str,
    },
    /// There is no picture of this name.
    #[error("{}: there is no picture `{name}` in it", path.display())]
    NoPicture {
        /// The folder or archive.
        path: PathBuf,
        /// The name asked for.
        name: String,
    },
    /// What should be a picture is none.
    #[error("{}: `{name}` is not a picture that can be read", path.display())]
    NotAPicture {
        /// The folder or archive.
        path: PathBuf,
        /// The picture's name.
        name: String,
    },
    /// A recipe is not the TOML of one.
    #[error("{}: line {line}: {what}", path.display())]
    Toml {
        /// The recipe.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A recipe contradicts itself.
    #[error("recipe {recipe}: {field}: {what}")]
    Recipe {
        /// The recipe's name.
        recipe: String,
        /// The field or the source.
        field: String,
        /// What it has to be.
        what: &'static str,
    },
    /// The inputs of a mix differ from what its recipe expects of them.
    #[error(
        "recipe {recipe}: {}; look at the inputs, or accept these counts",
        Listed(differences)
    )]
    Counts {
        /// The recipe's name.
        recipe: String,
        /// Each difference.
        differences: Vec<CountDifference>,
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
    /// A file is not the JSON it should be.
    #[error("{}: not {expected}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// What the JSON reader found.
        source: serde_json::Error,
    },
    /// A file is of a later layout than this library knows.
    #[error("{}: format_version {found} is newer than {known}, the last one known here: take a newer bunny", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that can be read.
        known: u32,
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

/// One count that differs from what a recipe expects.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CountDifference {
    /// The source's name in the recipe.
    pub source: String,
    /// What was counted.
    pub what: String,
    /// How many were found.
    pub found: usize,
    /// The counts that the recipe allows.
    pub expected: Vec<usize>,
}

impl std::fmt::Display for CountDifference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let expected: Vec<String> = self.expected.iter().map(usize::to_string).collect();
        write!(
            f,
            "{}: {} {}, expected {}",
            self.source,
            self.found,
            self.what,
            expected.join(" or ")
        )
    }
}

/// Differences, one after another on one line.
struct Listed<'a>(&'a [CountDifference]);

impl std::fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, difference) in self.0.iter().enumerate() {
            write!(f, "{}{difference}", if at == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
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
