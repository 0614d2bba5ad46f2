//! Files of `torch.save`, read without Python and without running what they say.
//!
//! Such a file is a pickle, a little program that builds objects, beside the tensors' storages.
//! [`machine`] runs the program with a short list of what it may build; [`archive`] and [`legacy`]
//! find program and storages in the two containers that torch has had; [`view`] checks that each
//! tensor lies within its storage.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use crate::error::{PickleError, one_line};
use values::{Id, Pickle, Value};

mod archive;
mod legacy;
mod machine;
mod values;
mod view;

pub(super) use view::View;

/// Keys under which training scripts store the state dict beside other things; the first present
/// counts, as in EVA-CLIP's loader.
const WRAPPER_KEYS: [&str; 3] = ["model", "module", "state_dict"];

/// A state dict.
#[derive(Debug)]
pub(super) struct State {
    pub tensors: BTreeMap<String, View>,
    /// What lay beside the wrapper key.
    pub skipped: Vec<String>,
}

/// The storages of a file, by key.
type Storages = HashMap<String, Bytes>;

/// Reads a whole file of `torch.save`.
pub(super) fn open(file: &Bytes) -> Result<State, PickleError> {
    if file.starts_with(b"PK\x03\x04") {
        let archive = archive::open(file)?;
        state(&machine::run(&archive.pickle, 0)?, &archive.storages)
    } else if legacy::is_legacy(file) {
        let parts = legacy::open(file)?;
        state(&parts.pickle, &parts.storages)
    } else {
        Err(PickleError::NotTorch)
    }
}

/// The tensors of the dictionary that a pickle builds.
fn state(pickle: &Pickle<'_>, storages: &Storages) -> Result<State, PickleError> {
    let mut entries = dict(pickle, pickle.root)?;
    let mut skipped = Vec::new();
    if let Some((wrapper, inner)) = wrapped(pickle, entries) {
        skipped = entries
            .iter()
            .filter_map(|&(key, _)| pickle.text(key))
            .filter(|&key| key != wrapper)
            .map(one_line)
            .collect();
        entries = dict(pickle, inner)?;
    }
    let mut tensors = BTreeMap::new();
    for &(key, value) in entries {
        let name = pickle.text(key).ok_or(PickleError::KeyNotText {
            kind: pickle.value(key).kind(),
        })?;
        let Value::Tensor(record) = pickle.value(value) else {
            return Err(PickleError::NotATensor {
                name: one_line(name),
                kind: pickle.value(value).kind(),
            });
        };
        let view = View::new(name, record, storages)?;
        if tensors.insert(name.to_string(), view).is_some() {
            return Err(PickleError::DuplicateTensor {
                tensor: one_line(name),
            });
        }
    }
    Ok(State { tensors, skipped })
}

fn dict<'p>(pickle: &'p Pickle<'_>, id: Id) -> Result<&'p [(Id, Id)], PickleError> {
    match pickle.value(id) {
        Value::Dict(entries) => Ok(entries),
        other => Err(PickleError::NotAStateDict { kind: other.kind() }),
    }
}

/// The first wrapper key under which there is a dictionary, and that dictionary.
fn wrapped(pickle: &Pickle<'_>, entries: &[(Id, Id)]) -> Option<(&'static str, Id)> {
    WRAPPER_KEYS.into_iter().find_map(|wrapper| {
        let (_, value) = entries
            .iter()
            .find(|&&(key, _)| pickle.text(key) == Some(wrapper))?;
        matches!(pickle.value(*value), Value::Dict(_)).then_some((wrapper, *value))
    })
}

#[cfg(test)]
mod tests;
