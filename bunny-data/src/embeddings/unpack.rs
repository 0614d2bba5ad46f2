//! Embeddings that cannot be mapped where they lie, written once as `.npy` files.

use std::io::{Read, Seek, SeekFrom};

use flate2::read::DeflateDecoder;

use super::columns;
use super::matrix::{MatrixFile, Storage};
use super::npy::NpyHeader;
use crate::error::{ArrayFault, DataError, Result};
use crate::store::{self, NewFile, Opened, Store};

/// Writes `matrix` as a file of its own unless it can be mapped as it is or was written before, and
/// makes it refer to that file.
pub(super) fn unpack(store: &dyn Store, matrix: &mut MatrixFile, target: &str) -> Result<()> {
    if matches!(matrix.storage, Storage::Plain { .. }) {
        return Ok(());
    }
    if !store.exists(target)? {
        let packed = store.open(&matrix.key)?;
        store::fill(store, target, |out| match &matrix.storage {
            Storage::Plain { .. } => Ok(()),
            Storage::Deflated {
                offset,
                compressed,
                length,
            } => inflate(packed, *offset, *compressed, *length, out),
            Storage::Column { name } => column(packed, matrix, name, out),
        })?;
    }
    let unpacked = MatrixFile::npy(store, target)?;
    if (unpacked.rows, unpacked.dims, unpacked.dtype) != (matrix.rows, matrix.dims, matrix.dtype) {
        let fault = ArrayFault::UnpackedElsewhere(store.path(&matrix.key));
        return Err(DataError::array(store.path(target), fault));
    }
    *matrix = unpacked;
    Ok(())
}

fn inflate(
    packed: Opened,
    offset: u64,
    compressed: u64,
    length: u64,
    out: &mut NewFile,
) -> Result<()> {
    let Opened { mut file, path, .. } = packed;
    file.seek(SeekFrom::Start(offset))
        .map_err(DataError::io(&path, "read"))?;
    // One byte more than promised, so that a longer member is noticed.
    let mut bytes = DeflateDecoder::new(file.take(compressed)).take(length + 1);
    let written = std::io::copy(&mut bytes, out).map_err(DataError::io(&path, "inflate"))?;
    if written != length {
        return Err(DataError::array(path, ArrayFault::Inflated));
    }
    Ok(())
}

fn column(packed: Opened, matrix: &MatrixFile, name: &str, out: &mut NewFile) -> Result<()> {
    out.put(&NpyHeader::write(matrix.dtype, matrix.rows, matrix.dims))?;
    columns::for_each_embedding(packed, name, matrix.dims, |_, bytes| out.put(bytes))
}
