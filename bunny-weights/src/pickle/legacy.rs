//! The format of `torch.save` before 1.6: five pickles in a row, then the storages.
//!
//! ```text
//! magic number | protocol | system | the object | keys of the storages | storages
//! ```
//!
//! A storage is its number of elements in eight bytes, then the elements.

use std::collections::HashMap;

use bytes::Bytes;

use super::Storages;
use super::machine;
use super::values::{Id, Pickle, Value};
use crate::error::{PickleError, one_line};

/// The first pickle, from its second byte on (the first is an opcode, then a protocol's number):
/// torch's magic number as an integer of ten bytes.
const MAGIC: [u8; 13] = *b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// The parts of a file.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub pickle: Pickle<'a>,
    pub storages: Storages,
}

/// Whether a file starts as this format does.
pub(super) fn is_legacy(file: &[u8]) -> bool {
    file.first() == Some(&0x80) && file.get(2..).is_some_and(|rest| rest.starts_with(&MAGIC))
}

/// Finds pickle and storages in a file.
pub(super) fn open(file: &Bytes) -> Result<Parts<'_>, PickleError> {
    let magic = machine::run(file, 0)?;
    let protocol = machine::run(file, magic.end)?;
    let system = machine::run(file, protocol.end)?;
    if let Value::Dict(facts) = system.value(system.root)
        && facts.iter().any(|&(key, value)| {
            system.text(key) == Some("little_endian")
                && !matches!(system.value(value), Value::Bool(true))
        })
    {
        return Err(PickleError::BigEndian);
    }
    let pickle = machine::run(file, system.end)?;
    let keys = machine::run(file, pickle.end)?;
    let Value::List(order) = keys.value(keys.root) else {
        return Err(PickleError::Damaged {
            reason: "no list of storages",
            at: pickle.end,
        });
    };
    let storages = storages(file, &pickle, &keys, order)?;
    Ok(Parts { pickle, storages })
}

fn storages(
    file: &Bytes,
    pickle: &Pickle<'_>,
    keys: &Pickle<'_>,
    order: &[Id],
) -> Result<Storages, PickleError> {
    // The bytes of an element are known from the pickle alone.
    let known: HashMap<_, _> = pickle
        .storages()
        .map(|storage| (storage.key, storage.dtype))
        .collect();
    let mut storages = Storages::new();
    let mut at = keys.end;
    for &key in order {
        let key = keys.text(key).ok_or(PickleError::Damaged {
            reason: "a storage without a key",
            at: keys.end,
        })?;
        let missing = || PickleError::MissingEntry {
            entry: one_line(key),
        };
        let dtype = known.get(key).ok_or_else(missing)?;
        let rest = file.get(at..).ok_or_else(missing)?;
        let (elements, rest) = rest.split_first_chunk().ok_or_else(missing)?;
        let expected = u64::from_le_bytes(*elements).saturating_mul(dtype.size() as u64);
        let bytes = usize::try_from(expected)
            .ok()
            .and_then(|length| rest.get(..length))
            .ok_or(PickleError::StorageSize {
                storage: one_line(key),
                expected,
                found: rest.len() as u64,
            })?;
        at += size_of::<u64>() + bytes.len();
        storages.insert(key.to_string(), file.slice_ref(bytes));
    }
    Ok(storages)
}
