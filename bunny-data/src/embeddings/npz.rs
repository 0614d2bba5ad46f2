//! The arrays of a `.npz` archive: a zip file whose members are `.npy` files, stored or deflated.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::DeflateDecoder;

use super::matrix::{MatrixFile, Storage, check_length};
use super::npy::NpyHeader;
use crate::error::{ArchiveFault, DataError, Result, one_line};
use crate::store::{Store, map_file};

/// One member of an archive.
#[derive(Debug)]
struct Member {
    /// `None` where it is not UTF-8: nobody can ask for it.
    name: Option<String>,
    deflated: bool,
    compressed: u64,
    length: u64,
    local_header: u64,
}

impl Member {
    /// The name of its array.
    fn array(&self) -> Option<&str> {
        let name = self.name.as_deref()?;
        Some(name.strip_suffix(".npy").unwrap_or(name))
    }
}

/// The names of the two-dimensional float arrays of an archive are not known before their headers
/// are read, so the caller chooses among all `names` and reads one.
#[derive(Debug)]
pub struct Archive {
    key: String,
    path: PathBuf,
    map: memmap2::Mmap,
    members: Vec<Member>,
}

impl Archive {
    /// Reads the directory of an archive.
    ///
    /// # Errors
    /// [`DataError::Archive`] for anything that is not a whole zip file.
    pub fn open(store: &dyn Store, key: &str) -> Result<Self> {
        let opened = store.open(key)?;
        if opened.len()? == 0 {
            return Err(DataError::archive(opened.path, ArchiveFault::Empty));
        }
        let map = map_file(&opened)?;
        let members = directory(&map, &opened.path)?;
        Ok(Self {
            key: key.to_owned(),
            path: opened.path,
            map,
            members,
        })
    }

    /// The names of the arrays, without `.npy`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().filter_map(Member::array)
    }

    /// Reads the header of one array.
    ///
    /// # Errors
    /// When there is no such array, or it is no embedding matrix.
    pub fn array(&self, name: &str) -> Result<MatrixFile> {
        let mut members = self.members.iter();
        let Some(member) = members.find(|member| member.array() == Some(name)) else {
            let fault = ArchiveFault::NoArray {
                name: name.to_owned(),
                names: self.names().map(str::to_owned).collect(),
            };
            return Err(DataError::archive(&self.path, fault));
        };
        let place = self
            .path
            .join(one_line(member.name.as_deref().unwrap_or(name)));
        let (start, bytes) = self.data(member, &place)?;
        if !member.deflated {
            let header = NpyHeader::parse(bytes, &place)?;
            return MatrixFile::at(&header, &self.key, &place, start, member.length);
        }
        let mut head = Vec::new();
        DeflateDecoder::new(bytes)
            .take(NpyHeader::PREFIX as u64)
            .read_to_end(&mut head)
            .map_err(DataError::io(&place, "inflate"))?;
        let header = NpyHeader::parse(&head, &place)?;
        check_length(&header, &place, member.length)?;
        Ok(MatrixFile {
            key: self.key.clone(),
            storage: Storage::Deflated {
                offset: start,
                compressed: member.compressed,
                length: member.length,
            },
            dtype: header.dtype,
            rows: header.rows,
            dims: header.dims,
        })
    }

    /// Where a member's bytes start, and the bytes.
    fn data(&self, member: &Member, place: &Path) -> Result<(u64, &[u8])> {
        let bytes: &[u8] = &self.map;
        let broken = || DataError::archive(place, ArchiveFault::CutShort);
        let header = slice(bytes, member.local_header, 30).ok_or_else(broken)?;
        if !header.starts_with(b"PK\x03\x04") {
            return Err(DataError::archive(place, ArchiveFault::Misplaced));
        }
        let start =
            member.local_header + 30 + u64::from(le16(header, 26)) + u64::from(le16(header, 28));
        let data = slice(bytes, start, member.compressed).ok_or_else(broken)?;
        Ok((start, data))
    }
}

/// The members that the central directory lists.
fn directory(bytes: &[u8], path: &Path) -> Result<Vec<Member>> {
    let cut = || DataError::archive(path, ArchiveFault::DirectoryCutShort);
    // The end record is 22 bytes and a comment of at most 65,535.
    let earliest = bytes.len().saturating_sub(22 + 0xffff);
    let end = (earliest..bytes.len().saturating_sub(21))
        .rev()
        .find(|at| bytes[*at..].starts_with(b"PK\x05\x06"))
        .ok_or_else(|| DataError::archive(path, ArchiveFault::NoDirectory))?;
    let mut count = u64::from(le16(&bytes[end..], 10));
    let mut at = u64::from(le32(&bytes[end..], 16));
    if count == 0xffff || at == 0xffff_ffff {
        let locator = end
            .checked_sub(20)
            .map(|at| &bytes[at..end])
            .filter(|locator| locator.starts_with(b"PK\x06\x07"))
            .ok_or_else(cut)?;
        let end64 = slice(bytes, le64(locator, 8), 56)
            .filter(|record| record.starts_with(b"PK\x06\x06"))
            .ok_or_else(cut)?;
        count = le64(end64, 32);
        at = le64(end64, 48);
    }
    let mut members = Vec::new();
    for _ in 0..count {
        let header = slice(bytes, at, 46)
            .filter(|header| header.starts_with(b"PK\x01\x02"))
            .ok_or_else(cut)?;
        let (name, extra, comment) = (le16(header, 28), le16(header, 30), le16(header, 32));
        let name_bytes = slice(bytes, at + 46, u64::from(name)).ok_or_else(cut)?;
        let extra_bytes =
            slice(bytes, at + 46 + u64::from(name), u64::from(extra)).ok_or_else(cut)?;
        // Names stand in messages, which have one line.
        let place = path.join(one_line(&String::from_utf8_lossy(name_bytes)));
        if le16(header, 8) & 1 != 0 {
            return Err(DataError::archive(place, ArchiveFault::Encrypted));
        }
        let deflated = match le16(header, 10) {
            0 => false,
            8 => true,
            _ => {
                return Err(DataError::archive(place, ArchiveFault::Method));
            }
        };
        let mut member = Member {
            name: String::from_utf8(name_bytes.to_owned()).ok(),
            deflated,
            compressed: u64::from(le32(header, 20)),
            length: u64::from(le32(header, 24)),
            local_header: u64::from(le32(header, 42)),
        };
        zip64(&mut member, extra_bytes).ok_or_else(cut)?;
        if !deflated && member.compressed != member.length {
            return Err(DataError::archive(place, ArchiveFault::TwoLengths));
        }
        // Deflate never shrinks below 1/1032.
        if deflated && member.length / 1040 > member.compressed {
            return Err(DataError::archive(place, ArchiveFault::Length));
        }
        members.push(member);
        at += 46 + u64::from(name) + u64::from(extra) + u64::from(comment);
    }
    Ok(members)
}

/// Takes the 64-bit fields of a member from its zip64 extra field; `None` where they are missing.
fn zip64(member: &mut Member, mut extra: &[u8]) -> Option<()> {
    let mut wanted = [
        &mut member.length,
        &mut member.compressed,
        &mut member.local_header,
    ]
    .into_iter()
    .filter(|field| **field == 0xffff_ffff)
    .peekable();
    while wanted.peek().is_some() {
        let size = usize::from(le16(extra.get(..4)?, 2));
        let body = extra.get(4..4 + size)?;
        if le16(extra, 0) == 1 {
            let (words, _) = body.as_chunks::<8>();
            let mut words = words.iter();
            for field in wanted {
                *field = u64::from_le_bytes(*words.next()?);
            }
            return Some(());
        }
        extra = &extra[4 + size..];
    }
    Some(())
}

fn slice(bytes: &[u8], start: u64, length: u64) -> Option<&[u8]> {
    let end = start.checked_add(length)?;
    bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}

fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from(le32(bytes, at)) | u64::from(le32(bytes, at + 4)) << 32
}
