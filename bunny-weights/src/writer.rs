//! Writing safetensors: one file or shards with an index, whole or not at all.
//!
//! What is to be written is planned first, by name, number type and shape; then one tensor at a
//! time is asked for and written, so that a model larger than the memory can be written.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bunny_base::{AtomicFile, atomic_file::SyncedFile};

use super::index::{Index, TotalSize};
use super::safetensors::METADATA;
use crate::StoredDtype;
use crate::error::CheckpointError;
use crate::plan::{Planned, check_plan};

pub use crate::plan::TensorSink;

/// The largest shard that `transformers` writes by default.
pub const MAX_SHARD_SIZE: u64 = 5_000_000_000;

/// A tensor that is going to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Its name.
    pub name: String,
    /// The type of its numbers.
    pub dtype: StoredDtype,
    /// Its shape.
    pub shape: Vec<usize>,
}

impl PlannedTensor {
    /// Bytes of its numbers.
    pub fn size(&self) -> u64 {
        self.shape
            .iter()
            .fold(self.dtype.size() as u64, |bytes, &size| {
                bytes.saturating_mul(size as u64)
            })
    }
}

impl Planned for PlannedTensor {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.size()
    }
}

/// Writes `plan` to one safetensors file, replacing the one at `path` only when it is complete.
///
/// `read` hands over a tensor's numbers, little endian and row-major; it is asked once for each
/// tensor, in the order of the file.
///
/// # Errors
///
/// Those of `read`; a file that cannot be written; a plan that names a tensor twice; numbers of
/// another size than planned. In each case there is no new file, and the old one is untouched.
pub fn write_file<B, E>(
    path: impl AsRef<Path>,
    plan: &[PlannedTensor],
    mut read: impl FnMut(&PlannedTensor) -> Result<B, E>,
) -> Result<(), E>
where
    B: AsRef<[u8]>,
    E: From<CheckpointError>,
{
    let path = path.as_ref();
    check_plan(path, plan, objection)?;
    let tensors: Vec<_> = plan.iter().collect();
    let written = write_temporary::<E>(path, &tensors, &mut |tensor, sink| {
        Ok(sink.put(read(tensor)?.as_ref())?)
    })?;
    Ok(written.publish().map_err(CheckpointError::from)?)
}

/// Writes `plan` to a model's folder as `transformers` does: `model.safetensors` if everything
/// fits into `max_shard_size` bytes (often [`MAX_SHARD_SIZE`]), else shards
/// `model-00001-of-0000N.safetensors` and their `model.safetensors.index.json`.
///
/// Weights that the folder held under these names are replaced. The new files get their names
/// once all of them are on the disk, the index last, so the folder never holds a mixture that loads.
///
/// Returns the files written, the index last.
///
/// # Errors
///
/// As [`write_file`].
pub fn write_folder<B, E>(
    folder: impl AsRef<Path>,
    plan: &[PlannedTensor],
    max_shard_size: u64,
    mut read: impl FnMut(&PlannedTensor) -> Result<B, E>,
) -> Result<Vec<PathBuf>, E>
where
    B: AsRef<[u8]>,
    E: From<CheckpointError>,
{
    write_folder_in_blocks(folder, plan, max_shard_size, |tensor, sink| {
        Ok(sink.put(read(tensor)?.as_ref())?)
    })
}

/// As [`write_folder`], a tensor's numbers coming in as many blocks as `write` likes, so that no whole
/// tensor has to be in memory.
///
/// # Errors
///
/// As [`write_file`], those of `write` in place of `read`'s.
pub fn write_folder_in_blocks<E: From<CheckpointError>>(
    folder: impl AsRef<Path>,
    plan: &[PlannedTensor],
    max_shard_size: u64,
    mut write: impl FnMut(&PlannedTensor, &mut TensorSink<'_>) -> Result<(), E>,
) -> Result<Vec<PathBuf>, E> {
    let folder = folder.as_ref();
    let single = folder.join("model.safetensors");
    let index_path = folder.join("model.safetensors.index.json");
    check_plan(&single, plan, objection)?;
    fs::create_dir_all(folder).map_err(io_error(folder))?;
    let shards = shards(plan, max_shard_size);
    let count = shards.len();
    let mut written = Vec::with_capacity(count + 1);
    let mut index = Index {
        metadata: TotalSize {
            total_size: plan.iter().map(PlannedTensor::size).sum(),
        },
        weight_map: BTreeMap::new(),
    };
    let names: Vec<_> = (1..=count)
        .map(|number| match count {
            1 => "model.safetensors".to_string(),
            _ => format!("model-{number:05}-of-{count:05}.safetensors"),
        })
        .collect();
    for (name, tensors) in names.iter().zip(&shards) {
        written.push(write_temporary(&folder.join(name), tensors, &mut write)?);
        index
            .weight_map
            .extend(tensors.iter().map(|tensor| (tensor.name.as_str(), &**name)));
    }

    if count > 1 {
        let mut file = AtomicFile::create(&index_path).map_err(CheckpointError::from)?;
        let json = serde_json::to_vec_pretty(&index)
            .map_err(|error| io_error(&index_path)(error.into()))?;
        file.put(&json).map_err(CheckpointError::from)?;
        file.put(b"\n").map_err(CheckpointError::from)?;
        written.push(file.sync().map_err(CheckpointError::from)?);
    }

    // From here on nothing is written, so that a full disk is met before the old weights go.
    for old in old_weights(folder).map_err(io_error(folder))? {
        fs::remove_file(&old).map_err(io_error(&old))?;
    }
    let mut paths = Vec::with_capacity(written.len());
    for file in written {
        paths.push(file.path().to_path_buf());
        file.publish().map_err(CheckpointError::from)?;
    }
    Ok(paths)
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> CheckpointError {
    move |fault| CheckpointError::Io {
        path: path.to_path_buf(),
        fault,
    }
}

fn objection(tensor: &PlannedTensor) -> Option<&'static str> {
    (tensor.name == METADATA).then_some("the format keeps this name for remarks")
}

/// Fills shards in the order of the plan.
fn shards(plan: &[PlannedTensor], max_size: u64) -> Vec<Vec<&PlannedTensor>> {
    let mut shards = vec![Vec::new()];
    let mut filled = 0u64;
    for tensor in plan {
        let size = tensor.size();
        if filled > 0 && filled.saturating_add(size) > max_size {
            shards.push(Vec::new());
            filled = 0;
        }
        filled = filled.saturating_add(size);
        if let Some(shard) = shards.last_mut() {
            shard.push(tensor);
        }
    }
    shards
}

/// The weights that a folder holds under the names [`write_folder`] uses.
fn old_weights(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut old = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        let shard = name
            .strip_prefix("model-")
            .and_then(|name| name.strip_suffix(".safetensors"))
            .and_then(|numbers| numbers.split_once("-of-"))
            .is_some_and(|(number, count)| {
                [number, count]
                    .iter()
                    .all(|n| n.bytes().all(|byte| byte.is_ascii_digit()))
            });
        if shard || name == "model.safetensors" || name == "model.safetensors.index.json" {
            old.push(entry.path());
        }
    }
    // Without its index, no shard is taken for weights.
    old.sort_by_key(|path| path.extension().is_none_or(|ending| ending != "json"));
    Ok(old)
}

/// Brings a safetensors file to the disk that does not have its name yet.
fn write_temporary<E: From<CheckpointError>>(
    path: &Path,
    tensors: &[&PlannedTensor],
    write: &mut impl FnMut(&PlannedTensor, &mut TensorSink<'_>) -> Result<(), E>,
) -> Result<SyncedFile, E> {
    // As the safetensors library sorts them: wide numbers first, so that every tensor lies at a
    // multiple of its number's size.
    let mut tensors = tensors.to_vec();
    tensors.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));

    let mut file = AtomicFile::create(path).map_err(CheckpointError::from)?;
    file.put(&header(&tensors)).map_err(CheckpointError::from)?;
    for tensor in tensors {
        let mut sink = TensorSink::new(&mut file);
        write(tensor, &mut sink)?;
        sink.finish(path, tensor)?;
    }
    Ok(file.sync().map_err(CheckpointError::from)?)
}

/// The header, with its length before it and spaces behind, so that numbers start at a multiple
/// of eight.
fn header(tensors: &[&PlannedTensor]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    // What torch's own writer remarks; `transformers` refuses files without it.
    header.insert(METADATA.into(), serde_json::json!({"format": "pt"}));
    let mut offset = 0;
    for tensor in tensors {
        let begin = offset;
        offset += tensor.size();
        header.insert(
            tensor.name.clone(),
            serde_json::json!({
                "dtype": tensor.dtype.name(),
                "shape": tensor.shape,
                "data_offsets": [begin, offset],
            }),
        );
    }
    let mut text = serde_json::Value::Object(header).to_string();
    text.extend(std::iter::repeat_n(
        ' ',
        text.len().next_multiple_of(8) - text.len(),
    ));
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.bytes());
    bytes
}

#[cfg(test)]
mod tests;
