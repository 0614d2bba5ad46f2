//! Files as memory.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::Mmap;

use crate::error::CheckpointError;

/// A file that is mapped into memory, for as long as anyone uses a part of it.
#[derive(Debug, Clone)]
pub(crate) struct Map(Arc<Mmap>);

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Map {
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let io = |fault| CheckpointError::Io {
            path: path.to_path_buf(),
            fault,
        };
        let file = File::open(path).map_err(io)?;
        // SAFETY: the mapping is read-only and lives as long as its users. A file of weights that
        // is cut or rewritten while it is in use faults or changes under the reader, here as in
        // every program that maps weights; this crate's own writer never does so, it renames.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self(Arc::new(map)))
    }

    pub fn bytes(&self) -> Bytes {
        Bytes::from_owner(self.clone())
    }

    /// Has the system read the file while the program goes on.
    pub fn read_ahead(&self) {
        // Only speed depends on it, so a system that refuses is let be.
        #[cfg(unix)]
        let _ = self.0.advise(memmap2::Advice::WillNeed);
    }
}
