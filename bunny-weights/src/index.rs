//! The index of a model in several files: which shard holds which tensor.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Component, Path};

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{IndexError, one_line};

/// The longest index that is read; a model of a thousand layers stays below a hundredth of it.
const INDEX_LIMIT: u64 = 100_000_000;

/// An index as it is written.
#[derive(Serialize)]
pub(super) struct Index<'a> {
    /// Bytes of all tensors.
    pub metadata: TotalSize,
    /// Tensor to shard.
    pub weight_map: BTreeMap<&'a str, &'a str>,
}

/// What is known of a sharded model as a whole.
#[derive(Serialize)]
pub(super) struct TotalSize {
    /// Bytes of all tensors.
    pub total_size: u64,
}

/// Reads an index: the shards, and the tensors to take from each.
pub(super) fn parse(file: &[u8]) -> Result<BTreeMap<String, Vec<String>>, IndexError> {
    let length = file.len() as u64;
    if length > INDEX_LIMIT {
        return Err(IndexError::TooLarge {
            length,
            limit: INDEX_LIMIT,
        });
    }
    let raw: RawIndex = serde_json::from_slice(file).map_err(|error| IndexError::Json {
        reason: one_line(&error.to_string()),
    })?;
    let mut names = HashSet::with_capacity(raw.weight_map.0.len());
    let mut shards: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, shard) in &raw.weight_map.0 {
        if !names.insert(name) {
            return Err(IndexError::DuplicateTensor {
                tensor: one_line(name),
            });
        }
        if !is_plain_name(shard) {
            return Err(IndexError::OutsideFolder {
                shard: one_line(shard),
            });
        }
        match shards.get_mut(shard) {
            Some(names) => names.push(name.clone()),
            None => drop(shards.insert(shard.clone(), vec![name.clone()])),
        }
    }
    Ok(shards)
}

/// Whether `name` is one path component that leads neither up nor elsewhere, on any system.
fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!(
        (components.next(), components.next()),
        (Some(Component::Normal(_)), None)
    ) && !name.contains(['/', '\\', ':', '\0'])
}

#[derive(Deserialize)]
struct RawIndex {
    #[serde(default, rename = "metadata")]
    _metadata: IgnoredAny,
    weight_map: Pairs,
}

/// A JSON object whose order and repetitions are kept.
struct Pairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from tensors to shards")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}
