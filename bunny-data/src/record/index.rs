//! The offset index: where each record of a JSON file stands, kept beside the file.
//!
//! `bunny_695k.json` gets `bunny_695k.json.idx`, built on the first open and mapped by every later
//! one. It names the size, the time and a hash of both ends of the file it was made from, and is
//! built again when they differ. Where it cannot be written it is held in memory instead.
//!
//! ```text
//! magic "BUNNYIDX" · version u32 · bytes an entry u32 · file size u64 · seconds i64 · nanoseconds u32 ·
//! zero u32 · sha256 of the ends [32] · records u64 · sha256 of the entries [32] ·
//! then an entry a record: start u64 · length u32                        (little-endian throughout)
//! ```

use std::fs::{File, Metadata};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use memmap2::Mmap;
use sha2::{Digest, Sha256};

use super::scan::{Layout, Scanner, Span, is_space};
use crate::error::{DataError, Result};
use crate::whole::write_whole;

const MAGIC: &[u8; 8] = b"BUNNYIDX";
const FORMAT_VERSION: u32 = 1;
const HEADER_BYTES: usize = 8 + 4 + 4 + STAMP_BYTES + 8 + 32;
const STAMP_BYTES: usize = 8 + 8 + 4 + 4 + 32;
const ENTRY_BYTES: usize = 8 + 4;
/// How much of either end of the file is hashed.
const END_BYTES: u64 = 64 << 10;
const CHUNK_BYTES: usize = 1 << 20;

/// The spans of a file's records.
#[derive(Debug)]
pub(crate) struct Index(Bytes);

#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Built(Vec<u8>),
}

impl Index {
    /// The index of `file`: the one beside it when it fits, else a new one, which is left beside
    /// the file when its folder lets us.
    pub fn of(path: &Path, file: &mut File) -> Result<Self> {
        let stamp = stamp(path, file)?;
        let beside = beside(path);
        if let Some(index) = Self::load(&beside, &stamp) {
            return Ok(index);
        }
        let bytes = build(path, file, &stamp)?;
        if let Err(error) = write_whole(&beside, &bytes) {
            tracing::debug!("the index stays in memory: {error}");
        }
        Ok(Self(Bytes::Built(bytes)))
    }

    /// The index of a file that has no place for one beside it.
    pub fn in_memory(path: &Path, file: &mut File) -> Result<Self> {
        let stamp = stamp(path, file)?;
        Ok(Self(Bytes::Built(build(path, file, &stamp)?)))
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        (self.bytes().len() - HEADER_BYTES) / ENTRY_BYTES
    }

    /// Where record `index` stands.
    pub fn span(&self, index: usize) -> Option<Span> {
        let at = HEADER_BYTES + index.checked_mul(ENTRY_BYTES)?;
        let entry = self.bytes().get(at..at + ENTRY_BYTES)?;
        let (start, len) = entry.split_at(8);
        Some(Span {
            start: u64::from_le_bytes(start.try_into().ok()?),
            len: u32::from_le_bytes(len.try_into().ok()?),
        })
    }

    fn bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Mapped(map) => map,
            Bytes::Built(bytes) => bytes,
        }
    }

    /// The index that lies at `beside`, if it is whole and of this very file.
    fn load(beside: &Path, stamp: &[u8; STAMP_BYTES]) -> Option<Self> {
        let file = File::open(beside).ok()?;
        // SAFETY: an index is only ever replaced by a rename, which leaves this mapping alone; its
        // content is checked below and every later read of it is bounds-checked.
        let map = unsafe { Mmap::map(&file) }.ok()?;
        let header = map.get(..HEADER_BYTES)?;
        let entries = &map[HEADER_BYTES..];
        let (front, back) = header.split_at(16 + STAMP_BYTES);
        let fits = front[..8] == *MAGIC
            && front[8..12] == FORMAT_VERSION.to_le_bytes()
            && front[12..16] == (ENTRY_BYTES as u32).to_le_bytes()
            && front[16..] == *stamp
            && back[..8] == ((entries.len() / ENTRY_BYTES) as u64).to_le_bytes()
            && entries.len() % ENTRY_BYTES == 0
            && back[8..] == *Sha256::digest(entries);
        fits.then_some(Self(Bytes::Mapped(map)))
    }
}

/// `data.json` → `data.json.idx`.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".idx");
    name.into()
}

/// What ties an index to one state of its file: size, time, and a hash of both ends.
fn stamp(path: &Path, file: &mut File) -> Result<[u8; STAMP_BYTES]> {
    let metadata = file.metadata().map_err(DataError::io(path, "read"))?;
    let mut hash = Sha256::new();
    for start in [0, metadata.len().saturating_sub(END_BYTES)] {
        let mut end = Vec::new();
        file.seek(SeekFrom::Start(start))
            .and_then(|_| file.take(END_BYTES).read_to_end(&mut end))
            .map_err(DataError::io(path, "read"))?;
        hash.update(&end);
    }
    let (seconds, nanoseconds) = modified(&metadata);
    let mut stamp = [0; STAMP_BYTES];
    stamp[..8].copy_from_slice(&metadata.len().to_le_bytes());
    stamp[8..16].copy_from_slice(&seconds.to_le_bytes());
    stamp[16..20].copy_from_slice(&nanoseconds.to_le_bytes());
    stamp[24..].copy_from_slice(&hash.finalize());
    Ok(stamp)
}

/// Time of the last change; zero where the file system keeps none.
fn modified(metadata: &Metadata) -> (i64, u32) {
    let since = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or((0, 0), |since| {
        (since.as_secs() as i64, since.subsec_nanos())
    })
}

/// Reads the file once, front to back, and lays its index out in memory.
fn build(path: &Path, file: &mut File, stamp: &[u8; STAMP_BYTES]) -> Result<Vec<u8>> {
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
    let structure = |records, misplaced: super::scan::Misplaced| DataError::Structure {
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

    let mut bytes = Vec::with_capacity(HEADER_BYTES + spans.len() * ENTRY_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&(ENTRY_BYTES as u32).to_le_bytes());
    bytes.extend_from_slice(stamp);
    bytes.extend_from_slice(&(spans.len() as u64).to_le_bytes());
    let hash_at = bytes.len();
    bytes.extend_from_slice(&[0; 32]);
    for span in spans {
        bytes.extend_from_slice(&span.start.to_le_bytes());
        bytes.extend_from_slice(&span.len.to_le_bytes());
    }
    let hash = Sha256::digest(&bytes[HEADER_BYTES..]);
    bytes[hash_at..HEADER_BYTES].copy_from_slice(&hash);
    Ok(bytes)
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
