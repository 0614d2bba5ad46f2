//! The safetensors format: a JSON header that says where each tensor lies, then the tensors.
//!
//! ```text
//! | 8 bytes: length n | n bytes: {"name": {"dtype", "shape", "data_offsets"}, ...} | tensors |
//! ```
//!
//! Offsets count from the end of the header. The tensors fill the rest of the file without gaps
//! or overlaps, in any order of names.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};

use super::error::{HeaderError, one_line};
use super::reader::StoredDtype;

/// The longest header that is read, as in the reference implementation.
const HEADER_LIMIT: u64 = 100_000_000;

/// The key that holds remarks instead of a tensor.
pub(super) const METADATA: &str = "__metadata__";

/// What a safetensors file's header says.
#[derive(Debug)]
pub(super) struct Header {
    /// The tensors, by where they lie.
    pub tensors: Vec<Entry>,
    /// Remarks; `{"format": "pt"}` in files of torch.
    pub metadata: BTreeMap<String, String>,
}

/// Where a tensor lies.
#[derive(Debug)]
pub(super) struct Entry {
    pub name: String,
    pub dtype: StoredDtype,
    pub shape: Vec<usize>,
    /// Bytes from the start of the file.
    pub bytes: std::ops::Range<usize>,
}

/// Reads the header of a whole file and checks it against the file's length.
pub(super) fn parse(file: &[u8]) -> Result<Header, HeaderError> {
    let (length, rest) = file
        .split_first_chunk()
        .ok_or(HeaderError::TooShort { found: file.len() })?;
    let length = u64::from_le_bytes(*length);
    if length > HEADER_LIMIT {
        return Err(HeaderError::TooLarge {
            length,
            limit: HEADER_LIMIT,
        });
    }
    let (header, data) = rest
        .split_at_checked(length as usize)
        .ok_or(HeaderError::Cut {
            length,
            found: rest.len() as u64,
        })?;
    let raw = RawHeader::parse(header)?;

    let mut tensors = raw.tensors;
    tensors.sort_by_key(|(_, raw)| raw.data_offsets);
    let mut end = 0;
    let data_start = 8 + header.len();
    let mut entries = Vec::with_capacity(tensors.len());
    for (name, raw) in tensors {
        let entry = raw.check(name, end, data_start)?;
        end += entry.bytes.len() as u64;
        entries.push(entry);
    }
    let found = data.len() as u64;
    match end.cmp(&found) {
        std::cmp::Ordering::Greater => Err(HeaderError::DataCut {
            expected: end,
            found,
        }),
        std::cmp::Ordering::Less => Err(HeaderError::DataLeft {
            expected: end,
            found,
        }),
        std::cmp::Ordering::Equal => Ok(Header {
            tensors: entries,
            metadata: raw.metadata.unwrap_or_default(),
        }),
    }
}

/// The header as JSON has it.
struct RawHeader {
    tensors: Vec<(String, RawEntry)>,
    metadata: Option<BTreeMap<String, String>>,
}

/// One tensor as JSON has it. Nothing here nests without end, so neither can the JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl RawHeader {
    fn parse(header: &[u8]) -> Result<Self, HeaderError> {
        let text = std::str::from_utf8(header).map_err(|error| HeaderError::NotUtf8 {
            at: error.valid_up_to(),
        })?;
        if !text.starts_with('{') {
            return Err(HeaderError::NotAnObject);
        }
        let raw: Self = serde_json::from_str(text).map_err(|error| HeaderError::Json {
            reason: one_line(&error.to_string()),
        })?;
        let mut names = HashSet::with_capacity(raw.tensors.len());
        match raw.tensors.iter().find(|(name, _)| !names.insert(name)) {
            Some((name, _)) => Err(HeaderError::DuplicateTensor {
                tensor: one_line(name),
            }),
            None => Ok(raw),
        }
    }
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            // A map type would keep one of two tensors of the same name, and be silent about it.
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut header = RawHeader {
                    tensors: Vec::new(),
                    metadata: None,
                };
                while let Some(name) = map.next_key::<String>()? {
                    if name != METADATA {
                        header.tensors.push((name, map.next_value()?));
                    } else if header.metadata.replace(map.next_value()?).is_some() {
                        return Err(A::Error::duplicate_field(METADATA));
                    }
                }
                Ok(header)
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

impl RawEntry {
    /// Checks one tensor that must begin where the one before ended, at `expected`.
    fn check(self, name: String, expected: u64, data_start: usize) -> Result<Entry, HeaderError> {
        let tensor = || one_line(&name);
        let Some(dtype) = StoredDtype::from_safetensors(&self.dtype) else {
            return Err(HeaderError::UnknownDtype {
                tensor: tensor(),
                dtype: one_line(&self.dtype),
            });
        };
        let (begin, end) = self.data_offsets;
        if end < begin {
            return Err(HeaderError::Reversed {
                tensor: tensor(),
                begin,
                end,
            });
        }
        let needed = self
            .shape
            .iter()
            .try_fold(dtype.size() as u64, |bytes, &size| bytes.checked_mul(size))
            .filter(|&bytes| bytes <= isize::MAX as u64);
        // A zero in the shape must not hide the other sizes, which are counted as `usize` later.
        let countable = self.shape.iter().all(|&size| size <= isize::MAX as u64);
        let (Some(needed), true) = (needed, countable) else {
            return Err(HeaderError::Overflow {
                tensor: tensor(),
                shape: self.shape,
            });
        };
        if needed != end - begin {
            return Err(HeaderError::WrongSize {
                tensor: tensor(),
                dtype: dtype.name(),
                shape: self.shape,
                expected: needed,
                found: end - begin,
            });
        }
        if begin < expected {
            return Err(HeaderError::Overlap {
                tensor: tensor(),
                begin,
                end: expected,
            });
        }
        if begin > expected {
            return Err(HeaderError::Gap {
                tensor: tensor(),
                begin,
                end: expected,
            });
        }
        // No overflow: `expected` is the sum of earlier sizes, and `parse` compares the last end
        // with the file before any range is used.
        let start = data_start.saturating_add(begin as usize);
        Ok(Entry {
            dtype,
            shape: self.shape.iter().map(|&size| size as usize).collect(),
            bytes: start..start.saturating_add(needed as usize),
            name,
        })
    }
}
