//! Writing GGUF: a file whole or not at all, of which a few rows are in memory at a time.

use std::path::Path;

use bunny_base::{AtomicFile, atomic_file::SyncedFile};

use super::{MAGIC, Metadata, TensorType, metadata::put_text, read::ALIGNMENT};
use crate::{
    error::CheckpointError,
    plan::{Planned, TensorSink, check_plan},
};

/// The longest name that llama.cpp takes.
const LONGEST_NAME: usize = 63;

/// A tensor that is going to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedBlocks {
    /// Its name.
    pub name: String,
    /// What its numbers are held in.
    pub kind: TensorType,
    /// Its shape, rows first; a row is whole blocks.
    pub shape: Vec<usize>,
}

impl PlannedBlocks {
    /// Bytes of its numbers.
    pub fn size(&self) -> u64 {
        let numbers = self
            .shape
            .iter()
            .fold(1u64, |all, size| all.saturating_mul(*size as u64));
        (numbers / self.kind.block() as u64).saturating_mul(self.kind.block_bytes() as u64)
    }

    fn row(&self) -> usize {
        self.shape.last().copied().unwrap_or(0)
    }
}

impl Planned for PlannedBlocks {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.size()
    }
}

/// Brings a GGUF file to the disk, which has its name only once it is published: files that belong
/// together can appear together. `each` hands over the bytes of a tensor, and is asked once for each, in
/// the order of the plan.
///
/// # Errors
/// Those of `each`; a file that cannot be written; a plan that names a tensor twice, or with a shape or
/// a name that the format has no place for; bytes of another number than planned. In each case there is
/// no new file, and an old one is untouched.
pub fn write_file<E: From<CheckpointError>>(
    path: impl AsRef<Path>,
    metadata: &Metadata,
    plan: &[PlannedBlocks],
    mut each: impl FnMut(&PlannedBlocks, &mut TensorSink<'_>) -> Result<(), E>,
) -> Result<SyncedFile, E> {
    let path = path.as_ref();
    check_plan(path, plan, objection)?;
    let mut file = AtomicFile::create(path).map_err(CheckpointError::from)?;
    let header = header(metadata, plan);
    file.put(&header).map_err(CheckpointError::from)?;
    for planned in plan {
        let mut sink = TensorSink::new(&mut file);
        each(planned, &mut sink)?;
        sink.finish(path, planned)?;
        let padding = vec![0; padding(planned.size())];
        file.put(&padding).map_err(CheckpointError::from)?;
    }
    Ok(file.sync().map_err(CheckpointError::from)?)
}

/// Bytes from `at` to where the next tensor may begin.
fn padding(at: u64) -> usize {
    (at.next_multiple_of(ALIGNMENT) - at) as usize
}

fn header(metadata: &Metadata, plan: &[PlannedBlocks]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend((plan.len() as u64).to_le_bytes());
    bytes.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_text(&mut bytes, key);
        bytes.extend(value.id().to_le_bytes());
        value.put(&mut bytes);
    }
    let mut offset = 0u64;
    for planned in plan {
        put_text(&mut bytes, &planned.name);
        bytes.extend((planned.shape.len() as u32).to_le_bytes());
        for size in planned.shape.iter().rev() {
            bytes.extend((*size as u64).to_le_bytes());
        }
        bytes.extend(planned.kind.id().to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        offset = (offset + planned.size()).next_multiple_of(ALIGNMENT);
    }
    let padding = padding(bytes.len() as u64);
    bytes.resize(bytes.len() + padding, 0);
    bytes
}

fn objection(tensor: &PlannedBlocks) -> Option<&'static str> {
    if tensor.name.len() > LONGEST_NAME {
        Some("llama.cpp takes names of at most 63 bytes")
    } else if !(1..=4).contains(&tensor.shape.len()) || tensor.shape.contains(&0) {
        Some("the format has one to four dimensions, none without numbers")
    } else if !tensor.row().is_multiple_of(tensor.kind.block()) {
        Some("its rows are no whole blocks")
    } else {
        None
    }
}
