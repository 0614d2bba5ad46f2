//! Files that appear whole or not at all, and big arrays that may live on disk.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytemuck::Pod;
use memmap2::{Mmap, MmapMut};

use super::error::{CoresetError, Result};
use crate::embeddings::matrix::{map_file, release};

/// A file that is written under a temporary name until it is whole.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) out: BufWriter<File>,
    path: PathBuf,
    temporary: PathBuf,
    committed: bool,
}

impl Whole {
    /// Starts a file that will be called `path`.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".tmp");
        let temporary = path.with_file_name(name);
        let file = File::create(&temporary).map_err(CoresetError::io(&temporary, "create"))?;
        Ok(Self {
            out: BufWriter::with_capacity(1 << 20, file),
            path: path.to_owned(),
            temporary,
            committed: false,
        })
    }

    /// The name the file will have.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes bytes.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out
            .write_all(bytes)
            .map_err(CoresetError::io(&self.path, "write"))
    }

    /// Syncs the file and gives it its name.
    pub(crate) fn commit(mut self) -> Result<()> {
        let io = |action| CoresetError::io(&self.path, action);
        self.out.flush().map_err(io("write"))?;
        self.out.get_ref().sync_all().map_err(io("sync"))?;
        std::fs::rename(&self.temporary, &self.path).map_err(io("rename"))?;
        self.committed = true;
        sync_folder(&self.path);
        Ok(())
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if !self.committed {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Writes a file that appears whole or, where `fill` fails, not at all.
///
/// # Errors
/// Those of `fill`, and those of the operating system.
pub(crate) fn write_whole<T>(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<T>,
) -> Result<T> {
    let mut whole = Whole::create(path)?;
    let value = fill(&mut whole.out)?;
    whole.commit()?;
    Ok(value)
}

/// Makes a rename last. Systems that cannot sync a folder keep the rename without it.
fn sync_folder(path: &Path) {
    if let Some(folder) = path.parent().and_then(|folder| File::open(folder).ok()) {
        let _ = folder.sync_all();
    }
}

/// Writes records as they stand in memory.
pub(crate) fn write_records<T: Pod>(
    out: &mut impl Write,
    path: &Path,
    records: &[T],
) -> Result<()> {
    out.write_all(bytemuck::cast_slice(records))
        .map_err(CoresetError::io(path, "write"))
}

/// A mapped file of equal records.
#[derive(Debug)]
pub(crate) struct Records<T> {
    map: Option<Mmap>,
    kind: std::marker::PhantomData<T>,
}

impl<T: Pod> Records<T> {
    /// Maps a file of records.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(CoresetError::io(path, "open"))?;
        let length = file
            .metadata()
            .map_err(CoresetError::io(path, "read"))?
            .len();
        if length % size_of::<T>() as u64 != 0 {
            return Err(CoresetError::format(
                path,
                "not a whole number of records: remove the work folder",
            ));
        }
        // An empty file cannot be mapped.
        let map = (length > 0).then(|| map_file(&file, path)).transpose()?;
        Ok(Self {
            map,
            kind: std::marker::PhantomData,
        })
    }

    /// Lets go of the pages of records that will not be read again soon.
    pub(crate) fn release(&self, range: std::ops::Range<usize>) {
        if let Some(map) = &self.map {
            release(
                map,
                range.start * size_of::<T>()..range.end * size_of::<T>(),
            );
        }
    }

    /// Calls `each` with runs of records in order, letting go of each afterwards.
    pub(crate) fn for_each_run(&self, mut each: impl FnMut(&[T])) {
        let step = (4 << 20) / size_of::<T>();
        for start in (0..self.len()).step_by(step) {
            let range = start..self.len().min(start + step);
            each(&self[range.clone()]);
            self.release(range);
        }
    }
}

impl<T: Pod> Deref for Records<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // Maps start at a page, so records are aligned.
        self.map.as_deref().map_or(&[], bytemuck::cast_slice)
    }
}

/// An array of zeros that lives in memory while it is small, and otherwise in an unnamed file that
/// the system can write out when memory is short.
#[derive(Debug)]
pub(crate) enum Scratch<T> {
    Memory(Vec<T>),
    Disk(MmapMut, usize),
}

impl<T: Pod> Scratch<T> {
    /// `len` zeros; at most `in_memory` bytes of them in memory.
    pub(crate) fn zeros(len: usize, in_memory: usize, folder: &Path) -> Result<Self> {
        let bytes = len * size_of::<T>();
        if bytes <= in_memory {
            return Ok(Self::Memory(vec![T::zeroed(); len]));
        }
        let file = tempfile::tempfile_in(folder).map_err(CoresetError::io(folder, "create"))?;
        file.set_len(bytes as u64)
            .map_err(CoresetError::io(folder, "write"))?;
        // SAFETY: the file has no name, so no other process can change it.
        let map = unsafe { MmapMut::map_mut(&file) }.map_err(CoresetError::io(folder, "map"))?;
        Ok(Self::Disk(map, len))
    }
}

impl<T: Pod> Deref for Scratch<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::Memory(values) => values,
            Self::Disk(map, len) => &bytemuck::cast_slice(map)[..*len],
        }
    }
}

impl<T: Pod> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::Memory(values) => values,
            Self::Disk(map, len) => &mut bytemuck::cast_slice_mut(map)[..*len],
        }
    }
}

/// Counts what is read of mapped files, to tell when enough pages have gathered to let go of them.
#[derive(Debug)]
pub(crate) struct Resident {
    read: AtomicU64,
    limit: u64,
}

impl Resident {
    /// Lets go after so many bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            read: AtomicU64::new(0),
            limit,
        }
    }

    /// Counts bytes that are about to be read; calls `release` when it is time.
    pub(crate) fn count(&self, bytes: usize, release: impl FnOnce()) {
        let before = self.read.fetch_add(bytes as u64, Relaxed);
        if before < self.limit && before + bytes as u64 >= self.limit {
            release();
            self.read.store(0, Relaxed);
        }
    }
}

/// Free bytes where a folder lies; `None` where the system does not say.
pub(crate) fn free_disk(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let stat = rustix::fs::statvfs(folder).ok()?;
        Some(stat.f_bavail * stat.f_frsize)
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        None
    }
}

/// Removes a folder of work files if it is there.
pub(crate) fn remove_folder(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(CoresetError::Io {
            path: PathBuf::from(folder),
            action: "remove",
            source: error,
        }),
        _ => Ok(()),
    }
}

/// Bytes of all files below a folder; 0 where it is not there.
pub(crate) fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
