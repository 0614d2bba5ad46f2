//! GGUF, the file format of llama.cpp: typed remarks, then tensors whose numbers may be in blocks.
//!
//! ```text
//! | "GGUF" | version | counts | key: value, … | name, shape, type, offset, … | padding | tensors |
//! ```
//! Everything is little endian. Offsets count from the first tensor; they and the start of the tensors
//! are multiples of `general.alignment`, 32 unless it is said. Shapes say the fastest dimension first,
//! so that a weight `[out, in]` is listed as `in, out`; here they are in the usual order.
//!
//! [`GgufFile`] opens a file, and checks all it says against its length; [`write_file`] writes one, a
//! few rows at a time. Which model a file holds is not known here.

mod block;
mod metadata;
mod read;
mod round;
#[cfg(test)]
mod tests;
mod write;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use bytes::Bytes;

use crate::{
    StoredTensor, TensorFiles,
    error::CheckpointError,
    files::{LFS_POINTER, Map},
};

pub use crate::plan::TensorSink;
pub use block::TensorType;
pub use metadata::{Array, Metadata, Value};
pub use round::{NotRounded, round_rows};
pub use write::{PlannedBlocks, write_file};

/// The first bytes of every such file.
pub const MAGIC: [u8; 4] = *b"GGUF";

/// A tensor that has been found and checked, but not read.
#[derive(Debug, Clone)]
pub struct GgufTensor {
    /// Its name in the file.
    pub name: String,
    /// What its numbers are held in.
    pub kind: TensorType,
    /// Its shape, rows first.
    pub shape: Vec<usize>,
    /// Its numbers: part of the mapped file.
    pub bytes: Bytes,
    /// The file it is from.
    pub file: Arc<Path>,
}

impl GgufTensor {
    /// The same as a tensor of floats that is called `name`, if it holds floats.
    pub fn floats(&self, name: impl Into<String>) -> Option<StoredTensor> {
        Some(StoredTensor {
            name: name.into(),
            dtype: self.kind.float()?,
            shape: self.shape.clone(),
            bytes: self.bytes.clone(),
            file: self.file.clone(),
        })
    }

    /// Some of its rows, as if they were all.
    ///
    /// # Panics
    /// When there are no such rows.
    #[must_use]
    pub fn some_rows(&self, rows: std::ops::Range<usize>) -> Self {
        let bytes = self.bytes.len() / self.shape[0];
        let mut shape = self.shape.clone();
        shape[0] = rows.len();
        Self {
            bytes: self.bytes.slice(rows.start * bytes..rows.end * bytes),
            shape,
            ..self.clone()
        }
    }
}

/// A GGUF file that is open: its remarks, and where its tensors lie.
#[derive(Debug)]
pub struct GgufFile {
    path: Arc<Path>,
    metadata: Metadata,
    tensors: BTreeMap<String, GgufTensor>,
    map: Option<Map>,
}

impl GgufFile {
    /// Whether the file at `path` begins as such files do.
    pub fn is_one(path: impl AsRef<Path>) -> bool {
        use std::io::Read;

        let mut start = [0; 4];
        let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
        read.is_ok() && start == MAGIC
    }

    /// Opens a file. Its header is read and checked; nothing else is until a tensor's bytes are touched.
    ///
    /// # Errors
    /// A file that cannot be read or is not whole, is one of several, is of a version that is not read,
    /// or holds numbers in a type that is not.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let map = Map::open(path.as_ref())?;
        let mut file = Self::from_bytes(path, map.bytes())?;
        file.map = Some(map);
        Ok(file)
    }

    /// As [`open`](Self::open), for a file that is in memory already; `path` names it in errors.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(path: impl AsRef<Path>, bytes: Bytes) -> Result<Self, CheckpointError> {
        let path: Arc<Path> = path.as_ref().into();
        if bytes.starts_with(LFS_POINTER) {
            let path = path.to_path_buf();
            return Err(CheckpointError::LfsPointer { path });
        }
        let header = read::parse(&bytes).map_err(|fault| fault.at(&path))?;
        let tensors = header.tensors.into_iter().map(|entry| {
            let tensor = GgufTensor {
                name: entry.name.clone(),
                kind: entry.kind,
                shape: entry.shape,
                bytes: bytes.slice(entry.bytes),
                file: path.clone(),
            };
            (entry.name, tensor)
        });
        Ok(Self {
            tensors: tensors.collect(),
            metadata: header.metadata,
            path,
            map: None,
        })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says beside its tensors.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The names of its tensors, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor.
    pub fn get(&self, name: &str) -> Option<&GgufTensor> {
        self.tensors.get(name)
    }

    /// Some of its tensors of floats, under other names, as if safetensors held them.
    ///
    /// # Errors
    /// Two tensors of one name.
    pub fn as_tensor_files(
        &self,
        tensors: impl IntoIterator<Item = StoredTensor>,
    ) -> Result<TensorFiles, CheckpointError> {
        Ok(TensorFiles::from_tensors(tensors)?.of_map(self.map.clone()))
    }
}
