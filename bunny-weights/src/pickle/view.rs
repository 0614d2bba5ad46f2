//! A tensor as a view of a storage.

use bytes::Bytes;

use super::Storages;
use super::values::Record;
use crate::StoredDtype;
use crate::error::{PickleError, one_line};

/// A tensor that lies within its storage, at any strides. Sizes are counted in elements.
#[derive(Debug)]
pub(crate) struct View {
    dtype: StoredDtype,
    shape: Vec<usize>,
    strides: Vec<usize>,
    offset: usize,
    storage: Bytes,
}

impl View {
    /// Checks a tensor against its storage.
    pub(super) fn new(
        name: &str,
        record: &Record<'_>,
        storages: &Storages,
    ) -> Result<Self, PickleError> {
        let tensor = || one_line(name);
        let storage = &record.storage;
        let dtype = storage.dtype;
        let bytes = storages
            .get(storage.key)
            .ok_or_else(|| PickleError::MissingEntry {
                entry: one_line(storage.key),
            })?;
        let expected = storage.elements.saturating_mul(dtype.size() as u64);
        if expected != bytes.len() as u64 {
            return Err(PickleError::StorageSize {
                storage: one_line(storage.key),
                expected,
                found: bytes.len() as u64,
            });
        }
        if record.lazy {
            return Err(PickleError::LazyView { tensor: tensor() });
        }
        let sizes = |sizes: &[i64]| -> Option<Vec<usize>> {
            sizes
                .iter()
                .map(|&size| usize::try_from(size).ok())
                .collect()
        };
        let (Some(shape), Some(strides), Ok(offset), true) = (
            sizes(&record.shape),
            sizes(&record.strides),
            usize::try_from(record.offset),
            record.shape.len() == record.strides.len(),
        ) else {
            return Err(PickleError::Layout {
                tensor: tensor(),
                shape: record.shape.clone(),
                strides: record.strides.clone(),
                offset: record.offset,
            });
        };
        let view = Self {
            dtype,
            shape,
            strides,
            offset,
            storage: bytes.clone(),
        };
        let elements = storage.elements;
        let end = view.end().ok_or(PickleError::BeyondStorage {
            tensor: tensor(),
            elements,
        })?;
        if end as u64 > elements {
            return Err(PickleError::BeyondStorage {
                tensor: tensor(),
                elements,
            });
        }
        match view.elements() {
            Some(count) if count as u64 <= elements => Ok(view),
            _ => Err(PickleError::Expanded { tensor: tensor() }),
        }
    }

    pub fn dtype(&self) -> StoredDtype {
        self.dtype
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn elements(&self) -> Option<usize> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        self.shape
            .iter()
            .try_fold(1usize, |count, &size| count.checked_mul(size))
    }

    /// One past the last element touched; `None` when that cannot be counted.
    fn end(&self) -> Option<usize> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        let last = self
            .shape
            .iter()
            .zip(&self.strides)
            .try_fold(self.offset, |last, (&size, &stride)| {
                last.checked_add((size - 1).checked_mul(stride)?)
            })?;
        last.checked_add(1)
    }

    /// The part of the storage that is the tensor, if its elements lie there in order.
    pub fn contiguous(&self) -> Option<Bytes> {
        let count = self.elements()?;
        if count == 0 {
            return Some(Bytes::new());
        }
        let mut expected = 1;
        for (&size, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if size != 1 && stride != expected {
                return None;
            }
            expected *= size;
        }
        let size = self.dtype.size();
        Some(
            self.storage
                .slice(self.offset * size..(self.offset + count) * size),
        )
    }

    /// The elements in order, copied from wherever they lie.
    pub fn gather(&self) -> Bytes {
        if let Some(bytes) = self.contiguous() {
            return bytes;
        }
        let size = self.dtype.size();
        let mut gathered = Vec::with_capacity(self.shape.iter().product::<usize>() * size);
        // Not contiguous, so there is a last dimension, and no size is zero.
        let inner = self.shape.len() - 1;
        let (row, stride) = (self.shape[inner], self.strides[inner]);
        let mut index = vec![0; inner];
        loop {
            let start = self.offset
                + index
                    .iter()
                    .zip(&self.strides)
                    .map(|(at, stride)| at * stride)
                    .sum::<usize>();
            if stride == 1 {
                gathered.extend_from_slice(&self.storage[start * size..(start + row) * size]);
            } else {
                for at in 0..row {
                    let at = (start + at * stride) * size;
                    gathered.extend_from_slice(&self.storage[at..at + size]);
                }
            }
            // The next row, counted like an odometer.
            let Some(turn) = (0..inner)
                .rev()
                .find(|&axis| index[axis] + 1 < self.shape[axis])
            else {
                return gathered.into();
            };
            index[turn] += 1;
            index[turn + 1..].fill(0);
        }
    }
}
