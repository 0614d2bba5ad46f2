//! The weights of one model, from however many files they come.

use std::{
    collections::BTreeSet,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bunny_weights::{
    CheckpointError, StoredDtype, StoredTensor, TensorFiles,
    adapter::Adapter,
    convert::{self, Floats},
};
use burn::tensor::{AllocationProperty, Bytes, DType};

use super::merge::add_adapter;
use crate::nn::{NameTable, Weights, held_as, stored_as};

/// The tensors of one model under their published names, from one or several sets of files.
#[derive(Debug)]
pub struct WeightSet {
    place: String,
    pub(super) parts: Vec<TensorFiles>,
    pub(super) adapter: Option<Adapter>,
    unused: Vec<String>,
    /// Asked for so far; several threads may load the same model.
    taken: Mutex<BTreeSet<String>>,
}

impl WeightSet {
    /// No weights yet; `place` names their origin in errors.
    pub fn new(place: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            parts: Vec::new(),
            adapter: None,
            unused: Vec::new(),
            taken: Mutex::default(),
        }
    }

    /// Adds files whose tensors already have their published names. Where two parts have a tensor
    /// of the same name, the one added first holds.
    #[must_use]
    pub fn with(mut self, files: TensorFiles) -> Self {
        self.parts.push(files);
        self
    }

    /// Merges an adapter into the weights it belongs to, as they are read.
    #[must_use]
    pub fn with_adapter(mut self, adapter: Adapter) -> Self {
        self.adapter = Some(adapter);
        self
    }

    /// Names starts of tensor names that a model leaves aside.
    #[must_use]
    pub fn leaving_aside(mut self, starts: impl IntoIterator<Item = String>) -> Self {
        self.unused.extend(starts);
        self
    }

    /// The number type of most of a model's weights: that of its token table.
    pub fn stored_type(&self) -> DType {
        let table = "model.embed_tokens.weight";
        let stored = self.parts.iter().find_map(|part| part.get(table));
        stored
            .and_then(|stored| held_as(stored.dtype))
            .unwrap_or(DType::F32)
    }

    fn taken(&self) -> MutexGuard<'_, BTreeSet<String>> {
        // A set is whole between any two insertions.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a tensor of this published name is there.
    pub fn contains(&self, name: &str) -> bool {
        self.parts.iter().any(|part| part.contains(name))
    }

    /// Whether the name of any tensor starts so.
    pub fn has_any(&self, start: &str) -> bool {
        self.parts
            .iter()
            .flat_map(TensorFiles::names)
            .any(|name| name.starts_with(start))
    }
}

impl Weights for WeightSet {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn read_ahead(&self) {
        self.parts.iter().for_each(TensorFiles::read_ahead);
    }

    fn take(&self, name: &str) -> Option<StoredTensor> {
        let stored = self.parts.iter().find_map(|part| part.get(name))?;
        self.taken().insert(name.to_string());
        Some(stored)
    }

    fn unexpected(&self, names: &NameTable) -> Vec<String> {
        let taken = self.taken();
        let left: BTreeSet<&str> = self
            .parts
            .iter()
            .flat_map(TensorFiles::names)
            .filter(|name| !taken.contains(*name) && !names.is_unused(name))
            .filter(|name| {
                !self
                    .unused
                    .iter()
                    .any(|start| name.starts_with(start.as_str()))
            })
            .collect();
        let adapters = self.adapter.iter().flat_map(Adapter::targets);
        let strays = adapters.filter(|target| !taken.contains(&format!("{target}.weight")));
        left.into_iter()
            .map(str::to_string)
            .chain(strays.map(|target| format!("adapter of {target}")))
            .collect()
    }

    /// The adapter is merged in. Rows that are stored in the right type are not copied: the tensor
    /// *is* the mapped file.
    fn rows(
        &self,
        stored: &StoredTensor,
        rows: Range<usize>,
        columns: usize,
        dtype: DType,
    ) -> Result<Bytes, CheckpointError> {
        let from = float_type(stored)?;
        let row_bytes = columns * from.size();
        let bytes = stored
            .bytes
            .slice(rows.start * row_bytes..rows.end * row_bytes);
        let target = stored.name.strip_suffix(".weight").unwrap_or_default();
        let adapter = self
            .adapter
            .as_ref()
            .filter(|adapter| adapter.get(target).is_some());
        let to = stored_as(dtype).expect("models are made of floats");
        let aligned = bytes.as_ptr().addr().is_multiple_of(from.size());
        if from == to && aligned && adapter.is_none() {
            return Ok(Bytes::from_shared(bytes, AllocationProperty::File));
        }
        let Some(adapter) = adapter else {
            let floats = convert::convert(&bytes, from, to).expect("both types are floats");
            return Ok(match floats {
                Floats::F64(values) => Bytes::from_elems(values),
                Floats::F32(values) => Bytes::from_elems(values),
                Floats::F16(values) => Bytes::from_elems(values),
                Floats::BF16(values) => Bytes::from_elems(values),
                _ => unreachable!("a type of weights"),
            });
        };
        let mut values = convert::to_f32(&bytes, from).expect("the type is a float");
        add_adapter(adapter, target, &mut values, [rows.len(), columns])?;
        let bytes = convert::from_f32(&values, to).expect("models are made of floats");
        Ok(Bytes::from_bytes_vec(bytes))
    }
}

/// The type of a stored weight's numbers, which is a float.
pub(super) fn float_type(stored: &StoredTensor) -> Result<StoredDtype, CheckpointError> {
    match stored.dtype.is_float() {
        true => Ok(stored.dtype),
        false => Err(CheckpointError::NotFloat {
            file: stored.file.to_path_buf(),
            tensor: stored.name.clone(),
            dtype: stored.dtype.name(),
        }),
    }
}
