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

use crate::StoredDtype;
use crate::error::{HeaderError, one_line};

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

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &[u8], data: usize) -> Vec<u8> {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header);
        file.resize(file.len() + data, 0);
        file
    }

    fn fault(header: &str, data: usize) -> HeaderError {
        parse(&file(header.as_bytes(), data)).unwrap_err()
    }

    /// A header of tensors given as (name, shape, begin, end), all of 16-bit floats.
    fn header(tensors: &[(&str, &str, u64, u64)]) -> String {
        let tensors: Vec<_> = tensors
            .iter()
            .map(|(name, shape, begin, end)| {
                format!(
                    r#""{name}":{{"dtype":"F16","shape":{shape},"data_offsets":[{begin},{end}]}}"#
                )
            })
            .collect();
        format!("{{{}}}", tensors.join(","))
    }

    fn json(reason: &str) -> HeaderError {
        HeaderError::Json {
            reason: reason.into(),
        }
    }

    #[test]
    fn a_file_that_ends_early_is_cut() {
        assert_eq!(parse(&[]).unwrap_err(), HeaderError::TooShort { found: 0 });
        assert_eq!(
            parse(&[1; 7]).unwrap_err(),
            HeaderError::TooShort { found: 7 }
        );
        let whole = file(header(&[("a", "[4]", 0, 8)]).as_bytes(), 8);
        for length in 0..whole.len() {
            let fault = parse(&whole[..length]).unwrap_err();
            match length {
                0..8 => assert_eq!(fault, HeaderError::TooShort { found: length }),
                _ if length < whole.len() - 8 => {
                    let (length, found) = (whole.len() as u64 - 16, length as u64 - 8);
                    assert_eq!(fault, HeaderError::Cut { length, found });
                }
                _ => {
                    let found = (length + 8 - whole.len()) as u64;
                    assert_eq!(fault, HeaderError::DataCut { expected: 8, found });
                }
            }
        }
        assert!(parse(&whole).is_ok());
    }

    #[test]
    fn a_header_larger_than_any_real_one_is_refused_before_it_is_read() {
        let length = HEADER_LIMIT + 1;
        let fault = parse(&length.to_le_bytes()).unwrap_err();
        assert_eq!(
            fault,
            HeaderError::TooLarge {
                length,
                limit: HEADER_LIMIT
            }
        );
    }

    #[test]
    fn a_header_that_is_no_json_object_is_refused() {
        let fault_of = |header: &[u8]| parse(&file(header, 0)).unwrap_err();
        assert_eq!(fault_of(b"{\"a\xff\":1}"), HeaderError::NotUtf8 { at: 3 });
        assert_eq!(fault_of(b""), HeaderError::NotAnObject);
        assert_eq!(fault_of(b"[]"), HeaderError::NotAnObject);
        assert_eq!(fault_of(b" {}"), HeaderError::NotAnObject);
        assert_eq!(
            fault_of(b"{"),
            json("EOF while parsing an object at line 1 column 1")
        );
        assert_eq!(
            fault_of(b"{}x"),
            json("trailing characters at line 1 column 3")
        );
    }

    #[test]
    fn nesting_without_end_is_refused() {
        let header = format!("{{\"a\":{}", "[".repeat(1 << 20));
        assert!(matches!(fault(&header, 0), HeaderError::Json { .. }));
        let header = format!("{{\"__metadata__\":{}", "{\"a\":".repeat(1 << 20));
        assert!(matches!(fault(&header, 0), HeaderError::Json { .. }));
    }

    #[test]
    fn fields_are_those_of_the_format() {
        for (entry, reason) in [
            (
                r#"{"dtype":"F16","shape":[1]}"#,
                "missing field `data_offsets`",
            ),
            (
                r#"{"dtype":"F16","shape":[1],"data_offsets":[0]}"#,
                "invalid length 1",
            ),
            (
                r#"{"dtype":"F16","shape":[1],"data_offsets":[0,2,4]}"#,
                "trailing characters",
            ),
            (
                r#"{"dtype":"F16","shape":[-1],"data_offsets":[0,2]}"#,
                "invalid value: integer `-1`",
            ),
            (
                r#"{"dtype":"F16","shape":[1.0],"data_offsets":[0,2]}"#,
                "invalid type: floating",
            ),
            (
                r#"{"dtype":"F16","shape":[1],"data_offsets":[0,2],"x":1}"#,
                "unknown field `x`",
            ),
            (
                r#"{"dtype":"F16","dtype":"F16"}"#,
                "duplicate field `dtype`",
            ),
        ] {
            let HeaderError::Json { reason: found } = fault(&format!("{{\"a\":{entry}}}"), 2)
            else {
                panic!("{entry}")
            };
            assert!(found.starts_with(reason), "{entry}: {found}");
        }
    }

    #[test]
    fn a_name_given_twice_is_refused() {
        let twice = header(&[("a", "[1]", 0, 2), ("a", "[1]", 2, 4)]);
        assert_eq!(
            fault(&twice, 4),
            HeaderError::DuplicateTensor { tensor: "a".into() }
        );
        let metadata = r#"{"__metadata__":{},"__metadata__":{}}"#;
        assert_eq!(
            fault(metadata, 0),
            json("duplicate field `__metadata__` at line 1 column 37")
        );
    }

    #[test]
    fn a_number_type_that_is_not_read_here_is_named() {
        let header = r#"{"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}"#;
        let expected = HeaderError::UnknownDtype {
            tensor: "a".into(),
            dtype: "F8_E4M3".into(),
        };
        assert_eq!(fault(header, 2), expected);
    }

    #[test]
    fn a_tensor_that_ends_before_it_begins_is_refused() {
        let expected = HeaderError::Reversed {
            tensor: "a".into(),
            begin: 2,
            end: 0,
        };
        assert_eq!(fault(&header(&[("a", "[1]", 2, 0)]), 2), expected);
    }

    #[test]
    fn shapes_that_no_memory_holds_are_refused() {
        let huge = u64::MAX;
        for shape in [
            vec![huge],
            vec![1 << 32, 1 << 32],
            vec![1 << 62],
            vec![0, huge],
        ] {
            let header = header(&[("a", &format!("{shape:?}"), 0, 2)]);
            assert_eq!(
                fault(&header, 2),
                HeaderError::Overflow {
                    tensor: "a".into(),
                    shape
                }
            );
        }
    }

    #[test]
    fn a_tensor_has_the_bytes_of_its_shape() {
        let expected = |found| HeaderError::WrongSize {
            tensor: "a".into(),
            dtype: "F16",
            shape: vec![2, 3],
            expected: 12,
            found,
        };
        assert_eq!(fault(&header(&[("a", "[2,3]", 0, 10)]), 10), expected(10));
        assert_eq!(fault(&header(&[("a", "[2,3]", 0, 14)]), 14), expected(14));
    }

    #[test]
    fn tensors_fill_the_file_without_gaps_or_overlaps() {
        let overlap = header(&[("a", "[2]", 0, 4), ("b", "[2]", 2, 6)]);
        let expected = HeaderError::Overlap {
            tensor: "b".into(),
            begin: 2,
            end: 4,
        };
        assert_eq!(fault(&overlap, 6), expected);
        let gap = header(&[("a", "[2]", 0, 4), ("b", "[2]", 6, 10)]);
        let expected = HeaderError::Gap {
            tensor: "b".into(),
            begin: 6,
            end: 4,
        };
        assert_eq!(fault(&gap, 10), expected);
        let late = header(&[("a", "[1]", 2, 4)]);
        let expected = HeaderError::Gap {
            tensor: "a".into(),
            begin: 2,
            end: 0,
        };
        assert_eq!(fault(&late, 4), expected);
        let far = header(&[("a", "[1]", u64::MAX - 2, u64::MAX)]);
        assert!(matches!(fault(&far, 2), HeaderError::Gap { .. }));
        let one = header(&[("a", "[2]", 0, 4)]);
        assert_eq!(
            fault(&one, 5),
            HeaderError::DataLeft {
                expected: 4,
                found: 5
            }
        );
    }

    #[test]
    fn tensors_may_be_listed_in_any_order_and_be_empty() {
        let header = header(&[
            ("b", "[2]", 2, 6),
            ("none", "[0,7]", 2, 2),
            ("a", "[1]", 0, 2),
        ]);
        let start = 8 + header.len();
        let parsed = parse(&file(header.as_bytes(), 6)).unwrap();
        let found: Vec<_> = parsed
            .tensors
            .iter()
            .map(|entry| {
                (
                    entry.name.as_str(),
                    entry.bytes.start - start,
                    entry.bytes.len(),
                )
            })
            .collect();
        assert_eq!(found, [("a", 0, 2), ("none", 2, 0), ("b", 2, 4)]);
        assert!(parsed.metadata.is_empty());
        assert!(parse(&file(b"{}  ", 0)).unwrap().tensors.is_empty());
    }
}
