//! The weights of one model, from however many files they come.

use std::{cell::RefCell, collections::BTreeSet, ops::Range};

use burn::tensor::{AllocationProperty, Bytes, DType};

use super::{StoredTensor, TensorFiles, adapter::Adapter, cast, merge::add_adapter};
use crate::{Error, config::NameTable};

/// The tensors of one model under their published names, from one or several sets of files.
#[derive(Debug)]
pub struct WeightSet {
    place: String,
    pub(super) parts: Vec<TensorFiles>,
    pub(super) adapter: Option<Adapter>,
    unused: Vec<String>,
    taken: RefCell<BTreeSet<String>>,
}

impl WeightSet {
    /// No weights yet; `place` names their origin in errors.
    pub fn new(place: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            parts: Vec::new(),
            adapter: None,
            unused: Vec::new(),
            taken: RefCell::default(),
        }
    }

    /// Adds files whose tensors already have their published names. Where two parts have a tensor
    /// of the same name, the one added first holds.
    #[must_use]
    pub fn with(mut self, files: TensorFiles) -> Self {
        self.parts.push(files);
        self
    }

    /// Asks the system to read the files now, in order: a model needs most of them at once.
    pub fn read_ahead(&self) {
        self.parts.iter().for_each(TensorFiles::read_ahead);
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

    /// Where the weights come from, for errors.
    pub(super) fn place(&self) -> String {
        self.place.clone()
    }

    /// The number type of most of a model's weights: that of its token table.
    pub fn stored_type(&self) -> DType {
        let table = "model.embed_tokens.weight";
        let stored = self.parts.iter().find_map(|part| part.get(table));
        stored
            .and_then(|stored| float_type(&stored).ok())
            .unwrap_or(DType::F32)
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

    /// The tensor of this published name; it counts as used from now on.
    pub(super) fn take(&self, name: &str) -> Option<StoredTensor> {
        let stored = self.parts.iter().find_map(|part| part.get(name))?;
        self.taken.borrow_mut().insert(name.to_string());
        Some(stored)
    }

    /// Tensors that nobody took and that are not known to be unused.
    pub(super) fn unexpected(&self, names: &NameTable) -> Vec<String> {
        let taken = self.taken.borrow();
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

    /// Some rows of a stored tensor, each of `columns` numbers, as numbers of type `dtype`, with
    /// the adapter merged in.
    ///
    /// Rows that are stored in the right type are not copied: the tensor *is* the mapped file.
    pub(super) fn materialise(
        &self,
        stored: &StoredTensor,
        rows: Range<usize>,
        columns: usize,
        dtype: DType,
    ) -> Result<Bytes, Error> {
        let from = float_type(stored)?;
        let row_bytes = columns * stored.dtype.size();
        let bytes = stored
            .bytes
            .slice(rows.start * row_bytes..rows.end * row_bytes);
        let target = stored.name.strip_suffix(".weight").unwrap_or_default();
        let adapter = self
            .adapter
            .as_ref()
            .filter(|adapter| adapter.get(target).is_some());
        let aligned = bytes.as_ptr().addr().is_multiple_of(stored.dtype.size());
        if from == dtype && aligned && adapter.is_none() {
            return Ok(Bytes::from_shared(bytes, AllocationProperty::File));
        }
        let Some(adapter) = adapter else {
            return Ok(cast::convert(&bytes, from, dtype).expect("models are made of floats"));
        };
        let mut values = cast::to_f32(&bytes, from).expect("the type is a float");
        add_adapter(adapter, target, &mut values, [rows.len(), columns])?;
        let bytes = cast::from_f32(&values, dtype).expect("models are made of floats");
        Ok(Bytes::from_bytes_vec(bytes))
    }
}

/// The type of a stored weight's numbers.
pub(super) fn float_type(stored: &StoredTensor) -> Result<DType, Error> {
    stored.dtype.float().ok_or_else(|| Error::NotFloat {
        file: stored.file.to_path_buf(),
        tensor: stored.name.clone(),
        dtype: stored.dtype.name(),
    })
}
