//! What all crates of bunny stand on, and what needs neither numbers nor models.
#![forbid(unsafe_code)]

pub mod atomic_file;
pub mod escape;
mod nearest;
pub mod random;

pub use atomic_file::{AtomicFile, AtomicFolder, FileError, FolderLock, write_atomic};
pub use nearest::nearest;

/// Its example runs as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
