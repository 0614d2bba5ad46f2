//! What can be wrong with files of weights, in one line that names file, tensor and mend.

mod gguf;

use std::path::{Path, PathBuf};

pub use gguf::GgufError;

/// An error about files of weights. The message says all there is; nothing hides in `source`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The system refuses a file.
    #[error("{}: {fault}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        fault: std::io::Error,
    },
    /// A safetensors file is not as it should be.
    #[error("{}: {fault}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: HeaderError,
    },
    /// A pickled file is not as it should be.
    #[error("{}: {fault}", path.display())]
    Pickle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: PickleError,
    },
    /// A GGUF file is not as it should be.
    #[error("{}: {fault}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: GgufError,
    },
    /// An index of shards is not as it should be.
    #[error("{}: {fault}", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong with it.
        fault: IndexError,
    },
    /// An adapter's folder is not as it should be.
    #[error("{}: {fault}", path.display())]
    Adapter {
        /// The file at fault.
        path: PathBuf,
        /// What is wrong with it.
        fault: AdapterError,
    },
    /// A file of Git LFS that stands for one that was not downloaded.
    #[error("{}: a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`", path.display())]
    LfsPointer {
        /// The file.
        path: PathBuf,
    },
    /// Weights in integers are not as they should be.
    #[error("{}: {fault}", place.display())]
    Packed {
        /// The file, or the configuration.
        place: PathBuf,
        /// What is wrong.
        fault: PackedError,
    },
    /// A tensor's numbers cannot be held in integers.
    #[error("tensor `{tensor}` cannot be packed: {problem}")]
    Unpackable {
        /// The tensor.
        tensor: String,
        /// Why.
        problem: String,
    },
    /// A folder has no weights under a known name.
    #[error(
        "{}: no weights here; looked for model.safetensors, pytorch_model.bin and their \
         .index.json{hint}",
        folder.display()
    )]
    NoWeights {
        /// The folder.
        folder: PathBuf,
        /// What lies there instead, if that is known.
        hint: &'static str,
    },
    /// A file's ending is not one of a file of weights.
    #[error("{}: not a file of weights; expected .safetensors, .bin, .pt or .pth", path.display())]
    UnknownEnding {
        /// The file.
        path: PathBuf,
    },
    /// Two files hold a tensor of one name, or a renaming makes two names one.
    #[error(
        "tensor `{tensor}` is in both {} and {}; leave one of them out",
        first.display(),
        second.display()
    )]
    DuplicateTensor {
        /// The tensor.
        tensor: String,
        /// The file it was met in first.
        first: PathBuf,
        /// The file it was met in again.
        second: PathBuf,
    },
    /// A tensor was planned with one size and handed over with another.
    #[error(
        "{}: tensor `{tensor}` was planned with {planned} bytes and came with {found}",
        path.display()
    )]
    PlannedSize {
        /// The file that was being written; it does not exist.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Bytes of the planned shape and number type.
        planned: u64,
        /// Bytes handed over.
        found: u64,
    },
    /// A model was to be written in a number type that no weight has.
    #[error("{}: a model cannot be written in {dtype}; take F32, F16, BF16 or F64", folder.display())]
    NotAFloat {
        /// The folder that was to be written.
        folder: PathBuf,
        /// The number type asked for.
        dtype: &'static str,
    },
    /// A tensor is stored in a type that no weight has.
    #[error("{}: tensor `{tensor}` holds {dtype} numbers, a weight holds floats", file.display())]
    NotFloat {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The stored type.
        dtype: &'static str,
    },
    /// The tensors of a checkpoint are not those of its configuration.
    #[error(
        "{place}: the weights do not fit the configuration:{}",
        listed(missing, misshapen, unexpected)
    )]
    Mismatch {
        /// The files.
        place: String,
        /// Tensors that are not there.
        missing: Vec<String>,
        /// Tensors of another shape, with both shapes.
        misshapen: Vec<String>,
        /// Tensors that no part of the model asks for.
        unexpected: Vec<String>,
    },
    /// A plan names a tensor twice, or something that no file can hold.
    #[error("{}: cannot write tensor `{tensor}`: {reason}", path.display())]
    Plan {
        /// The file that was to be written.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Why not.
        reason: &'static str,
    },
}

impl From<bunny_base::FileError> for CheckpointError {
    fn from(error: bunny_base::FileError) -> Self {
        Self::Io {
            path: error.path,
            fault: error.source,
        }
    }
}

/// What is wrong with a safetensors file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The file ends before its header's length.
    #[error("only {found} bytes long; a safetensors file has at least 10, download it again")]
    TooShort {
        /// Bytes there are.
        found: usize,
    },
    /// The header's length is more than any real file has.
    #[error("header of {length} bytes, more than the {limit} allowed; not a safetensors file?")]
    TooLarge {
        /// The length given.
        length: u64,
        /// The most that is read.
        limit: u64,
    },
    /// The file ends within its header.
    #[error("cut within its header of {length} bytes ({found} are there); download it again")]
    Cut {
        /// The length given.
        length: u64,
        /// Bytes there are.
        found: u64,
    },
    /// The header is no UTF-8 text.
    #[error("header is not UTF-8 at its byte {at}; not a safetensors file?")]
    NotUtf8 {
        /// Where it ceases to be.
        at: usize,
    },
    /// The header does not start as an object does.
    #[error("header does not start with `{{`; not a safetensors file?")]
    NotAnObject,
    /// The header is not JSON of the expected form.
    #[error("header is not as safetensors writes it: {reason}")]
    Json {
        /// What the parser says.
        reason: String,
    },
    /// A name occurs twice.
    #[error("tensor `{tensor}` is listed twice")]
    DuplicateTensor {
        /// The tensor.
        tensor: String,
    },
    /// The number type is none that is read here.
    #[error("tensor `{tensor}` has number type {dtype}, which is not supported; cast it first")]
    UnknownDtype {
        /// The tensor.
        tensor: String,
        /// The number type given.
        dtype: String,
    },
    /// A tensor ends before it begins.
    #[error("tensor `{tensor}` ends at byte {end}, before it begins at {begin}")]
    Reversed {
        /// The tensor.
        tensor: String,
        /// Where it begins.
        begin: u64,
        /// Where it ends.
        end: u64,
    },
    /// A shape has more elements than can be counted.
    #[error("tensor `{tensor}` has a shape {shape:?} that no memory holds")]
    Overflow {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// Shape and number type ask for another number of bytes than there are.
    #[error("tensor `{tensor}` {shape:?} of {dtype} needs {expected} bytes but has {found}")]
    WrongSize {
        /// The tensor.
        tensor: String,
        /// Its number type.
        dtype: &'static str,
        /// Its shape.
        shape: Vec<u64>,
        /// Bytes it needs.
        expected: u64,
        /// Bytes between its offsets.
        found: u64,
    },
    /// Two tensors share bytes.
    #[error("tensor `{tensor}` begins at byte {begin}, within the one before, which ends at {end}")]
    Overlap {
        /// The tensor that comes second.
        tensor: String,
        /// Where it begins.
        begin: u64,
        /// Where the one before ends.
        end: u64,
    },
    /// Bytes belong to no tensor.
    #[error("tensor `{tensor}` begins at byte {begin}, but the one before ends at {end}")]
    Gap {
        /// The tensor after the gap.
        tensor: String,
        /// Where it begins.
        begin: u64,
        /// Where the one before ends.
        end: u64,
    },
    /// The file ends before its tensors do.
    #[error("cut: the tensors need {expected} bytes but {found} are there; download it again")]
    DataCut {
        /// Bytes of all tensors.
        expected: u64,
        /// Bytes after the header.
        found: u64,
    },
    /// The file goes on after its tensors.
    #[error("{found} bytes of data where the tensors need {expected}; download it again")]
    DataLeft {
        /// Bytes of all tensors.
        expected: u64,
        /// Bytes after the header.
        found: u64,
    },
}

/// What is wrong with an index of shards.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The index is larger than any real one.
    #[error("{length} bytes, more than the {limit} allowed; not an index of shards?")]
    TooLarge {
        /// Its length.
        length: u64,
        /// The most that is read.
        limit: u64,
    },
    /// The index is not JSON of the expected form.
    #[error("not an index of shards: {reason}")]
    Json {
        /// What the parser says.
        reason: String,
    },
    /// A name occurs twice.
    #[error("tensor `{tensor}` is listed twice")]
    DuplicateTensor {
        /// The tensor.
        tensor: String,
    },
    /// A shard's name leads out of the folder.
    #[error("shard `{shard}` is not the plain name of a file beside the index")]
    OutsideFolder {
        /// The name given.
        shard: String,
    },
    /// A shard is not there.
    #[error("shard `{shard}` is missing from the folder; download it too")]
    MissingShard {
        /// The shard.
        shard: String,
    },
    /// A shard lacks tensors that the index says it has.
    #[error(
        "shard `{shard}` lacks tensor `{tensor}` and {more} more; index and shards differ in version"
    )]
    MissingTensor {
        /// The shard.
        shard: String,
        /// The first tensor it lacks.
        tensor: String,
        /// How many more it lacks.
        more: usize,
    },
}

/// What is wrong with a file that torch pickled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PickleError {
    /// Neither a zip archive nor torch's older format.
    #[error("neither a torch archive nor torch's older format; is it whole, and from torch.save?")]
    NotTorch,
    /// The archive's directory is damaged.
    #[error("damaged archive: {reason}; download it again")]
    Archive {
        /// What is damaged.
        reason: &'static str,
    },
    /// An entry of the archive is compressed or encrypted.
    #[error("entry `{entry}` is compressed or encrypted; save it again with torch.save")]
    Compressed {
        /// The entry.
        entry: String,
    },
    /// The archive lacks an entry.
    #[error("the archive lacks `{entry}`; download it again")]
    MissingEntry {
        /// The entry.
        entry: String,
    },
    /// The file holds a program, not a state dict.
    #[error("a TorchScript program; save its state_dict() instead")]
    TorchScript,
    /// The numbers are stored with their high bytes first.
    #[error("stored big-endian; save it again on a little-endian machine")]
    BigEndian,
    /// The pickle is larger than any real one, or holds more values.
    #[error("the pickle has more than {limit} {unit}; save a plain state dict")]
    TooLarge {
        /// The most that is read.
        limit: usize,
        /// Of what.
        unit: &'static str,
    },
    /// The pickle ends too early.
    #[error("the pickle ends within an instruction, at byte {at}; download it again")]
    Cut {
        /// Where.
        at: usize,
    },
    /// An instruction that no state dict needs.
    #[error("pickle instruction 0x{opcode:02x} at byte {at} has no place in a state dict")]
    Opcode {
        /// The instruction.
        opcode: u8,
        /// Where it stands.
        at: usize,
    },
    /// The pickle asks for code that is not on the short list of what a state dict needs.
    #[error(
        "refuses to load `{module}.{name}`: a state dict needs no such thing; save only tensors"
    )]
    Global {
        /// The module.
        module: String,
        /// The name in it.
        name: String,
    },
    /// An instruction lacks what it works on.
    #[error("damaged pickle: {reason} at byte {at}")]
    Damaged {
        /// What is wrong.
        reason: &'static str,
        /// Where.
        at: usize,
    },
    /// The file holds something else than a dictionary of tensors.
    #[error("holds {kind}, not a dictionary of tensors; save a state_dict()")]
    NotAStateDict {
        /// What it holds.
        kind: &'static str,
    },
    /// A key of the dictionary is no text.
    #[error("the state dict has {kind} for a key, not a name; save a state_dict()")]
    KeyNotText {
        /// What the key is.
        kind: &'static str,
    },
    /// An entry of the dictionary is no tensor.
    #[error("entry `{name}` is {kind}, not a tensor; save it without")]
    NotATensor {
        /// The entry.
        name: String,
        /// What it is.
        kind: &'static str,
    },
    /// A name occurs twice.
    #[error("tensor `{tensor}` is listed twice")]
    DuplicateTensor {
        /// The tensor.
        tensor: String,
    },
    /// A tensor has more dimensions than are read.
    #[error("a tensor has {found} dimensions, more than the {limit} allowed")]
    Dimensions {
        /// Dimensions it has.
        found: usize,
        /// The most that are read.
        limit: usize,
    },
    /// A size, a stride or an offset is negative, or shape and strides differ in length.
    #[error(
        "tensor `{tensor}` has shape {shape:?}, strides {strides:?} and offset {offset}, which cannot be"
    )]
    Layout {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<i64>,
        /// Its strides.
        strides: Vec<i64>,
        /// Its offset, in elements.
        offset: i64,
    },
    /// A tensor reaches beyond its storage.
    #[error("tensor `{tensor}` reaches beyond its storage of {elements} elements")]
    BeyondStorage {
        /// The tensor.
        tensor: String,
        /// Elements of the storage.
        elements: u64,
    },
    /// A tensor repeats stored elements until it is larger than what is stored.
    #[error("tensor `{tensor}` is an expanded view; save it again after .contiguous()")]
    Expanded {
        /// The tensor.
        tensor: String,
    },
    /// A tensor is a lazily conjugated or negated view.
    #[error("tensor `{tensor}` is a lazy view; save it again after .resolve_neg().resolve_conj()")]
    LazyView {
        /// The tensor.
        tensor: String,
    },
    /// A storage has another number of bytes than the pickle says.
    #[error("storage `{storage}` needs {expected} bytes but has {found}; download it again")]
    StorageSize {
        /// The storage's key.
        storage: String,
        /// Bytes it needs.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
}

/// What is wrong with an adapter.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// The configuration is not JSON of the expected form.
    #[error("not a PEFT adapter's configuration: {reason}")]
    Json {
        /// What the parser says.
        reason: String,
    },
    /// A field has a value that cannot be used.
    #[error("field `{field}` is {value}; {mend}")]
    Field {
        /// The field.
        field: String,
        /// Its value.
        value: String,
        /// What is supported.
        mend: &'static str,
    },
    /// A tensor's name is not one of a LoRA matrix.
    #[error(
        "tensor `{tensor}` is neither LoRA's nor one that the configuration says was trained as a whole"
    )]
    NotLora {
        /// The tensor.
        tensor: String,
    },
    /// A matrix is there under two names.
    #[error("tensor `{tensor}` is also there under its name in torch; leave one of them out")]
    Twice {
        /// The tensor.
        tensor: String,
    },
    /// The folder has a configuration and no matrices.
    #[error("no adapter_model.safetensors or adapter_model.bin here; save the adapter again")]
    NoWeights,
    /// One matrix of a pair is missing.
    #[error("`{target}` lacks its {missing}; save the adapter again")]
    Unpaired {
        /// The layer.
        target: String,
        /// `lora_A` or `lora_B`.
        missing: &'static str,
    },
    /// A matrix does not have the rank of the configuration.
    #[error("`{target}`: lora_A {a:?} and lora_B {b:?} do not have rank {rank} in common")]
    Rank {
        /// The layer.
        target: String,
        /// Shape of lora_A, which should be `[rank, in]`.
        a: Vec<usize>,
        /// Shape of lora_B, which should be `[out, rank]`.
        b: Vec<usize>,
        /// The rank that the configuration gives.
        rank: usize,
    },
    /// A vector beside a layer does not have a number for each of its rows.
    #[error("`{tensor}` is {shape:?}, expected [{rows}]")]
    Vector {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Rows of the layer.
        rows: usize,
    },
}

/// How many tensors of a kind of fault are named.
const NAMED: usize = 16;

/// All faults of a checkpoint's tensors, in one line.
fn listed(missing: &[String], misshapen: &[String], unexpected: &[String]) -> String {
    [
        ("missing", missing),
        ("misshapen", misshapen),
        ("unexpected", unexpected),
    ]
    .into_iter()
    .filter(|(_, tensors)| !tensors.is_empty())
    .map(|(fault, tensors)| {
        let count = tensors.len();
        let named = tensors.iter().take(NAMED).map(|name| one_line(name));
        let named = named.collect::<Vec<_>>().join(", ");
        let rest = match count.saturating_sub(NAMED) {
            0 => String::new(),
            rest => format!(", and {rest} more"),
        };
        format!(" {count} {fault} ({named}{rest})")
    })
    .collect::<Vec<_>>()
    .join(";")
}

/// What is wrong with weights in integers, or with what is said of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackedError {
    /// `quantization_config` says something that is not read.
    #[error("`quantization_config.{field}` {problem}")]
    Config {
        /// The field.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A part of a weight is not there.
    #[error("`{tensor}` is missing beside `{beside}`")]
    Missing {
        /// The part.
        tensor: String,
        /// Where it should be.
        beside: String,
    },
    /// A part of a weight has another type or shape.
    #[error("`{tensor}` is {found}, expected {expected}")]
    Misshapen {
        /// The part.
        tensor: String,
        /// Type and shape.
        found: String,
        /// What they should be.
        expected: String,
    },
    /// A layer's numbers are stored in a way that is not read.
    #[error("`{tensor}` {problem}")]
    NotRead {
        /// The tensor that says so.
        tensor: String,
        /// What it says.
        problem: &'static str,
    },
}

impl PackedError {
    /// The error as one of the files in `place`.
    pub fn at(self, place: impl AsRef<Path>) -> CheckpointError {
        CheckpointError::Packed {
            place: place.as_ref().to_path_buf(),
            fault: self,
        }
    }
}

/// Text of a file for a message: on one line, and not too long.
pub(crate) fn one_line(text: &str) -> String {
    const LONGEST: usize = 160;
    let mut line = String::new();
    for character in text.chars().take(LONGEST) {
        match character {
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                line.extend(c.escape_default());
            }
            c => line.push(c),
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line
}
