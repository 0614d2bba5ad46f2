//! The files that models are read from: the system's. In a browser tab, which has none, files that somebody
//! put into memory under their paths (`memory`).

#[cfg(any(test, all(target_arch = "wasm32", target_os = "unknown")))]
pub mod memory;

#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
mod system {
    use std::{
        io,
        path::{Path, PathBuf},
    };

    pub use std::fs::{read, read_to_string};

    /// Whether there is a file or a folder at `path`.
    pub fn exists(path: impl AsRef<Path>) -> bool {
        path.as_ref().exists()
    }

    /// Whether there is a file at `path`.
    pub fn is_file(path: impl AsRef<Path>) -> bool {
        path.as_ref().is_file()
    }

    /// Whether there is a folder at `path`.
    pub fn is_dir(path: impl AsRef<Path>) -> bool {
        path.as_ref().is_dir()
    }

    /// What lies in a folder, in no particular order.
    ///
    /// # Errors
    /// When there is no such folder, or it cannot be read.
    pub fn entries(folder: impl AsRef<Path>) -> io::Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(folder)?;
        entries.map(|entry| Ok(entry?.path())).collect()
    }
}

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
pub use memory::{entries, exists, is_dir, is_file, read, read_to_string};
#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
pub use system::{entries, exists, is_dir, is_file, read, read_to_string};
