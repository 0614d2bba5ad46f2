//! Big arrays that may live on disk.

use std::fs::File;
use std::io::Read;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytemuck::Pod;
use memmap2::MmapMut;

use crate::error::{DataError, Result, WorkFault};
use crate::store::{self, Store, WorkFile, release};

/// Writes records as they stand in memory.
pub(crate) fn write_records<T: Pod>(store: &dyn Store, key: &str, records: &[T]) -> Result<()> {
    store::fill(store, key, |file| file.put(bytemuck::cast_slice(records)))
}

/// A mapped file of equal records.
#[derive(Debug)]
pub(crate) struct Records<T> {
    file: WorkFile,
    kind: std::marker::PhantomData<T>,
}

impl<T: Pod> Records<T> {
    /// Maps a file of records, and checks it.
    pub(crate) fn open(store: &dyn Store, key: &str) -> Result<Self> {
        let file = WorkFile::whole(store, key)?;
        if file.payload().len() % size_of::<T>() != 0 {
            return Err(DataError::work(file.path(), WorkFault::CutShort));
        }
        Ok(Self {
            file,
            kind: std::marker::PhantomData,
        })
    }

    /// Lets go of the pages of records that will not be read again soon.
    pub(crate) fn release(&self, range: std::ops::Range<usize>) {
        release(
            self.file.map(),
            range.start * size_of::<T>()..range.end * size_of::<T>(),
        );
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
        bytemuck::cast_slice(self.file.payload())
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
        let file = tempfile::tempfile_in(folder).map_err(DataError::io(folder, "create"))?;
        allocate(&file, bytes as u64).map_err(DataError::io(folder, "write"))?;
        // SAFETY: the file has no name, so no other process can change it.
        let map = unsafe { MmapMut::map_mut(&file) }.map_err(DataError::io(folder, "map"))?;
        Ok(Self::Disk(map, len))
    }
}

/// Zeros with disk behind every one of them: writing to a mapped hole of a full disk would end the
/// process.
fn allocate(file: &File, bytes: u64) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP) => {}
        done => return Ok(done?),
    }
    std::io::copy(&mut std::io::repeat(0).take(bytes), &mut &*file)?;
    Ok(())
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
