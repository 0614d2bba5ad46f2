//! What can be wrong with a GGUF file.

use std::path::Path;

use super::CheckpointError;

/// What is wrong with a GGUF file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The file does not begin as it should.
    #[error("does not begin with `GGUF`; not a GGUF file?")]
    NotGguf,
    /// The file is of a version that is not read.
    #[error("GGUF of version {version}, and 2 and 3 are read: convert the model again")]
    Version {
        /// Its version.
        version: u32,
    },
    /// The numbers are stored with their high bytes first.
    #[error("stored big-endian; convert it on a little-endian machine")]
    BigEndian,
    /// The file is one of several that are one model.
    #[error("one of {parts} parts of a model: join them with `llama-gguf-split --merge`")]
    Split {
        /// How many there are.
        parts: u64,
    },
    /// The header ends too early.
    #[error("cut within its header, at byte {at}; download it again")]
    Cut {
        /// Where it ends.
        at: usize,
    },
    /// The header counts more than the file has bytes for.
    #[error("says that it has {count} {what}, for which its {bytes} bytes have no room")]
    Count {
        /// Of what.
        what: &'static str,
        /// How many it says there are.
        count: u64,
        /// Bytes of the file.
        bytes: usize,
    },
    /// A name or a text is none.
    #[error("the text at byte {at} is not UTF-8")]
    NotUtf8 {
        /// Where it begins.
        at: usize,
    },
    /// A key has a value of a kind that the format does not know.
    #[error("key `{key}` has a value of type {id}, which is none of the format")]
    ValueType {
        /// The key.
        key: String,
        /// The number of the type.
        id: u32,
    },
    /// A key holds lists of lists.
    #[error("key `{key}` holds lists of lists, which no model has")]
    Nested {
        /// The key.
        key: String,
    },
    /// A key occurs twice.
    #[error("key `{key}` is there twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A value is not what the key asks for.
    #[error("key `{key}` {problem}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A tensor occurs twice.
    #[error("tensor `{tensor}` is listed twice")]
    DuplicateTensor {
        /// The tensor.
        tensor: String,
    },
    /// A tensor's numbers are of a type that is not read.
    #[error(
        "tensor `{tensor}` holds {kind} numbers, and F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, \
         Q5_K and Q6_K are read: take another file of the model"
    )]
    TensorType {
        /// The tensor.
        tensor: String,
        /// The name of the type.
        kind: String,
    },
    /// A tensor has no dimensions, too many, or one without numbers.
    #[error("tensor `{tensor}` has a shape {shape:?} that cannot be")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its shape, the fastest dimension first.
        shape: Vec<u64>,
    },
    /// Rows are no whole blocks.
    #[error(
        "tensor `{tensor}` has rows of {row} numbers, and {kind} has them in blocks of {block}"
    )]
    Row {
        /// The tensor.
        tensor: String,
        /// Numbers of a row.
        row: u64,
        /// Its type.
        kind: &'static str,
        /// Numbers of a block.
        block: usize,
    },
    /// A tensor begins where none can.
    #[error("tensor `{tensor}` begins at byte {offset}, which is no multiple of {alignment}")]
    Misaligned {
        /// The tensor.
        tensor: String,
        /// Where it begins, from the first tensor on.
        offset: u64,
        /// What it should be a multiple of.
        alignment: u64,
    },
    /// A tensor reaches beyond the file.
    #[error("cut: tensor `{tensor}` ends at byte {end} of {found}; download it again")]
    DataCut {
        /// The tensor.
        tensor: String,
        /// Where it ends.
        end: u64,
        /// Bytes of the file.
        found: usize,
    },
    /// Two tensors share bytes.
    #[error("tensors `{first}` and `{second}` lie over each other")]
    Overlap {
        /// The tensor that begins first.
        first: String,
        /// The other one.
        second: String,
    },
}

impl GgufError {
    /// The error as one of the file at `path`.
    pub fn at(self, path: impl AsRef<Path>) -> CheckpointError {
        CheckpointError::Gguf {
            path: path.as_ref().to_path_buf(),
            fault: self,
        }
    }
}
