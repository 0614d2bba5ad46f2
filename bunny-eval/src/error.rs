//! What can go wrong while a benchmark is read, answered, scored or told.

use std::path::{Path, PathBuf};

use bunny_base::escape::for_message;

use crate::benchmark::Benchmark;
use crate::convention::Convention;
use crate::question::QuestionId;

/// Whatever keeps a model from answering.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The result of this crate's functions.
pub type Result<T, E = EvalError> = std::result::Result<T, E>;

/// What can go wrong while a benchmark is read, answered, scored or told.
///
/// Every message is one line that names the file, the place in it, and the mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
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
    /// A file of a benchmark is not there.
    #[error("{}: there is no {name} in it: {mend}", folder.display())]
    Missing {
        /// Where it was looked for.
        folder: PathBuf,
        /// The file, by its published name.
        name: String,
        /// Where it comes from.
        mend: String,
    },
    /// A zip, a tar, a Parquet or a table is broken.
    #[error("{}: not readable as {form}: {what}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What it should be.
        form: &'static str,
        /// What its reader found.
        what: String,
    },
    /// A file, or a line of it, is not the JSON it should be.
    #[error("{}{}: not {expected}: {}", path.display(), Place(*line), for_message(&source.to_string()))]
    Json {
        /// The file.
        path: PathBuf,
        /// Which line, from 1; `None` where the file is one value.
        line: Option<usize>,
        /// What it should be.
        expected: &'static str,
        /// What the JSON reader found.
        source: serde_json::Error,
    },
    /// A file of a benchmark says something that it cannot.
    #[error("{}{}: {what}", path.display(), Place(*line))]
    Content {
        /// The file.
        path: PathBuf,
        /// Which line or row, from 1; `None` where it is the whole file.
        line: Option<usize>,
        /// What was found, what was expected, and the mend.
        what: String,
    },
    /// An answer is to a question that the benchmark does not ask.
    #[error("{}: line {line}: question_id {id}: {benchmark} asks no such question", path.display())]
    UnknownQuestion {
        /// The file of answers.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// The question.
        id: QuestionId,
        /// The benchmark.
        benchmark: String,
    },
    /// A file could not be written whole.
    #[error(transparent)]
    Unwritten(#[from] bunny_base::FileError),
    /// A harness does not score this benchmark.
    #[error("{convention} has no scorer for {benchmark}: take another --convention")]
    NoScorer {
        /// The benchmark.
        benchmark: Benchmark,
        /// The harness.
        convention: Convention,
    },
    /// A file for a server would lack rows.
    #[error(
        "{benchmark}: {missing} of {questions} questions have no answer, the first is question_id \
         {first}: a submission is written when every row is there"
    )]
    Incomplete {
        /// The benchmark.
        benchmark: Benchmark,
        /// How many rows are not there.
        missing: usize,
        /// Of how many.
        questions: usize,
        /// The first of them.
        first: QuestionId,
    },
    /// There is nothing to send anywhere.
    #[error("{benchmark} is scored here and takes no submission")]
    NoSubmission {
        /// The benchmark.
        benchmark: Benchmark,
    },
    /// Only the first questions were asked.
    #[error(
        "{benchmark}: only a part was asked, and a submission is of the whole: leave --limit out"
    )]
    PartialSubmission {
        /// The benchmark.
        benchmark: Benchmark,
    },
    /// A stored row was asked otherwise than it would be now.
    #[error(
        "{}: line {line}: {what} differ (stored {stored}, now {now}): finish it as it was begun, or write \
         to another file",
        path.display()
    )]
    Stored {
        /// The file of answers.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What differs: `prompts`, `pictures`, `options`, `models`, `questions`.
        what: &'static str,
        /// As it was asked.
        stored: String,
        /// As it would be asked.
        now: String,
    },
    /// Another run writes the file.
    #[error("{}: another run is writing it: wait, or write to another file", path.display())]
    Busy {
        /// The file of answers.
        path: PathBuf,
    },
    /// What answers the questions failed.
    #[error("the model cannot answer: {source}")]
    Answerer {
        /// What it says.
        source: Failure,
    },
    /// A reply is to no question, or to one that has a reply.
    #[error("an answer came to question {place} of those asked together, which waits for none")]
    Unasked {
        /// The place that the reply names.
        place: usize,
    },
    /// A question was handed over and no reply came.
    #[error("no answer came to question_id {id}")]
    Unanswered {
        /// The question.
        id: QuestionId,
    },
    /// Two files answer the same question.
    #[error("question_id {id} is answered in {} and in {}", first.display(), second.display())]
    Overlap {
        /// The question.
        id: QuestionId,
        /// The file that answers it first.
        first: PathBuf,
        /// The other one; a file may answer a question twice.
        second: PathBuf,
    },
    /// No file answers a question.
    #[error(
        "{missing} of {questions} questions are answered nowhere, the first is question_id {id} (row {place})"
    )]
    Gap {
        /// How many.
        missing: usize,
        /// Of how many.
        questions: usize,
        /// The first of them.
        id: QuestionId,
        /// Its place, from 1.
        place: usize,
    },
    /// A folder of results has none.
    #[error(
        "{}: there are no results under {convention} in it: `eval score --out` writes them", folder.display()
    )]
    NoResults {
        /// The folder.
        folder: PathBuf,
        /// Whose rules were asked for.
        convention: Convention,
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
    /// A benchmark gives no such figure.
    #[error("{benchmark} gives no figure `{name}`: name one of {}", known.join(", "))]
    UnknownScore {
        /// The benchmark.
        benchmark: Benchmark,
        /// The figure that was named; empty where none was.
        name: String,
        /// The figures that it gives.
        known: Vec<&'static str>,
    },
    /// A figure is none that a benchmark can give.
    #[error("{benchmark}: {name} cannot be {value}: it lies between 0 and {most}")]
    ScoreRange {
        /// The benchmark.
        benchmark: Benchmark,
        /// The figure.
        name: &'static str,
        /// What was given.
        value: f64,
        /// The most that it can be.
        most: f64,
    },
    /// No published model has this name.
    #[error("no published model is called `{name}`: take one of {}", names.join(", "))]
    UnknownPublished {
        /// The name that was asked for.
        name: String,
        /// Those that are known.
        names: Vec<String>,
    },
}

/// The place in a file, if there is one.
struct Place(Option<usize>);

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, ": line {line}"))
    }
}

impl EvalError {
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

    /// Wraps what a reader of some form of file said; for `map_err`.
    pub(crate) fn unreadable<E: std::fmt::Display>(
        path: impl AsRef<Path>,
        form: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Unreadable {
            path: path.as_ref().to_owned(),
            form,
            what: source.to_string(),
        }
    }

    /// Something in a file that cannot be.
    pub(crate) fn content(
        path: impl AsRef<Path>,
        line: Option<usize>,
        what: impl Into<String>,
    ) -> Self {
        Self::Content {
            path: path.as_ref().to_owned(),
            line,
            what: what.into(),
        }
    }
}
