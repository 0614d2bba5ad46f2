//! The zip archive of `torch.save` since 1.6: entries stored as they are, aligned for mapping.
//!
//! ```text
//! name/data.pkl      the pickle
//! name/byteorder     "little"
//! name/data/0, ...   the storages
//! ```
//!
//! Only what torch writes is read: no compression, sizes beyond 4 GiB in zip64 fields. Checksums
//! are not compared: torch can leave them out, and they would read every weight at opening.

use bytes::Bytes;

use super::Storages;
use crate::error::{PickleError, one_line};

/// The parts of an archive.
#[derive(Debug)]
pub(super) struct Archive {
    pub pickle: Bytes,
    pub storages: Storages,
}

/// Finds pickle and storages in an archive.
pub(super) fn open(file: &Bytes) -> Result<Archive, PickleError> {
    let mut entries = Vec::new();
    let mut directory = directory(file)?;
    while !directory.is_empty() {
        entries.push(entry(file, &mut directory)?);
    }
    let (root, pickle) = entries
        .iter()
        .find_map(|(name, bytes)| Some((name.strip_suffix("/data.pkl")?, bytes.clone())))
        .ok_or_else(|| PickleError::MissingEntry {
            entry: "data.pkl".into(),
        })?;
    let mut storages = Storages::new();
    for (name, bytes) in &entries {
        let inside = name
            .strip_prefix(root)
            .and_then(|name| name.strip_prefix('/'));
        let Some(name) = inside else { continue };
        match name {
            "constants.pkl" => return Err(PickleError::TorchScript),
            "byteorder" if &bytes[..] != b"little" => return Err(PickleError::BigEndian),
            _ => {}
        }
        if let Some(key) = name.strip_prefix("data/")
            && storages.insert(key.to_string(), bytes.clone()).is_some()
        {
            return Err(damaged("an entry occurs twice"));
        }
    }
    Ok(Archive { pickle, storages })
}

fn damaged(reason: &'static str) -> PickleError {
    PickleError::Archive { reason }
}

/// The signature of the record that ends an archive, and the length of the record.
const END: (&[u8], usize) = (b"PK\x05\x06", 22);
/// The same for the record that says where the record of a large archive is.
const LOCATOR64: (&[u8], usize) = (b"PK\x06\x07", 20);
/// The same for the record of a large archive.
const END64: (&[u8], usize) = (b"PK\x06\x06", 56);
/// The same for an entry of the directory, without its name.
const CENTRAL: (&[u8], usize) = (b"PK\x01\x02", 46);
/// The same for what stands before an entry's bytes.
const LOCAL: (&[u8], usize) = (b"PK\x03\x04", 30);

/// The directory at the end of an archive.
fn directory(file: &[u8]) -> Result<&[u8], PickleError> {
    // A comment of up to 65535 bytes may follow the last record.
    let earliest = file.len().saturating_sub(END.1 + usize::from(u16::MAX));
    let end = (earliest..=file.len().saturating_sub(END.1))
        .rev()
        .find(|&at| file[at..].starts_with(END.0))
        .ok_or(damaged("it has no directory"))?;
    let record = record(file, end as u64, END)?;
    let mut size = u64::from(u32_at(record, 12));
    let mut start = u64::from(u32_at(record, 16));
    if size == u64::from(u32::MAX) || start == u64::from(u32::MAX) || u16_at(record, 10) == u16::MAX
    {
        let at = end
            .checked_sub(LOCATOR64.1)
            .ok_or(damaged("its directory is cut"))?;
        let locator = self::record(file, at as u64, LOCATOR64)?;
        let record = self::record(file, u64_at(locator, 8), END64)?;
        size = u64_at(record, 40);
        start = u64_at(record, 48);
    }
    slice(file, start, size).ok_or(damaged("its directory is cut"))
}

/// The next entry of the directory: its name and its bytes.
fn entry(file: &Bytes, directory: &mut &[u8]) -> Result<(String, Bytes), PickleError> {
    let cut = damaged("its directory is cut");
    let central = record(directory, 0, CENTRAL)?;
    let [name_length, extra_length, comment_length] =
        [28, 30, 32].map(|at| usize::from(u16_at(central, at)));
    let rest = &directory[CENTRAL.1..];
    let (Some((name, rest)), true) = (
        rest.split_at_checked(name_length),
        rest.len() >= name_length,
    ) else {
        return Err(cut);
    };
    let Some((extra, rest)) = rest.split_at_checked(extra_length) else {
        return Err(cut);
    };
    *directory = rest.get(comment_length..).ok_or(cut)?;

    let name = String::from_utf8_lossy(name).into_owned();
    let encrypted = u16_at(central, 8) & 1 != 0;
    if encrypted || u16_at(central, 10) != 0 {
        return Err(PickleError::Compressed {
            entry: one_line(&name),
        });
    }
    // Fields that do not fit 32 bits are in an extra field, in this order.
    let mut wide = wide_fields(extra);
    let mut size = |narrow: u32| match narrow {
        u32::MAX => wide
            .next()
            .ok_or(damaged("an entry lacks its size or place")),
        narrow => Ok(u64::from(narrow)),
    };
    let unpacked = size(u32_at(central, 24))?;
    let packed = size(u32_at(central, 20))?;
    let local = size(u32_at(central, 42))?;
    if unpacked != packed {
        return Err(damaged("a stored entry has two sizes"));
    }
    // The name and the extra field before the bytes need not be those of the directory.
    let header = record(file, local, LOCAL)?;
    let before = LOCAL.1 + usize::from(u16_at(header, 26)) + usize::from(u16_at(header, 28));
    let bytes = local
        .checked_add(before as u64)
        .and_then(|start| slice(file, start, packed))
        .ok_or(damaged("an entry reaches beyond the file"))?;
    Ok((name, file.slice_ref(bytes)))
}

/// The 64-bit numbers of an entry's zip64 field.
fn wide_fields(mut extra: &[u8]) -> impl Iterator<Item = u64> {
    const ZIP64: u16 = 1;
    let mut field: &[u8] = &[];
    while let Some((head, rest)) = extra.split_at_checked(4) {
        let Some((body, rest)) = rest.split_at_checked(u16_at(head, 2).into()) else {
            break;
        };
        if u16_at(head, 0) == ZIP64 {
            field = body;
        }
        extra = rest;
    }
    field
        .as_chunks()
        .0
        .iter()
        .map(|&bytes| u64::from_le_bytes(bytes))
}

/// A record at byte `at`, if it is of the kind expected and there in full.
fn record<'a>(
    file: &'a [u8],
    at: u64,
    (signature, length): (&[u8], usize),
) -> Result<&'a [u8], PickleError> {
    slice(file, at, length as u64)
        .filter(|record| record.starts_with(signature))
        .ok_or(damaged("a record is missing or cut"))
}

fn slice(file: &[u8], start: u64, length: u64) -> Option<&[u8]> {
    let start = usize::try_from(start).ok()?;
    file.get(start..)?.get(..usize::try_from(length).ok()?)
}

fn u16_at(record: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([record[at], record[at + 1]])
}

fn u32_at(record: &[u8], at: usize) -> u32 {
    u32::from(u16_at(record, at)) | u32::from(u16_at(record, at + 2)) << 16
}

fn u64_at(record: &[u8], at: usize) -> u64 {
    u64::from(u32_at(record, at)) | u64::from(u32_at(record, at + 4)) << 32
}
