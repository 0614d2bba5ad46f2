//! What is planned to be written: it is checked before any file is made, and each tensor against it.

use std::{collections::HashSet, path::Path};

use bunny_base::AtomicFile;

use crate::error::{CheckpointError, one_line};

/// A tensor that is going to be written, in whatever format.
pub trait Planned {
    /// Its name.
    fn name(&self) -> &str;

    /// Bytes of its numbers.
    fn size(&self) -> u64;
}

/// Finds what cannot be written before anything is. `objection` says what the format has against a tensor.
pub fn check_plan<T: Planned>(
    path: &Path,
    plan: &[T],
    objection: impl Fn(&T) -> Option<&'static str>,
) -> Result<(), CheckpointError> {
    let mut names = HashSet::with_capacity(plan.len());
    for tensor in plan {
        let reason = if !names.insert(tensor.name()) {
            "it is planned twice"
        } else if let Some(reason) = objection(tensor) {
            reason
        } else if tensor.size() > isize::MAX as u64 {
            "its shape is larger than any memory"
        } else {
            continue;
        };
        return Err(CheckpointError::Plan {
            path: path.to_path_buf(),
            tensor: one_line(tensor.name()),
            reason,
        });
    }
    Ok(())
}

/// Where the numbers of one tensor go, in order, in pieces of any size.
#[derive(Debug)]
pub struct TensorSink<'a> {
    file: &'a mut AtomicFile,
    written: u64,
}

impl<'a> TensorSink<'a> {
    pub(crate) fn new(file: &'a mut AtomicFile) -> Self {
        Self { file, written: 0 }
    }

    /// Writes the next of the tensor's numbers, little endian and row-major.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.written += bytes.len() as u64;
        Ok(self.file.put(bytes)?)
    }

    /// Holds what was written of `planned`, into the file that will be at `path`, against its size.
    pub(crate) fn finish(self, path: &Path, planned: &impl Planned) -> Result<(), CheckpointError> {
        if self.written == planned.size() {
            return Ok(());
        }
        Err(CheckpointError::PlannedSize {
            path: path.to_path_buf(),
            tensor: one_line(planned.name()),
            planned: planned.size(),
            found: self.written,
        })
    }
}
