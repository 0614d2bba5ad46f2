//! What a GGUF file says beside its tensors: keys, each with a value of one of thirteen types.

use std::collections::BTreeMap;

use bytes::Bytes;

/// The keys of a file, each with its value.
pub type Metadata = BTreeMap<String, Value>;

/// The numbers that types of values have in files.
pub(super) mod id {
    pub const U8: u32 = 0;
    pub const I8: u32 = 1;
    pub const U16: u32 = 2;
    pub const I16: u32 = 3;
    pub const U32: u32 = 4;
    pub const I32: u32 = 5;
    pub const F32: u32 = 6;
    pub const BOOL: u32 = 7;
    pub const STRING: u32 = 8;
    pub const ARRAY: u32 = 9;
    pub const U64: u32 = 10;
    pub const I64: u32 = 11;
    pub const F64: u32 = 12;
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// A number of eight bits without sign.
    U8(u8),
    /// A number of eight bits.
    I8(i8),
    /// A number of 16 bits without sign.
    U16(u16),
    /// A number of 16 bits.
    I16(i16),
    /// A number of 32 bits without sign; most counts.
    U32(u32),
    /// A number of 32 bits.
    I32(i32),
    /// A float of 32 bits.
    F32(f32),
    /// A truth value.
    Bool(bool),
    /// A text.
    String(String),
    /// A list of values of one type.
    Array(Array),
    /// A number of 64 bits without sign.
    U64(u64),
    /// A number of 64 bits.
    I64(i64),
    /// A float of 64 bits.
    F64(f64),
}

impl Value {
    /// The number of its type in files.
    pub(super) fn id(&self) -> u32 {
        match self {
            Self::U8(_) => id::U8,
            Self::I8(_) => id::I8,
            Self::U16(_) => id::U16,
            Self::I16(_) => id::I16,
            Self::U32(_) => id::U32,
            Self::I32(_) => id::I32,
            Self::F32(_) => id::F32,
            Self::Bool(_) => id::BOOL,
            Self::String(_) => id::STRING,
            Self::Array(_) => id::ARRAY,
            Self::U64(_) => id::U64,
            Self::I64(_) => id::I64,
            Self::F64(_) => id::F64,
        }
    }

    /// A whole number of any type.
    pub fn integer(&self) -> Option<i128> {
        match *self {
            Self::U8(number) => Some(number.into()),
            Self::I8(number) => Some(number.into()),
            Self::U16(number) => Some(number.into()),
            Self::I16(number) => Some(number.into()),
            Self::U32(number) => Some(number.into()),
            Self::I32(number) => Some(number.into()),
            Self::U64(number) => Some(number.into()),
            Self::I64(number) => Some(number.into()),
            _ => None,
        }
    }

    /// A text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// A list.
    pub fn array(&self) -> Option<&Array> {
        match self {
            Self::Array(array) => Some(array),
            _ => None,
        }
    }

    /// Puts it behind `bytes` as files have it.
    pub(super) fn put(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::U8(number) => bytes.push(*number),
            Self::I8(number) => bytes.push(*number as u8),
            Self::U16(number) => bytes.extend(number.to_le_bytes()),
            Self::I16(number) => bytes.extend(number.to_le_bytes()),
            Self::U32(number) => bytes.extend(number.to_le_bytes()),
            Self::I32(number) => bytes.extend(number.to_le_bytes()),
            Self::F32(number) => bytes.extend(number.to_le_bytes()),
            Self::Bool(truth) => bytes.push(u8::from(*truth)),
            Self::String(text) => put_text(bytes, text),
            Self::Array(array) => {
                bytes.extend(array.kind.to_le_bytes());
                bytes.extend((array.count as u64).to_le_bytes());
                bytes.extend(&array.bytes);
            }
            Self::U64(number) => bytes.extend(number.to_le_bytes()),
            Self::I64(number) => bytes.extend(number.to_le_bytes()),
            Self::F64(number) => bytes.extend(number.to_le_bytes()),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::U32(number)
    }
}

impl From<f32> for Value {
    fn from(number: f32) -> Self {
        Self::F32(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<Array> for Value {
    fn from(array: Array) -> Self {
        Self::Array(array)
    }
}

/// Puts a text behind `bytes` as files have it: its length, then itself.
pub(super) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.bytes());
}

/// A list of values of one type, as its file has it: a vocabulary is read where it lies.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    pub(super) kind: u32,
    pub(super) count: usize,
    pub(super) bytes: Bytes,
}

impl Array {
    /// A list of texts.
    pub fn of_texts<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Self {
        let (mut bytes, mut count) = (Vec::new(), 0);
        for text in texts {
            put_text(&mut bytes, text.as_ref());
            count += 1;
        }
        Self {
            kind: id::STRING,
            count,
            bytes: bytes.into(),
        }
    }

    /// A list of numbers of 32 bits.
    pub fn of_integers(numbers: &[i32]) -> Self {
        Self {
            kind: id::I32,
            count: numbers.len(),
            bytes: Bytes::copy_from_slice(bytemuck::cast_slice(numbers)),
        }
    }

    /// A list of floats of 32 bits.
    pub fn of_floats(numbers: &[f32]) -> Self {
        Self {
            kind: id::F32,
            count: numbers.len(),
            bytes: Bytes::copy_from_slice(bytemuck::cast_slice(numbers)),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The texts, if it is a list of such.
    pub fn texts(&self) -> Option<impl ExactSizeIterator<Item = &str>> {
        (self.kind == id::STRING).then_some(Texts {
            rest: &self.bytes,
            left: self.count,
        })
    }

    /// Its whole numbers, if it is a list of such of 32 bits.
    pub fn integers(&self) -> Option<impl ExactSizeIterator<Item = i64>> {
        let is_signed = self.kind == id::I32;
        let numbers = self.bytes.as_chunks::<4>().0.iter();
        matches!(self.kind, id::I32 | id::U32).then_some(numbers.map(
            move |bytes| match is_signed {
                true => i32::from_le_bytes(*bytes).into(),
                false => u32::from_le_bytes(*bytes).into(),
            },
        ))
    }

    /// Its floats, if it is a list of such of 32 bits.
    pub fn floats(&self) -> Option<impl ExactSizeIterator<Item = f32>> {
        let numbers = self.bytes.as_chunks::<4>().0.iter();
        (self.kind == id::F32).then_some(numbers.map(|bytes| f32::from_le_bytes(*bytes)))
    }
}

/// Texts one behind the other, which were checked when the file was read.
struct Texts<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Texts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let (length, rest) = self.rest.split_first_chunk::<8>()?;
        let (text, rest) = rest.split_at_checked(u64::from_le_bytes(*length) as usize)?;
        self.rest = rest;
        self.left -= 1;
        str::from_utf8(text).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Texts<'_> {}
