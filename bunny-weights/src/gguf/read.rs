//! The header of a GGUF file, held against its length before anything is believed.

use std::{
    collections::{HashSet, btree_map},
    ops::Range,
};

use bytes::Bytes;

use super::{Array, MAGIC, Metadata, TensorType, Value, metadata::id};
use crate::error::{GgufError, one_line};

/// What tensors begin at multiples of unless the file says it.
pub(super) const ALIGNMENT: u64 = 32;
/// The most that a file may say instead.
const MOST_ALIGNMENT: u64 = 1 << 16;
/// The most dimensions that a tensor has.
const DIMENSIONS: u32 = 4;

/// What a header says.
#[derive(Debug)]
pub(super) struct Header {
    pub metadata: Metadata,
    pub tensors: Vec<Entry>,
}

/// Where a tensor lies.
#[derive(Debug)]
pub(super) struct Entry {
    pub name: String,
    pub kind: TensorType,
    pub shape: Vec<usize>,
    /// Bytes from the start of the file.
    pub bytes: Range<usize>,
}

/// Reads the header of a whole file and checks it against the file's length.
pub(super) fn parse(file: &Bytes) -> Result<Header, GgufError> {
    let mut cursor = Cursor { file, at: 0 };
    if cursor.take(4).ok() != Some(&MAGIC[..]) {
        return Err(GgufError::NotGguf);
    }
    match cursor.u32()? {
        2 | 3 => {}
        version if matches!(version.swap_bytes(), 1..=3) => return Err(GgufError::BigEndian),
        version => return Err(GgufError::Version { version }),
    }
    let tensors = cursor.u64()?;
    let keys = cursor.u64()?;
    // A key takes its length, the type of its value, and a byte at least; a tensor more.
    let keys = cursor.count("keys", keys, 13)?;
    let mut metadata = Metadata::new();
    for _ in 0..keys {
        let key = cursor.text()?;
        let kind = cursor.u32()?;
        let value = cursor.value(&key, kind)?;
        match metadata.entry(key) {
            btree_map::Entry::Vacant(entry) => drop(entry.insert(value)),
            btree_map::Entry::Occupied(entry) => {
                let key = one_line(entry.key());
                return Err(GgufError::DuplicateKey { key });
            }
        }
    }
    let parts = metadata.get("split.count").and_then(Value::integer);
    if let Some(parts) = parts.filter(|parts| *parts > 1) {
        let parts = u64::try_from(parts).unwrap_or(u64::MAX);
        return Err(GgufError::Split { parts });
    }
    let alignment = alignment(&metadata)?;
    let tensors = cursor.count("tensors", tensors, 32)?;
    let mut listed = Vec::with_capacity(tensors);
    for _ in 0..tensors {
        listed.push(cursor.tensor()?);
    }
    // Zeros up to the next multiple of the alignment.
    let start = (cursor.at as u64).next_multiple_of(alignment);
    Ok(Header {
        tensors: placed(listed, start, alignment, file.len())?,
        metadata,
    })
}

/// What tensors begin at multiples of.
fn alignment(metadata: &Metadata) -> Result<u64, GgufError> {
    const KEY: &str = "general.alignment";
    let Some(value) = metadata.get(KEY) else {
        return Ok(ALIGNMENT);
    };
    let number = value
        .integer()
        .and_then(|number| u64::try_from(number).ok());
    let is_right = |number: &u64| number.is_power_of_two() && *number <= MOST_ALIGNMENT;
    number.filter(is_right).ok_or_else(|| GgufError::Value {
        key: KEY.into(),
        problem: "is no power of two of at most 65536",
    })
}

/// A tensor as the header lists it.
struct Listed {
    name: String,
    kind: TensorType,
    shape: Vec<usize>,
    size: u64,
    offset: u64,
}

/// Finds where tensors lie; no two may share a byte.
fn placed(
    mut listed: Vec<Listed>,
    start: u64,
    alignment: u64,
    found: usize,
) -> Result<Vec<Entry>, GgufError> {
    let mut names = HashSet::with_capacity(listed.len());
    if let Some(twice) = listed.iter().find(|tensor| !names.insert(&tensor.name)) {
        let tensor = one_line(&twice.name);
        return Err(GgufError::DuplicateTensor { tensor });
    }
    listed.sort_by_key(|tensor| tensor.offset);
    let mut entries: Vec<Entry> = Vec::with_capacity(listed.len());
    for tensor in listed {
        let name = || one_line(&tensor.name);
        let offset = tensor.offset;
        if !offset.is_multiple_of(alignment) {
            return Err(GgufError::Misaligned {
                tensor: name(),
                offset,
                alignment,
            });
        }
        let begin = start.saturating_add(offset);
        let end = begin.saturating_add(tensor.size);
        if end > found as u64 {
            return Err(GgufError::DataCut {
                tensor: name(),
                end,
                found,
            });
        }
        if let Some(before) = entries
            .last()
            .filter(|before| before.bytes.end as u64 > begin)
        {
            return Err(GgufError::Overlap {
                first: one_line(&before.name),
                second: name(),
            });
        }
        entries.push(Entry {
            name: tensor.name,
            kind: tensor.kind,
            shape: tensor.shape,
            bytes: begin as usize..end as usize,
        });
    }
    Ok(entries)
}

/// A place in a file.
struct Cursor<'a> {
    file: &'a Bytes,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], GgufError> {
        let at = self.at;
        let end = at.checked_add(count).filter(|end| *end <= self.file.len());
        let end = end.ok_or(GgufError::Cut { at })?;
        self.at = end;
        Ok(&self.file[at..end])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let at = self.at;
        let bytes = self.take(N)?.first_chunk::<N>();
        bytes.copied().ok_or(GgufError::Cut { at })
    }

    fn u32(&mut self) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A count of things of at least so many bytes each, that the rest of the file has room for.
    fn count(&self, what: &'static str, count: u64, bytes: u64) -> Result<usize, GgufError> {
        let left = (self.file.len() - self.at) as u64;
        match count <= left / bytes {
            true => Ok(count as usize),
            false => Err(GgufError::Count {
                what,
                count,
                bytes: self.file.len(),
            }),
        }
    }

    fn str(&mut self) -> Result<&'a str, GgufError> {
        let at = self.at;
        let length = self.u64()?;
        let length = usize::try_from(length).map_err(|_| GgufError::Cut { at })?;
        let text = self.take(length)?;
        str::from_utf8(text).map_err(|_| GgufError::NotUtf8 { at })
    }

    fn text(&mut self) -> Result<String, GgufError> {
        self.str().map(str::to_owned)
    }

    /// A value of the type with the number `kind`.
    fn value(&mut self, key: &str, kind: u32) -> Result<Value, GgufError> {
        Ok(match kind {
            id::U8 => Value::U8(u8::from_le_bytes(self.array()?)),
            id::I8 => Value::I8(i8::from_le_bytes(self.array()?)),
            id::U16 => Value::U16(u16::from_le_bytes(self.array()?)),
            id::I16 => Value::I16(i16::from_le_bytes(self.array()?)),
            id::U32 => Value::U32(self.u32()?),
            id::I32 => Value::I32(i32::from_le_bytes(self.array()?)),
            id::F32 => Value::F32(f32::from_le_bytes(self.array()?)),
            id::BOOL => Value::Bool(self.array::<1>()? != [0]),
            id::STRING => Value::String(self.text()?),
            id::ARRAY => Value::Array(self.list(key)?),
            id::U64 => Value::U64(self.u64()?),
            id::I64 => Value::I64(i64::from_le_bytes(self.array()?)),
            id::F64 => Value::F64(f64::from_le_bytes(self.array()?)),
            id => {
                let key = one_line(key);
                return Err(GgufError::ValueType { key, id });
            }
        })
    }

    fn list(&mut self, key: &str) -> Result<Array, GgufError> {
        let kind = self.u32()?;
        let count = self.u64()?;
        let size = match kind {
            id::U8 | id::I8 | id::BOOL => 1,
            id::U16 | id::I16 => 2,
            id::U32 | id::I32 | id::F32 => 4,
            id::U64 | id::I64 | id::F64 | id::STRING => 8,
            id::ARRAY => {
                let key = one_line(key);
                return Err(GgufError::Nested { key });
            }
            id => {
                let key = one_line(key);
                return Err(GgufError::ValueType { key, id });
            }
        };
        let count = self.count("entries of a list", count, size)?;
        let start = self.at;
        match kind {
            id::STRING => {
                for _ in 0..count {
                    self.str()?;
                }
            }
            _ => drop(self.take(count * size as usize)?),
        }
        Ok(Array {
            kind,
            count,
            bytes: self.file.slice(start..self.at),
        })
    }

    fn tensor(&mut self) -> Result<Listed, GgufError> {
        let name = self.text()?;
        let count = self.u32()?;
        let mut sizes = Vec::new();
        for _ in 0..count.min(DIMENSIONS) {
            sizes.push(self.u64()?);
        }
        let shape = || GgufError::Shape {
            tensor: one_line(&name),
            shape: sizes.clone(),
        };
        if !(1..=DIMENSIONS).contains(&count) || sizes.contains(&0) {
            return Err(shape());
        }
        let id = self.u32()?;
        let offset = self.u64()?;
        let Some(kind) = TensorType::from_id(id) else {
            return Err(GgufError::TensorType {
                tensor: one_line(&name),
                kind: type_name(id),
            });
        };
        let row = sizes[0];
        if !row.is_multiple_of(kind.block() as u64) {
            return Err(GgufError::Row {
                tensor: one_line(&name),
                row,
                kind: kind.name(),
                block: kind.block(),
            });
        }
        let numbers = sizes
            .iter()
            .try_fold(1u64, |all, size| all.checked_mul(*size));
        let bytes = numbers.and_then(|numbers| {
            let blocks = numbers / kind.block() as u64;
            blocks.checked_mul(kind.block_bytes() as u64)
        });
        // Numbers are counted in f32 too.
        let is_countable = |_: &u64| numbers.is_some_and(|count| count <= (isize::MAX / 8) as u64);
        let size = bytes.filter(is_countable).ok_or_else(shape)?;
        Ok(Listed {
            shape: sizes.iter().rev().map(|size| *size as usize).collect(),
            name,
            kind,
            size,
            offset,
        })
    }
}

/// The name of a type that is not read here.
fn type_name(id: u32) -> String {
    let name = match id {
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        40 => "NVFP4",
        _ => return format!("type {id}"),
    };
    name.into()
}
