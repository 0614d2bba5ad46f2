//! Files as memory.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
use memmap2::Mmap as Whole;

/// A tab's files are in memory already.
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
type Whole = Vec<u8>;

use crate::error::CheckpointError;

/// A file that is mapped into memory, for as long as anyone uses a part of it.
#[derive(Debug, Clone)]
pub(crate) struct Map(Arc<Whole>);

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Map {
    #[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let io = |fault| CheckpointError::Io {
            path: path.to_path_buf(),
            fault,
        };
        let file = std::fs::File::open(path).map_err(io)?;
        // SAFETY: the mapping is read-only and lives as long as its users. A file of weights that
        // is cut or rewritten while it is in use faults or changes under the reader, here as in
        // every program that maps weights; this crate's own writer never does so, it renames.
        let map = unsafe { Whole::map(&file) }.map_err(io)?;
        Ok(Self(Arc::new(map)))
    }

    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let file = bunny_base::files::memory::shared(path);
        let file = file.map_err(|fault| CheckpointError::Io {
            path: path.to_path_buf(),
            fault,
        })?;
        Ok(Self(file))
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
