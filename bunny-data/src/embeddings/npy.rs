//! NumPy's `.npy` format: the header, read with care, and the one we write.
//!
//! ```text
//! \x93NUMPY  major minor  length(u16 | u32)  {'descr': '<f2', 'fortran_order': False, 'shape': (n, d), }  data
//! ```

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{ArrayFault, DataError, Result};

/// The type of the numbers in an embedding matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE half precision, `<f2`.
    Float16,
    /// IEEE single precision, `<f4`.
    Float32,
    /// IEEE double precision, `<f8`: read as the nearest single ones.
    Float64,
}

impl Dtype {
    /// Bytes of one number.
    pub const fn size(self) -> usize {
        match self {
            Self::Float16 => 2,
            Self::Float32 => 4,
            Self::Float64 => 8,
        }
    }

    /// What messages call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Float16 => "Float16",
            Self::Float32 => "Float32",
            Self::Float64 => "Float64",
        }
    }

    const fn descr(self) -> &'static str {
        match self {
            Self::Float16 => "<f2",
            Self::Float32 => "<f4",
            Self::Float64 => "<f8",
        }
    }
}

/// What the header of a two-dimensional, C-ordered float array says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NpyHeader {
    /// The type of the numbers.
    pub dtype: Dtype,
    /// The first extent.
    pub rows: u64,
    /// The second extent.
    pub dims: usize,
    /// Where the numbers start.
    pub data_offset: usize,
}

/// The longest header that is read; `numpy.load` refuses above 10,000 bytes.
const MAX_HEADER: usize = 10_000;

/// No embedding is wider than this.
const MAX_DIMS: u64 = 1 << 16;

impl NpyHeader {
    /// How many bytes at the start of a file are enough to parse any header.
    pub const PREFIX: usize = 12 + MAX_HEADER;

    /// Reads the header at the start of `bytes`, of which [`Self::PREFIX`] are enough.
    ///
    /// # Errors
    /// [`DataError::Array`], naming `path`, for anything but a little-endian array of floating-point
    /// numbers of two dimensions in C order.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let wrong = |fault| DataError::array(path, fault);
        let rest = bytes
            .strip_prefix(b"\x93NUMPY")
            .ok_or_else(|| wrong(ArrayFault::Magic))?;
        let (start, length) = match *rest {
            [1, _, a, b, ..] => (10, usize::from(u16::from_le_bytes([a, b]))),
            [2 | 3, _, a, b, c, d, ..] => (12, u32::from_le_bytes([a, b, c, d]) as usize),
            [major, ..] if !(1..=3).contains(&major) => {
                return Err(wrong(ArrayFault::Version));
            }
            _ => return Err(wrong(ArrayFault::HeaderCutShort)),
        };
        if length > MAX_HEADER {
            return Err(wrong(ArrayFault::HeaderTooLong));
        }
        let text = bytes
            .get(start..start + length)
            .ok_or_else(|| wrong(ArrayFault::HeaderCutShort))?;
        let text = std::str::from_utf8(text).map_err(|_| wrong(ArrayFault::HeaderNotText))?;
        let fields = Fields::parse(text).ok_or_else(|| wrong(ArrayFault::HeaderNotADict))?;

        let dtype = match fields.descr {
            Some("<f2") => Dtype::Float16,
            Some("<f4") => Dtype::Float32,
            Some("<f8") => Dtype::Float64,
            Some(other) => {
                return Err(wrong(ArrayFault::Type(other.to_owned())));
            }
            None => return Err(wrong(ArrayFault::Missing("plain 'descr'"))),
        };
        match fields.fortran_order {
            Some(false) => {}
            Some(true) => {
                return Err(wrong(ArrayFault::FortranOrder));
            }
            None => return Err(wrong(ArrayFault::Missing("'fortran_order'"))),
        }
        let (rows, dims) = match fields.shape.as_deref() {
            Some(&[rows, dims]) => (rows, dims),
            Some(_) => {
                return Err(wrong(ArrayFault::NotAMatrix));
            }
            None => return Err(wrong(ArrayFault::Missing("'shape'"))),
        };
        if dims == 0 || dims > MAX_DIMS {
            return Err(wrong(ArrayFault::Width));
        }
        let header = Self {
            dtype,
            rows,
            dims: dims as usize,
            data_offset: start + length,
        };
        header
            .data_bytes()
            .map(|_| header)
            .ok_or_else(|| wrong(ArrayFault::Shape))
    }

    /// Bytes of the numbers; `None` where they would not fit 63 bits.
    pub fn data_bytes(&self) -> Option<u64> {
        self.rows
            .checked_mul(self.dims as u64 * self.dtype.size() as u64)
            .filter(|bytes| *bytes < 1 << 62)
    }

    /// The bytes that `numpy.save` would put before a C-ordered matrix: padded to 64.
    pub fn write(dtype: Dtype, rows: u64, dims: usize) -> Vec<u8> {
        header_bytes(
            &format!("'{}'", dtype.descr()),
            &format!("({rows}, {dims})"),
        )
    }
}

/// A version 1 header for any `descr` and `shape`, both as Python literals.
pub(crate) fn header_bytes(descr: &str, shape: &str) -> Vec<u8> {
    let mut dict = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}");
    let unpadded = 10 + dict.len() + 1;
    dict.extend(std::iter::repeat_n(
        ' ',
        unpadded.next_multiple_of(64) - unpadded,
    ));
    dict.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&(dict.len() as u16).to_le_bytes());
    bytes.extend_from_slice(dict.as_bytes());
    bytes
}

/// The three entries of the header's dict; absent ones and ones of another type are `None`.
#[derive(Default)]
struct Fields<'a> {
    descr: Option<&'a str>,
    fortran_order: Option<bool>,
    shape: Option<Vec<u64>>,
}

impl<'a> Fields<'a> {
    /// Reads the dict literal that NumPy writes: quoted keys; strings, booleans, tuples of
    /// integers, and for structured types lists, which are skipped.
    fn parse(text: &'a str) -> Option<Self> {
        let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
        let mut fields = Self::default();
        while !rest.is_empty() {
            let (key, after) = quoted(rest)?;
            let value = after.trim_start().strip_prefix(':')?.trim_start();
            let after = if let Some((text, after)) = quoted(value) {
                if key == "descr" {
                    fields.descr = Some(text);
                }
                after
            } else if let Some(after) = value.strip_prefix("False") {
                if key == "fortran_order" {
                    fields.fortran_order = Some(false);
                }
                after
            } else if let Some(after) = value.strip_prefix("True") {
                if key == "fortran_order" {
                    fields.fortran_order = Some(true);
                }
                after
            } else if let Some(inside) = value.strip_prefix('(') {
                let (inside, after) = inside.split_once(')')?;
                if key == "shape" {
                    fields.shape = Some(extents(inside)?);
                }
                after
            } else {
                value.strip_prefix('[')?.rsplit_once(']')?.1
            };
            rest = after.trim_start();
            rest = rest.strip_prefix(',').map_or(rest, str::trim_start);
        }
        Some(fields)
    }
}

/// A string without escapes, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote)
}

/// The integers of a tuple; a trailing comma is allowed.
fn extents(inside: &str) -> Option<Vec<u64>> {
    let inside = inside.trim();
    let inside = inside.strip_suffix(',').unwrap_or(inside);
    if inside.is_empty() {
        return Some(Vec::new());
    }
    inside
        .split(',')
        .map(|extent| {
            let extent = extent.trim();
            // Python 2 wrote long integers with an L.
            extent.strip_suffix('L').unwrap_or(extent).parse().ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<NpyHeader> {
        NpyHeader::parse(bytes, Path::new("img_emb_0.npy"))
    }

    fn with_dict(dict: &str) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend_from_slice(&(dict.len() as u16).to_le_bytes());
        bytes.extend_from_slice(dict.as_bytes());
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        for (dtype, rows, dims) in [
            (Dtype::Float16, 0, 1),
            (Dtype::Float32, 1 << 40, 768),
            (Dtype::Float64, 3, 5),
        ] {
            let bytes = NpyHeader::write(dtype, rows, dims);
            assert_eq!(bytes.len() % 64, 0);
            let header = parse(&bytes).unwrap();
            assert_eq!(
                (header.dtype, header.rows, header.dims),
                (dtype, rows, dims)
            );
            assert_eq!(header.data_offset, bytes.len());
        }
    }

    #[test]
    fn the_header_numpy_writes_is_read() {
        // numpy.save of numpy.zeros((3, 4), 'f2'), NumPy 2: the first 128 bytes.
        let mut bytes = b"\x93NUMPY\x01\x00v\x00".to_vec();
        bytes.extend_from_slice(b"{'descr': '<f2', 'fortran_order': False, 'shape': (3, 4), }");
        bytes.resize(127, b' ');
        bytes.push(b'\n');
        let header = parse(&bytes).unwrap();
        assert_eq!((header.rows, header.dims, header.data_offset), (3, 4, 128));
    }

    #[test]
    fn every_unfit_header_says_why() {
        let cases: [(&[u8], &str); 4] = [
            (b"PK\x03\x04", "magic"),
            (b"\x93NUMPY\x01\x00", "cut short"),
            (b"\x93NUMPY\x09\x00\x10\x00", "version"),
            (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f", "10,000"),
        ];
        for (bytes, what) in cases {
            assert!(parse(bytes).unwrap_err().to_string().contains(what));
        }
        let cases = [
            (
                "{'descr': '<i8', 'fortran_order': False, 'shape': (3, 4)}",
                "<i8",
            ),
            (
                "{'descr': '>f2', 'fortran_order': False, 'shape': (3, 4)}",
                ">f2",
            ),
            (
                "{'descr': '<f2', 'fortran_order': True, 'shape': (3, 4)}",
                "Fortran",
            ),
            (
                "{'descr': '<f2', 'fortran_order': False, 'shape': (3,)}",
                "two dimensions",
            ),
            (
                "{'descr': '<f2', 'fortran_order': False, 'shape': (3, 0)}",
                "between 1",
            ),
            (
                "{'descr': '<f2', 'fortran_order': False, 'shape': (3, -4)}",
                "not a dict",
            ),
            (
                "{'descr': '<f2', 'fortran_order': False, 'shape': (9223372036854775807, 65536)}",
                "no file",
            ),
            (
                "{'descr': [('f0', '<u8')], 'fortran_order': False, 'shape': (3, 4)}",
                "'descr'",
            ),
            ("{'descr': '<f2', 'shape': (3, 4)}", "'fortran_order'"),
            ("{'descr': '<f2', 'fortran_order': False}", "'shape'"),
            ("['descr']", "not a dict"),
        ];
        for (dict, what) in cases {
            let message = parse(&with_dict(dict)).unwrap_err().to_string();
            assert!(message.contains(what), "{dict}: {message}");
            assert!(message.starts_with("img_emb_0.npy: "));
        }
    }
}
