//! What can go wrong in this crate.

mod faults;

use std::path::{Path, PathBuf};

use bunny_base::escape::{for_message, for_terminal};

pub use self::faults::{
    ArchiveFault, ArrayFault, ColumnFault, OptionFault, ParquetFault, RowFault, SetFault,
    TaskFault, Unusable, WorkFault,
};

/// The result of this crate's functions.
pub type Result<T, E = DataError> = std::result::Result<T, E>;

/// What can go wrong while records, pictures, mixes and embeddings are read or written, and while a
/// coreset is selected.
///
/// Every message is one line that names the file and the place in it, or the option, and the mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", shown(path))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb: `open`, `read`, `write`.
        action: &'static str,
        /// Why it was refused.
        source: std::io::Error,
    },
    /// The file is none of the layouts a record file can have.
    #[error("{}: {what}", shown(path))]
    NotRecords {
        /// The file.
        path: PathBuf,
        /// What it looks like, and what was expected.
        what: &'static str,
    },
    /// The array or the lines around the records are broken.
    #[error("{}: byte {offset}, after {records} records: {what}", shown(path))]
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
    #[error("{}: record {index} (byte {offset}): {}", shown(path), for_message(&source.to_string()))]
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
    #[error("{}: not readable as Parquet: {fault}", shown(path))]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: ParquetFault,
    },
    /// A tar file is broken or cut short.
    #[error("{}: byte {offset}: {what}", shown(path))]
    Tar {
        /// The file.
        path: PathBuf,
        /// Where, from the start of the file.
        offset: u64,
        /// What was found.
        what: &'static str,
    },
    /// A name has to be written down as text, and is none.
    #[error(
        "{}: a name that is not UTF-8 cannot be written down: rename it",
        shown(path)
    )]
    Name {
        /// The file or folder.
        path: PathBuf,
    },
    /// What a result depends on cannot be written as JSON.
    #[error("cannot be written as JSON: {0}")]
    NotJson(#[source] serde_json::Error),
    /// A task names a file that its store cannot have.
    #[error("`{0}` is no key of a store")]
    Key(String),
    /// A task cannot be run, or was not run as it should.
    #[error("a task: {0}")]
    Task(TaskFault),
    /// There is no picture of this name.
    #[error("{}: there is no picture `{}` in it", shown(path), short(name))]
    NoPicture {
        /// The folder or archive.
        path: PathBuf,
        /// The name asked for.
        name: String,
    },
    /// What should be a picture is none.
    #[error("{}: `{}` is not a picture that can be read", shown(path), short(name))]
    NotAPicture {
        /// The folder or archive.
        path: PathBuf,
        /// The picture's name.
        name: String,
    },
    /// A recipe is not the TOML of one.
    #[error("{}: line {line}: {}", shown(path), one_line(what))]
    Toml {
        /// The recipe.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A recipe contradicts itself.
    #[error("recipe {}: {}: {what}", one_line(recipe), one_line(field))]
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
        "recipe {}: {}; look at the inputs, or accept these counts",
        one_line(recipe),
        Listed(differences)
    )]
    Counts {
        /// The recipe's name.
        recipe: String,
        /// Each difference.
        differences: Vec<CountDifference>,
    },
    /// A record was asked for that the file does not hold.
    #[error("{}: there is no record {index}: the file holds {len}", shown(path))]
    NoSuchRecord {
        /// The file.
        path: PathBuf,
        /// Which record, from 0.
        index: usize,
        /// How many there are.
        len: usize,
    },
    /// A file is not the JSON it should be.
    #[error("{}: not {expected}: {}", shown(path), for_message(&source.to_string()))]
    Json {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// What the JSON reader found.
        source: serde_json::Error,
    },
    /// A file is of a later layout than this library knows.
    #[error(
        "{}: format_version {found} is newer than {known}, the last one known here: take a newer bunny",
        shown(path)
    )]
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
    /// A `.npy` array is none, or not one of embeddings.
    #[error("{}: {fault}", shown(path))]
    Array {
        /// The file; a member of an archive is written as a path below it.
        path: PathBuf,
        /// What is wrong with it.
        fault: ArrayFault,
    },
    /// A `.npz` archive is none, or does not hold what was asked for.
    #[error("{}: {fault}", shown(path))]
    Archive {
        /// The file; a member is written as a path below it.
        path: PathBuf,
        /// What is wrong with it.
        fault: ArchiveFault,
    },
    /// A Parquet file lacks a column, or has another one of that name.
    #[error("{}: {fault}", shown(path))]
    Column {
        /// The file.
        path: PathBuf,
        /// What is wrong with its columns.
        fault: ColumnFault,
    },
    /// A folder holds no set of embeddings, or files that do not belong together.
    #[error("{}: {fault}", shown(path))]
    Set {
        /// The folder, or the file that does not fit.
        path: PathBuf,
        /// What is wrong with it.
        fault: SetFault,
    },
    /// A work file is broken.
    #[error("{}: {fault}", shown(path))]
    Work {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: WorkFault,
    },
    /// Files of one shard hold different numbers of rows.
    #[error("{}: {rows} rows, but {} has {other_rows}", shown(path), shown(other))]
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
    #[error(
        "{}: rows of {dims} numbers, but {} has {other_dims}",
        shown(path),
        shown(other)
    )]
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
    #[error("{}: row {row}: {fault}", shown(path))]
    Row {
        /// The file.
        path: PathBuf,
        /// Which row of it, from 0.
        row: u64,
        /// What is wrong with it.
        fault: RowFault,
    },
    /// A model that makes vectors of pictures and captions failed.
    #[error("pictures cannot be embedded: {}", one_line(&.0.to_string()))]
    Encoder(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A folder holds embeddings that were made from something else.
    #[error(
        "{}: holds embeddings of other pictures, of another model or with other options: name a new folder, or \
         say --force to replace them",
        shown(path)
    )]
    OtherEmbeddings {
        /// The folder.
        path: PathBuf,
    },
    /// There is no pair of a picture and a caption.
    #[error(
        "{}: there is no picture with a caption in it ({broken} pictures are broken, {without_caption} have \
         no caption): a caption is KEY.txt, or `caption` in KEY.json, beside KEY.jpg",
        shown(path)
    )]
    NothingToEmbed {
        /// Where pairs were looked for.
        path: PathBuf,
        /// Pictures that cannot be read.
        broken: u64,
        /// Pictures without a caption.
        without_caption: u64,
    },
    /// An option has a value that cannot be.
    #[error("{option}: {fault}")]
    Option {
        /// The option, as the command line names it.
        option: &'static str,
        /// What is wrong with its value.
        fault: OptionFault,
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
    #[error(
        "{}: the work files need {need} bytes, and {free} are free",
        shown(path)
    )]
    Disk {
        /// The folder of the work files.
        path: PathBuf,
        /// How much they take.
        need: u64,
        /// How much there is.
        free: u64,
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
            one_line(&self.source),
            self.found,
            one_line(&self.what),
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
    /// Wraps what is wrong with a Parquet file; for `map_err`.
    pub(crate) fn parquet<F: Into<ParquetFault>>(path: impl AsRef<Path>) -> impl FnOnce(F) -> Self {
        move |fault| Self::Parquet {
            path: path.as_ref().to_owned(),
            fault: fault.into(),
        }
    }

    /// The text of a path that has to be written down.
    pub(crate) fn text(path: &Path) -> Result<&str> {
        path.to_str().ok_or_else(|| Self::Name {
            path: path.to_owned(),
        })
    }

    /// What is wrong with a `.npy` array.
    pub(crate) fn array(path: impl AsRef<Path>, fault: ArrayFault) -> Self {
        let path = path.as_ref().to_owned();
        Self::Array { path, fault }
    }

    /// What is wrong with a `.npz` archive.
    pub(crate) fn archive(path: impl AsRef<Path>, fault: ArchiveFault) -> Self {
        let path = path.as_ref().to_owned();
        Self::Archive { path, fault }
    }

    /// What is wrong with the columns of a Parquet file.
    pub(crate) fn column(path: impl AsRef<Path>, fault: ColumnFault) -> Self {
        let path = path.as_ref().to_owned();
        Self::Column { path, fault }
    }

    /// What is wrong with a folder of embeddings.
    pub(crate) fn set(path: impl AsRef<Path>, fault: SetFault) -> Self {
        let path = path.as_ref().to_owned();
        Self::Set { path, fault }
    }

    /// Whether trying again may help: the system refused, and not for good.
    pub fn may_pass(&self) -> bool {
        use std::io::ErrorKind as Kind;
        let for_good = [
            Kind::PermissionDenied,
            Kind::ReadOnlyFilesystem,
            Kind::NotADirectory,
            Kind::IsADirectory,
            Kind::InvalidFilename,
            Kind::InvalidInput,
            Kind::Unsupported,
        ];
        match self {
            Self::Io { source, .. } => !for_good.contains(&source.kind()),
            Self::Disk { .. } => true,
            _ => false,
        }
    }

    /// What is wrong with a work file.
    pub(crate) fn work(path: impl AsRef<Path>, fault: WorkFault) -> Self {
        let path = path.as_ref().to_owned();
        Self::Work { path, fault }
    }

    /// What is wrong with a row.
    pub(crate) fn row(path: impl AsRef<Path>, row: u64, fault: RowFault) -> Self {
        let path = path.as_ref().to_owned();
        Self::Row { path, row, fault }
    }

    /// What is wrong with an option.
    pub(crate) fn option(option: &'static str, fault: OptionFault) -> Self {
        Self::Option { option, fault }
    }
}

/// What a file may call a column, a record or itself, fit for a message of one line on a terminal.
pub(crate) fn one_line(text: &str) -> String {
    for_terminal(text).into_owned()
}

/// A path, fit for a message of one line.
pub(crate) fn shown(path: &Path) -> String {
    one_line(&path.display().to_string())
}

/// A picture's name, which may be a whole picture (`data:…`), as a message shows it.
pub(crate) fn short(name: &str) -> String {
    const SHOWN: usize = 200;
    match name.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", one_line(&name[..end])),
        None => one_line(name),
    }
}

#[cfg(test)]
mod tests {
    use parquet::errors::ParquetError;

    use super::*;

    #[test]
    fn what_a_file_calls_a_column_does_not_break_a_message() {
        let found = ParquetError::General("no field named k\ney".to_owned());
        let error = DataError::parquet("set.parquet")(found);
        assert!(
            error.to_string().ends_with("no field named k\\ney"),
            "{error}"
        );
    }
}
