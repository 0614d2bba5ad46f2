//! Files in memory, page by page as they are touched.

use std::ops::Range;

use memmap2::Mmap;

use super::Opened;
use crate::error::{DataError, Result};

/// Maps a whole file, read-only.
pub(crate) fn map_file(opened: &Opened) -> Result<Mmap> {
    // SAFETY: the map is read-only. As with every mapped file, another process that truncates it
    // meanwhile would end this one; embedding sets and work files are not written while in use.
    unsafe { Mmap::map(&opened.file) }.map_err(DataError::io(&opened.path, "map"))
}

/// Drops the pages of a range of a read-only map; they are read again when touched.
pub(crate) fn release(map: &Mmap, range: Range<usize>) {
    #[cfg(unix)]
    if !range.is_empty() {
        // SAFETY: on a shared, read-only map of a file, MADV_DONTNEED only drops pages that the
        // next access reads from the file again. A refusal costs nothing but memory.
        let _ = unsafe {
            map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len())
        };
    }
    #[cfg(not(unix))]
    let _ = (map, range);
}
