//! A matrix of embeddings on disk: rows of floating-point numbers, mapped, read as float32.

use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::f16;
use half::slice::HalfFloatSliceExt;
use memmap2::Mmap;
use serde::{Deserialize, Serialize};

use super::npy::{Dtype, NpyHeader};
use crate::error::{ArrayFault, DataError, Result};
use crate::store::{Opened, Store, WorkFile, is_work, map_file, release};

const _: () = assert!(
    cfg!(target_endian = "little"),
    "embedding files are little-endian and are read where they lie"
);

/// Where the rows of one matrix lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatrixFile {
    /// The key of the file.
    pub key: String,
    /// How the rows are kept in it.
    pub storage: Storage,
    /// The type of the numbers.
    pub dtype: Dtype,
    /// Number of rows.
    pub rows: u64,
    /// Numbers in a row.
    pub dims: usize,
}

/// How the rows of a matrix are kept in their file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// One after the other from this byte on: they can be mapped.
    Plain {
        /// Where the numbers start.
        offset: u64,
    },
    /// A deflated member of an archive: it is unpacked before use.
    Deflated {
        /// Where the compressed bytes start.
        offset: u64,
        /// How many they are.
        compressed: u64,
        /// The length of the `.npy` file inside, header included.
        length: u64,
    },
    /// A list column of a Parquet file: it is unpacked before use.
    Column {
        /// The name of the column.
        name: String,
    },
}

impl MatrixFile {
    /// Reads the header of a `.npy` file.
    ///
    /// # Errors
    /// When the file cannot be read, is no embedding matrix, or is not as long as its header says.
    pub fn npy(store: &dyn Store, key: &str) -> Result<Self> {
        if !is_work(key) {
            return Self::of(&store.open_partly(key)?, key);
        }
        let file = WorkFile::open(store, key)?;
        let length = file.payload().len();
        let start = 0..length.min(NpyHeader::PREFIX);
        file.check(start.clone())?;
        let header = NpyHeader::parse(&file.payload()[start], file.path())?;
        Self::at(&header, key, file.path(), 0, length as u64)
    }

    fn of(opened: &Opened, key: &str) -> Result<Self> {
        let (length, path) = (opened.len()?, &opened.path);
        opened.need(0..NpyHeader::PREFIX as u64)?;
        let mut start = Vec::new();
        (&opened.file)
            .take(NpyHeader::PREFIX as u64)
            .read_to_end(&mut start)
            .map_err(DataError::io(path, "read"))?;
        let header = NpyHeader::parse(&start, path)?;
        Self::at(&header, key, path, 0, length)
    }

    /// A matrix whose `.npy` bytes start at `start` in a file and are `length` long; errors name
    /// `place`.
    pub(super) fn at(
        header: &NpyHeader,
        key: &str,
        place: &Path,
        start: u64,
        length: u64,
    ) -> Result<Self> {
        check_length(header, place, length)?;
        Ok(Self {
            key: key.to_owned(),
            storage: Storage::Plain {
                offset: start + header.data_offset as u64,
            },
            dtype: header.dtype,
            rows: header.rows,
            dims: header.dims,
        })
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.dims * self.dtype.size()
    }

    /// Bytes of all rows.
    pub fn bytes(&self) -> u64 {
        self.rows * self.row_bytes() as u64
    }

    /// Maps the rows into memory.
    ///
    /// # Errors
    /// When the file cannot be mapped, has shrunk since its header was read, or must be unpacked
    /// first ([`EmbeddingSet::unpack`](super::EmbeddingSet::unpack)); for a damaged work file.
    pub fn map(&self, store: &dyn Store) -> Result<Matrix> {
        self.map_rows(store, 0..self.rows as usize)
    }

    /// As [`Self::map`], for a reader of some rows: no other rows of a work file are checked.
    pub(crate) fn map_rows(&self, store: &dyn Store, rows: Range<usize>) -> Result<Matrix> {
        if !is_work(&self.key) {
            let opened = store.open(&self.key)?;
            let map = map_file(&opened)?;
            return self.mapped(opened.path, map);
        }
        let file = WorkFile::open(store, &self.key)?;
        if let Storage::Plain { offset } = self.storage {
            let at = |row: usize| offset as usize + row * self.row_bytes();
            file.check(at(rows.start)..at(rows.end))?;
        }
        let (path, map) = file.into_map();
        self.mapped(path, map)
    }

    fn mapped(&self, path: PathBuf, map: Mmap) -> Result<Matrix> {
        let Storage::Plain { offset } = self.storage else {
            return Err(DataError::array(path, ArrayFault::Packed));
        };
        if (map.len() as u64) < offset + self.bytes() {
            return Err(DataError::array(path, ArrayFault::Shrunk));
        }
        Ok(Matrix {
            path,
            map,
            offset: offset as usize,
            dtype: self.dtype,
            rows: self.rows as usize,
            dims: self.dims,
        })
    }
}

/// Fails unless a `.npy` file of `length` bytes holds just what its header says.
pub(super) fn check_length(header: &NpyHeader, place: &Path, length: u64) -> Result<()> {
    let expected = header.data_offset as u64 + header.data_bytes().unwrap_or(u64::MAX >> 1);
    if expected == length {
        return Ok(());
    }
    let row = length.saturating_sub(header.data_offset as u64)
        / (header.dims * header.dtype.size()) as u64;
    Err(DataError::array(
        place,
        match length < expected {
            true => ArrayFault::CutShort {
                row,
                length,
                rows: header.rows,
                expected,
            },
            false => ArrayFault::TooLong(length - expected),
        },
    ))
}

/// A mapped matrix of embeddings.
#[derive(Debug)]
pub struct Matrix {
    path: PathBuf,
    map: Mmap,
    offset: usize,
    dtype: Dtype,
    rows: usize,
    dims: usize,
}

impl Matrix {
    /// Maps a `.npy` file of this machine.
    ///
    /// # Errors
    /// When the file cannot be read, is no embedding matrix, or is not as long as its header says.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let opened = Opened::at(path)?;
        let file = MatrixFile::of(&opened, "")?;
        let map = map_file(&opened)?;
        file.mapped(opened.path, map)
    }

    /// What messages call the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers in a row.
    pub fn width(&self) -> usize {
        self.dims
    }

    /// The bytes of some rows as they stand in the file.
    ///
    /// # Panics
    /// Where the range leaves the matrix.
    pub fn bytes(&self, rows: Range<usize>) -> &[u8] {
        assert!(rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        let row = self.dims * self.dtype.size();
        &self.map[self.offset + rows.start * row..self.offset + rows.end * row]
    }

    /// Copies rows into `out` (`[rows, dims]`) as float32, which holds every float16 exactly.
    ///
    /// # Panics
    /// Where the range leaves the matrix or `out` has another length.
    pub fn load(&self, rows: Range<usize>, out: &mut [f32]) {
        to_f32(self.bytes(rows), self.dtype, out);
    }

    /// Tells the system that these rows will not be read again soon, so that the pages of a
    /// mapped file do not add up to the size of the set.
    pub fn release(&self, rows: Range<usize>) {
        let row = self.dims * self.dtype.size();
        release(
            &self.map,
            self.offset + rows.start * row..self.offset + rows.end * row,
        );
    }
}

/// Little-endian numbers to float32.
///
/// # Panics
/// Where the lengths do not match.
pub(crate) fn to_f32(bytes: &[u8], dtype: Dtype, out: &mut [f32]) {
    assert_eq!(bytes.len(), out.len() * dtype.size(), "a slice per number");
    match dtype {
        Dtype::Float16 => match bytemuck::try_cast_slice::<u8, f16>(bytes) {
            Ok(halves) => halves.convert_to_f32_slice(out),
            // A member of an archive may start at an odd byte.
            Err(_) => {
                for (out, pair) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *out = f16::from_le_bytes(*pair).to_f32();
                }
            }
        },
        Dtype::Float32 => bytemuck::cast_slice_mut::<f32, u8>(out).copy_from_slice(bytes),
        Dtype::Float64 => {
            for (out, number) in out.iter_mut().zip(bytes.as_chunks::<8>().0) {
                *out = f64::from_le_bytes(*number) as f32;
            }
        }
    }
}
