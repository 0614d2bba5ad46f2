//! Where each record of a JSON file stands, found by going over the file once as it is opened.
//!
//! Nothing of it is written down: a gigabyte takes about a third of a second once it is in memory, and
//! a file of offsets beside the data would be one more thing in a folder that is often shared, under
//! version control or read-only.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::scan::{Layout, Misplaced, Scanner, Span, is_space};
use crate::error::{DataError, Result};

const CHUNK_BYTES: usize = 1 << 20;

/// The spans of a file's records: 16 bytes each.
#[derive(Debug)]
pub(crate) struct Index(Vec<Span>);

impl Index {
    /// Reads `file` once, front to back; `path` is only named in errors.
    pub fn of(path: &Path, file: &mut File) -> Result<Self> {
        file.seek(SeekFrom::Start(0))
            .map_err(DataError::io(path, "read"))?;
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut filled = fill(file, &mut chunk).map_err(DataError::io(path, "read"))?;
        let (layout, skip) = sniff(&chunk[..filled]).map_err(|what| DataError::NotRecords {
            path: path.to_owned(),
            what,
        })?;
        let mut scanner = Scanner::new(layout, skip as u64);
        let mut from = skip;
        let mut records = 0;
        let structure = |records, misplaced: Misplaced| DataError::Structure {
            path: path.to_owned(),
            offset: misplaced.offset,
            records,
            what: misplaced.what,
        };
        while filled > 0 {
            if let Err(misplaced) = scanner.feed(&chunk[from..filled]) {
                return Err(structure(scanner.records(), misplaced));
            }
            records = scanner.records();
            from = 0;
            filled = fill(file, &mut chunk).map_err(DataError::io(path, "read"))?;
        }
        let spans = scanner
            .finish()
            .map_err(|misplaced| structure(records, misplaced))?;
        Ok(Self(spans))
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Where record `index` stands.
    pub fn span(&self, index: usize) -> Option<Span> {
        self.0.get(index).copied()
    }
}

/// What the first bytes of a file say about it: the layout, and how many bytes go before it.
fn sniff(head: &[u8]) -> Result<(Layout, usize), &'static str> {
    let skip = if head.starts_with(b"\xEF\xBB\xBF") {
        3
    } else {
        0
    };
    if head.starts_with(b"version https://git-lfs") {
        return Err(
            "this is a Git LFS pointer, not the data; fetch the file itself (`git lfs pull`)",
        );
    }
    if head.starts_with(b"\x1F\x8B") || head.starts_with(b"\x28\xB5\x2F\xFD") {
        return Err("this file is compressed; unpack it first");
    }
    if head.starts_with(b"\xFF\xFE") || head.starts_with(b"\xFE\xFF") {
        return Err("this file is UTF-16; convert it to UTF-8");
    }
    match head[skip..].iter().find(|byte| !is_space(**byte)) {
        Some(b'[') => Ok((Layout::Array, skip)),
        Some(b'{') => Ok((Layout::Lines, skip)),
        Some(_) => Err("expected a JSON array of records, JSON lines or Parquet"),
        None => Err("the file is empty"),
    }
}

/// Reads until `chunk` is full or the file ends.
fn fill(file: &mut File, chunk: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < chunk.len() {
        match file.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
