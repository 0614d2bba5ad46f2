//! What all crates of bunny stand on, and what needs neither numbers nor models.
#![forbid(unsafe_code)]

mod address;
pub mod atomic_file;
pub mod clock;
pub mod escape;
pub mod files;
mod memory;
mod nearest;
mod panic_guard;
pub mod random;

pub use address::is_global;
pub use atomic_file::{AtomicFile, AtomicFolder, FileError, FolderLock, write_atomic};
pub use memory::{machine_memory, process_memory};
pub use nearest::nearest;
pub use panic_guard::caught;

/// Its example runs as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
