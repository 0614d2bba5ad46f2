//! Embeddings that cannot be mapped where they lie, written once as `.npy` files.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use flate2::read::DeflateDecoder;

use super::columns;
use super::matrix::{MatrixFile, Storage};
use super::npy::NpyHeader;
use crate::error::{ArrayFault, DataError, Result};
use crate::whole::WholeFile;

/// Writes `matrix` to `folder/name` unless it can be mapped as it is or was written before, and
/// makes it refer to that file.
pub(super) fn unpack(matrix: &mut MatrixFile, folder: &Path, name: &str) -> Result<()> {
    if matches!(matrix.storage, Storage::Plain { .. }) {
        return Ok(());
    }
    let target = folder.join(name);
    if !target.is_file() {
        std::fs::create_dir_all(folder).map_err(DataError::io(folder, "create"))?;
        WholeFile::fill(&target, |out| match &matrix.storage {
            Storage::Plain { .. } => Ok(()),
            Storage::Deflated {
                offset,
                compressed,
                length,
            } => inflate(matrix, *offset, *compressed, *length, out),
            Storage::Column { name } => column(matrix, name, out),
        })?;
    }
    let unpacked = MatrixFile::npy(&target)?;
    if (unpacked.rows, unpacked.dims, unpacked.dtype) != (matrix.rows, matrix.dims, matrix.dtype) {
        let fault = ArrayFault::UnpackedElsewhere(matrix.path.clone());
        return Err(DataError::array(&target, fault));
    }
    *matrix = unpacked;
    Ok(())
}

fn inflate(
    matrix: &MatrixFile,
    offset: u64,
    compressed: u64,
    length: u64,
    out: &mut WholeFile,
) -> Result<()> {
    let path = &matrix.path;
    let mut file = File::open(path).map_err(DataError::io(path, "open"))?;
    file.seek(SeekFrom::Start(offset))
        .map_err(DataError::io(path, "read"))?;
    // One byte more than promised, so that a longer member is noticed.
    let mut bytes = DeflateDecoder::new(file.take(compressed)).take(length + 1);
    let written = std::io::copy(&mut bytes, out).map_err(DataError::io(path, "inflate"))?;
    if written != length {
        return Err(DataError::array(path, ArrayFault::Inflated));
    }
    Ok(())
}

fn column(matrix: &MatrixFile, name: &str, out: &mut WholeFile) -> Result<()> {
    out.put(&NpyHeader::write(matrix.dtype, matrix.rows, matrix.dims))?;
    columns::for_each_embedding(&matrix.path, name, matrix.dims, |_, bytes| {
        Ok(out.put(bytes)?)
    })
}
