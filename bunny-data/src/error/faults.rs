//! What can be wrong with a file of embeddings, with a set of them, or with an option of a coreset:
//! the end of a message that begins with the file or the option.

use std::path::PathBuf;

use arrow_schema::{ArrowError, DataType};
use parquet::errors::ParquetError;

use super::{one_line, shown};
use crate::coreset::engine::Wanted;

/// What can be wrong with a `.npy` array, in a file of its own or in an archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArrayFault {
    /// It does not begin as one.
    #[error("not a .npy file: the magic bytes are missing")]
    Magic,
    /// Its header is of a version that NumPy does not write.
    #[error("a .npy version other than 1, 2 and 3")]
    Version,
    /// It ends within its header.
    #[error("the .npy header is cut short")]
    HeaderCutShort,
    /// Its header is longer than any that NumPy reads.
    #[error("the .npy header is longer than 10,000 bytes")]
    HeaderTooLong,
    /// Its header is not UTF-8.
    #[error("the .npy header is not text")]
    HeaderNotText,
    /// Its header is not the literal of a dict.
    #[error("the .npy header is not a dict")]
    HeaderNotADict,
    /// An entry of its header is missing, or of another kind than in a plain array.
    #[error("the .npy header has no {0}")]
    Missing(&'static str),
    /// Its numbers are not of a floating-point type that NumPy has.
    #[error("numbers of type {}: save them as little-endian float16, float32 or float64", beginning(.0))]
    Type(String),
    /// Its columns stand one after the other.
    #[error("Fortran order: save numpy.ascontiguousarray of it")]
    FortranOrder,
    /// It is no matrix.
    #[error("an array that has not two dimensions, rows by numbers")]
    NotAMatrix,
    /// Its rows are empty or impossibly long.
    #[error("rows must hold between 1 and 65,536 numbers")]
    Width,
    /// Its bytes would not fit a file.
    #[error("a shape that no file can hold")]
    Shape,
    /// It ends before its last row does.
    #[error("cut short in row {row}: {length} bytes, and {rows} rows take {expected}")]
    CutShort {
        /// The row in which it ends.
        row: u64,
        /// Its bytes.
        length: u64,
        /// The rows its header promises.
        rows: u64,
        /// The bytes that these take.
        expected: u64,
    },
    /// It goes on after its last row.
    #[error("{0} bytes after the last row")]
    TooLong(u64),
    /// It was meant to be mapped, and is compressed.
    #[error("compressed embeddings have to be unpacked before they can be mapped")]
    Packed,
    /// It is shorter than when its header was read.
    #[error("the file has shrunk since it was opened")]
    Shrunk,
    /// It unpacks to more or fewer bytes than its archive says.
    #[error("an array inflates to another length than its directory says")]
    Inflated,
    /// It was unpacked from another file before.
    #[error("unpacked from another file than {}: remove it", shown(.0))]
    UnpackedElsewhere(PathBuf),
    /// Its numbers are of another type than those of another shard.
    #[error("{found} numbers, but {} has {expected}", shown(other))]
    OtherType {
        /// The type here.
        found: &'static str,
        /// The file of the other shard.
        other: PathBuf,
        /// The type there.
        expected: &'static str,
    },
    /// It holds centroids of rows of another width.
    #[error("centroids of {found} numbers, and the rows have {expected}")]
    CentroidWidth {
        /// The numbers of a centroid.
        found: usize,
        /// The numbers of a row.
        expected: usize,
    },
    /// It holds no centroid, or too many.
    #[error("between 1 and 2^32 - 1 centroids are needed")]
    CentroidCount,
}

/// As much of what a file calls a type as a message needs.
fn beginning(text: &str) -> String {
    one_line(&format!("{text:.16}"))
}

/// What can be wrong with a `.npz` archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveFault {
    /// There is nothing in it.
    #[error("an empty file, not a .npz archive")]
    Empty,
    /// It does not end as one.
    #[error("not a .npz archive, or cut short: its directory is missing")]
    NoDirectory,
    /// It ends within its directory.
    #[error("the directory of the archive is cut short")]
    DirectoryCutShort,
    /// It ends within a member.
    #[error("the archive is cut short here")]
    CutShort,
    /// Its directory does not tell where a member is.
    #[error("the archive's directory points at something else")]
    Misplaced,
    /// A member can be read with a password alone.
    #[error("encrypted")]
    Encrypted,
    /// A member is compressed by another method than NumPy's.
    #[error("neither stored nor deflated: write it with numpy.savez")]
    Method,
    /// A member that is stored as it is has two lengths.
    #[error("stored with two different lengths")]
    TwoLengths,
    /// No member of so few bytes can unpack to so many.
    #[error("its length cannot be true")]
    Length,
    /// It does not hold the array that was asked for.
    #[error("no array {name}; it holds {}", one_line(&names.join(", ")))]
    NoArray {
        /// What was asked for.
        name: String,
        /// What there is.
        names: Vec<String>,
    },
    /// Several of its arrays may be the one that is wanted.
    #[error("several arrays fit ({}): name one with {option}", one_line(&names.join(", ")))]
    Several {
        /// What there is.
        names: Vec<String>,
        /// The option that names one.
        option: &'static str,
    },
    /// None of its arrays is called as image embeddings usually are.
    #[error("none of its arrays ({}) is a usual image embedding: name it with --image-array", one_line(&names.join(", ")))]
    NoImages {
        /// What there is.
        names: Vec<String>,
    },
}

/// What can be wrong with the columns of a Parquet file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ColumnFault {
    /// It lacks a column.
    #[error("no column {name}; it has {}", one_line(&names.join(", ")))]
    Missing {
        /// The column.
        name: String,
        /// The columns there are.
        names: Vec<String>,
    },
    /// A column is of another type than what it is to hold.
    #[error("column {name} is {}, not {wanted}", one_line(&found.to_string()))]
    Type {
        /// The column.
        name: String,
        /// Its type.
        found: DataType,
        /// What it has to hold.
        wanted: &'static str,
    },
    /// None of its columns is called as keys usually are.
    #[error("none of its columns ({}) is a usual key: name it with --key-column", one_line(&names.join(", ")))]
    NoKeys {
        /// The columns there are.
        names: Vec<String>,
    },
    /// None of its columns is called as image embeddings usually are.
    #[error("none of its columns ({}) is a usual image embedding: name it with --image-array", one_line(&names.join(", ")))]
    NoImages {
        /// The columns there are.
        names: Vec<String>,
    },
}

/// What can be wrong with a Parquet file itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParquetFault {
    /// What its reader found.
    #[error("{}", one_line(&.0.to_string()))]
    Reader(#[from] ParquetError),
    /// What came out of it is no table.
    #[error("{}", one_line(&.0.to_string()))]
    Table(#[from] ArrowError),
    /// Its reader gave up without a word.
    #[error("the file is broken beyond what its reader expects")]
    Broken,
    /// A column is compressed in a way that is not read here.
    #[error(
        "column {} is compressed by {codec}, which is not read here: write it with zstd or snappy",
        one_line(column)
    )]
    Codec {
        /// The column.
        column: String,
        /// What it is compressed by.
        codec: String,
    },
    /// Its footer cannot be true.
    #[error("an impossible number of rows")]
    Rows,
    /// It holds fewer rows than its footer says.
    #[error("rows from {first}: {found} were found of {expected}")]
    FewerRows {
        /// The first row that was asked for.
        first: usize,
        /// How many came.
        found: usize,
        /// How many its footer promises.
        expected: usize,
    },
}

/// What can be wrong with a folder of embeddings whose files are each as they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetFault {
    /// It is in none of the known layouts.
    #[error(
        "no embeddings here: expected img_emb/*.npy with text_emb/ and metadata/, or *.npz with \
         *.parquet, or *.parquet with embedding columns"
    )]
    NoEmbeddings,
    /// A shard lacks a file.
    #[error("no file that belongs to {}", shown(.0))]
    NoPartner(PathBuf),
    /// A file belongs to no shard.
    #[error("no file in img_emb that it belongs to")]
    Extra,
    /// Two files of a folder have one number.
    #[error("the same number as {}", shown(.0))]
    SameNumber(PathBuf),
    /// Some shards have metadata, and this one has none.
    #[error(
        "no .parquet file belongs to it, as {} does to its shard: all shards need one, or none",
        shown(.0)
    )]
    NoMetadata(PathBuf),
    /// A column was asked for, and there is no metadata.
    #[error("no metadata to take the column {0} from")]
    NoColumns(String),
    /// There is no row.
    #[error("no rows in any of its files")]
    Empty,
    /// There is no row that can be used.
    #[error("no row of it can be used")]
    NothingUsable,
    /// Images and captions are to be compared, and there are no captions.
    #[error(
        "no text embeddings: name a column of similarities with --score-column, or give \
         --score-window none"
    )]
    NoTexts,
    /// It holds a finished selection of other rows or with other options.
    #[error(
        "a finished selection is here, made from something else ({}): name a new folder, or give --force \
         to replace it",
        one_line(.0)
    )]
    OtherSelection(String),
    /// It holds something that is no selection's.
    #[error(
        "it holds {}, which is no selection's: name a new folder, or give --force",
        shown(.0)
    )]
    HoldsOther(PathBuf),
    /// A result is not what was written.
    #[error(
        "not what the selection left: move it away, and it is made again, or give --force to replace it"
    )]
    Touched,
    /// The results would be a part of what they are selected from.
    #[error("results may not go among the files they are selected from: name another folder")]
    InsideTheSet,
    /// Another process is at work.
    #[error("another selection is at work in this folder: wait for it, or name another folder")]
    Busy,
    /// None of its keys has a picture.
    #[error(
        "no picture of any of the {looked} keys: looked for {key}.jpg, .png, .webp and the like, here \
         and in folders and tar files of it",
        key = one_line(example)
    )]
    NoPictures {
        /// The keys.
        looked: u64,
        /// The first of them.
        example: String,
    },
    /// Kept keys have no picture.
    #[error(
        "{missing} of {rows} kept keys have no picture here, as {}.jpg or another: leave such keys out \
         with --missing-images skip",
        one_line(key)
    )]
    NoImage {
        /// Kept keys without one.
        missing: u64,
        /// Kept keys.
        rows: u64,
        /// The first without one.
        key: String,
    },
    /// Two kept keys have one picture.
    #[error(
        "the picture of several keys, {} among them: keys and pictures have to fit",
        one_line(key)
    )]
    SamePicture {
        /// The second of them.
        key: String,
    },
    /// No row is left.
    #[error("nothing was selected: the steps leave no row, widen their windows")]
    NothingSelected,
    /// No kept row has a picture and a caption.
    #[error(
        "it would be empty: of {rows} kept keys {missing} have no picture, and the others no caption"
    )]
    NothingToLearn {
        /// Kept keys.
        rows: u64,
        /// Those of them that have a caption and no picture.
        missing: u64,
    },
}

/// What can be wrong with one row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowFault {
    /// It cannot be used in a selection.
    #[error("{0}; leave such rows out with --invalid drop")]
    Unusable(Unusable),
    /// A centroid that is none.
    #[error("a centroid that is not finite, or longer than any embedding")]
    Centroid,
    /// A vector of zeros, or of numbers that are none.
    #[error("it has no direction")]
    NoDirection,
    /// A column says nothing of it.
    #[error("column {0} is null")]
    Null(String),
    /// What a column says of it is no text.
    #[error("column {0} holds bytes that are no text")]
    NotText(String),
    /// One of its numbers is missing.
    #[error("column {0} holds a null number")]
    NullNumber(String),
    /// Its embedding is empty.
    #[error("column {0} holds no numbers")]
    NoNumbers(String),
    /// Its embedding is of another width than the first one.
    #[error("{found} numbers in column {column}, and {expected} in row 0")]
    Width {
        /// The column.
        column: String,
        /// Numbers of this row.
        found: usize,
        /// Numbers of the first row.
        expected: usize,
    },
    /// Its embedding is of other numbers than floating-point ones.
    #[error("column {column} holds {}", one_line(&found.to_string()))]
    Type {
        /// The column.
        column: String,
        /// What it holds.
        found: DataType,
    },
}

/// Why a row of a set cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// NaN or infinity in its image.
    #[error("the image embedding holds a number that is not finite")]
    ImageNotFinite,
    /// An image without a direction, or of no embedding's length.
    #[error("the image embedding has no usable length (zero or over a million)")]
    ImageLength,
    /// NaN or infinity in its caption.
    #[error("the text embedding holds a number that is not finite")]
    TextNotFinite,
    /// A caption without a direction, or of no embedding's length.
    #[error("the text embedding has no usable length (zero or over a million)")]
    TextLength,
    /// No similarity of image and caption.
    #[error("the score is missing or not finite")]
    Score,
}

/// What can be wrong with an option of a coreset.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionFault {
    /// It is no address, or none that can be opened.
    #[error("{0}")]
    Address(String),
    /// It is an address of S3, which this program was built without.
    #[error("{} asks for S3: build with `--features s3`", .0.display())]
    NoS3(PathBuf),
    /// It is zero.
    #[error("has to be at least 1")]
    Zero,
    /// No cosine lies beyond it.
    #[error("has to lie between -1 and 1, both excluded")]
    NoCosine,
    /// It is no range of percent.
    #[error("has to be a range within 0 and 100 percent")]
    NoRange,
    /// SemDeDup's rule knows no median.
    #[error("SemDeDup orders rows and has no median: use far, near, random or max-score")]
    NoMedian,
    /// Nothing is trained where centroids are given.
    #[error("are used as they are: neither --clusters nor --start-from goes with them")]
    Untrained,
    /// More rounds of training than are counted.
    #[error("times {iterations} iterations are 2^32 rounds or more")]
    Rounds {
        /// The rounds on each sample.
        iterations: u32,
    },
    /// More clusters than rows.
    #[error("{clusters} clusters of {rows} rows")]
    MoreClustersThanRows {
        /// The clusters.
        clusters: u64,
        /// The rows.
        rows: u64,
    },
    /// As many clusters as centroids are given to start from, and not as many as were asked for.
    #[error("{given} centroids, and --clusters asks for {asked}")]
    OtherCount {
        /// The centroids that are given.
        given: u64,
        /// The clusters that were asked for.
        asked: u64,
    },
    /// A number of clusters that the rows do not allow.
    #[error("has to be between 1 and the number of rows")]
    NotBelowRows,
    /// A cluster too large to be compared.
    #[error("cluster {0} holds more than 2^32 rows: use more clusters")]
    LargeCluster(u32),
    /// Rows that are too many for one cluster.
    #[error("2^32 rows in one cluster are too many")]
    OneLargeCluster,
    /// A pretraining file is to be written, and there is nothing to write in it.
    #[error(
        "the set has no captions for a pretraining file: name their column with --caption-column"
    )]
    NoCaptions,
    /// The system gives no threads.
    #[error(transparent)]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

/// What can be wrong with a work file of a coreset: all are mended by removing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkFault {
    /// Its bytes are not what was written.
    #[error("a broken work file: remove the work folder")]
    Broken,
    /// Some of its bits are not those that were written.
    #[error("a damaged work file: check disk and memory, and remove the work folder")]
    Flipped,
    /// It ends within a record.
    #[error("not a whole number of records: remove the work folder")]
    CutShort,
    /// Rows that were read before are not in it.
    #[error("rows were lost: remove the work folder")]
    RowsLost,
    /// It should be a manifest.
    #[error("a broken manifest, or another program's: remove this file")]
    Manifest,
}

/// What can be wrong with a task, or with an engine that runs it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskFault {
    /// Its text is none.
    #[error("{0}")]
    Json(#[source] serde_json::Error),
    /// It comes from a newer version.
    #[error(
        "format_version {found} is newer than {known}, the last one known here: take a newer bunny"
    )]
    Newer {
        /// The version it says.
        found: u32,
        /// The newest one known here.
        known: u32,
    },
    /// It has fewer parts.
    #[error("there is no part {part} of {parts}")]
    NoPart {
        /// The part that was asked for.
        part: usize,
        /// How many there are.
        parts: usize,
    },
    /// The engine handed over too few results, or some twice.
    #[error("{found} results of {parts} parts")]
    Results {
        /// How many came.
        found: usize,
        /// How many there are to come.
        parts: usize,
    },
    /// Parts are to be done by others first.
    #[error("stage {} waits for {} of its {} parts", .0.stage, .0.missing.len(), .0.parts)]
    Wanted(Box<Wanted>),
    /// What a worker returned is no result of its task.
    #[error("a worker returned something else: {0}")]
    Result(#[source] serde_json::Error),
}
