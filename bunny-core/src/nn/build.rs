//! Builds a model's parameters, one name at a time, from stored tensors or at random.
//!
//! A module asks its [`Builder`] for parameters by the names they have in this crate and the shapes
//! it expects. What is missing or misshapen is noted and the work goes on, so that one look at a
//! checkpoint names everything that is wrong with it; [`Builder::build`] then refuses the model.

use std::{
    cell::RefCell,
    fmt::{self, Display},
    ops::Range,
};

use burn::{
    module::{Param, ParamId},
    tensor::{Bytes, DType, Tensor, TensorData, backend::Backend},
};
use rayon::prelude::*;

use bunny_base::random::mix;
use bunny_weights::{CheckpointError, StoredTensor, convert};

use super::{NameTable, Precision, precision::stored_as};

/// Where a builder finds a model's stored tensors, by their published names.
pub trait Weights: fmt::Debug {
    /// Where they are from, for errors.
    fn place(&self) -> String;

    /// Asks the system to read the files now, in order: a model needs most of them at once.
    fn read_ahead(&self);

    /// The tensor of this name; it counts as used from now on.
    fn take(&self, name: &str) -> Option<StoredTensor>;

    /// Tensors that nobody took and that are not known to be unused.
    fn unexpected(&self, names: &NameTable) -> Vec<String>;

    /// Some rows of a stored tensor, each of `columns` numbers, as numbers of type `dtype`.
    ///
    /// # Errors
    /// When the tensor holds no floats, or what is to be merged into it does not fit.
    fn rows(
        &self,
        stored: &StoredTensor,
        rows: Range<usize>,
        columns: usize,
        dtype: DType,
    ) -> Result<Bytes, CheckpointError>;
}

/// The distribution of a parameter that is drawn at random, as the reference initialises it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Initial {
    /// Every element is this number.
    Constant(f32),
    /// Normal, with mean zero and this standard deviation.
    Normal(f32),
}

/// A place in a model under construction: gives the parameters below it.
#[derive(Debug, Clone)]
pub struct Builder<'a, B: Backend> {
    shared: &'a Shared<'a, B>,
    path: String,
}

#[derive(Debug)]
struct Shared<'a, B: Backend> {
    source: Source<'a>,
    names: &'a NameTable,
    precision: Precision,
    device: &'a B::Device,
    faults: RefCell<Faults>,
}

#[derive(Debug)]
enum Source<'a> {
    Stored(&'a dyn Weights),
    Random { seed: u64 },
}

/// What was wrong with the tensors asked for.
#[derive(Debug, Default)]
struct Faults {
    missing: Vec<String>,
    misshapen: Vec<String>,
    unreadable: Vec<CheckpointError>,
}

impl<'a, B: Backend> Builder<'a, B> {
    /// Builds a model from stored weights.
    ///
    /// # Errors
    /// When any tensor is missing, misshapen or unreadable, or tensors are left over that no part
    /// of the model asked for and that are not known to be unused; all of them are listed.
    pub fn build<M>(
        weights: &dyn Weights,
        names: &NameTable,
        precision: Precision,
        device: &B::Device,
        make: impl FnOnce(&Builder<'_, B>) -> M,
    ) -> Result<M, CheckpointError> {
        let shared = Shared {
            source: Source::Stored(weights),
            names,
            precision,
            device,
            faults: RefCell::default(),
        };
        let model = make(&Builder {
            shared: &shared,
            path: String::new(),
        });
        let mut faults = shared.faults.into_inner();
        if !faults.unreadable.is_empty() {
            return Err(faults.unreadable.swap_remove(0));
        }
        let unexpected = weights.unexpected(names);
        if faults.missing.is_empty() && faults.misshapen.is_empty() && unexpected.is_empty() {
            Ok(model)
        } else {
            Err(CheckpointError::Mismatch {
                place: weights.place(),
                missing: faults.missing,
                misshapen: faults.misshapen,
                unexpected,
            })
        }
    }

    /// Builds a model of random weights, the same for the same seed whatever the backend.
    pub fn random<M>(
        seed: u64,
        names: &NameTable,
        precision: Precision,
        device: &B::Device,
        make: impl FnOnce(&Builder<'_, B>) -> M,
    ) -> M {
        let shared = Shared {
            source: Source::Random { seed },
            names,
            precision,
            device,
            faults: RefCell::default(),
        };
        make(&Builder {
            shared: &shared,
            path: String::new(),
        })
    }

    /// The place called `name` below this one.
    pub fn child(&self, name: impl Display) -> Self {
        Self {
            shared: self.shared,
            path: self.full_name(name),
        }
    }

    /// The device on which the model is built.
    pub fn device(&self) -> &B::Device {
        self.shared.device
    }

    /// The number types of the model.
    pub fn precision(&self) -> Precision {
        self.shared.precision
    }

    /// A weight of a product, a table or a kernel, in the type of the weights.
    pub fn weight<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
        initial: Initial,
    ) -> Param<Tensor<B, D>> {
        self.whole(name, shape, initial, self.shared.precision.weights)
    }

    /// As [`Builder::weight`] for a table with one row per token, in blocks of rows that the
    /// device's buffers take. A stored table with more rows is cut, as the reference resizes
    /// embeddings to the tokenizer's length.
    pub fn table(
        &self,
        name: &str,
        [rows, columns]: [usize; 2],
        initial: Initial,
    ) -> Vec<Param<Tensor<B, 2>>> {
        let dtype = self.shared.precision.weights;
        let block = (self.shared.precision.table_limit / (columns * dtype.size())).clamp(1, rows);
        let wanted = Wanted {
            shape: &[rows, columns],
            dtype,
            initial,
            is_table: true,
        };
        let found = self.find(name, &wanted);
        (0..rows)
            .step_by(block)
            .map(|first| {
                let range = first..rows.min(first + block);
                let shape = [range.len(), columns];
                let data = found
                    .as_ref()
                    .and_then(|found| self.materialise(found, range, &wanted));
                self.parameter(data, shape, dtype)
            })
            .collect()
    }

    /// What is added to activations, in their type.
    pub fn addend<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
        initial: Initial,
    ) -> Param<Tensor<B, D>> {
        self.whole(name, shape, initial, self.shared.precision.compute)
    }

    /// A norm's weight or bias, always f32.
    pub fn norm(&self, name: &str, size: usize, initial: Initial) -> Param<Tensor<B, 1>> {
        self.whole(name, [size], initial, DType::F32)
    }

    fn full_name(&self, name: impl Display) -> String {
        if self.path.is_empty() {
            name.to_string()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    fn whole<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
        initial: Initial,
        dtype: DType,
    ) -> Param<Tensor<B, D>> {
        let wanted = Wanted {
            shape: &shape,
            dtype,
            initial,
            is_table: false,
        };
        let data = self
            .find(name, &wanted)
            .and_then(|found| self.materialise(&found, 0..shape[0], &wanted));
        self.parameter(data, shape, dtype)
    }

    fn parameter<const D: usize>(
        &self,
        data: Option<Bytes>,
        shape: [usize; D],
        dtype: DType,
    ) -> Param<Tensor<B, D>> {
        let device = self.shared.device;
        match data {
            Some(bytes) => {
                let data = TensorData::from_bytes(bytes, shape, dtype);
                // Weights stay for the whole run: a pool for such tensors keeps them apart from
                // the activations that come and go.
                let tensor = B::memory_persistent_allocations(device, data, |data| {
                    Tensor::from_data(data, (device, dtype))
                });
                Param::initialized(ParamId::new(), tensor)
            }
            // The model is refused in the end; until then the parameter costs nothing.
            None => Param::uninitialized(
                ParamId::new(),
                move |device, _| Tensor::zeros(shape, device),
                device.clone(),
                false,
                shape.into(),
            ),
        }
    }

    /// Looks a parameter up, and notes when it is missing or of another shape.
    fn find(&self, name: &str, wanted: &Wanted<'_>) -> Option<Found> {
        let name = self.full_name(name);
        let weights = match self.shared.source {
            Source::Random { seed } => {
                return Some(Found::Drawn {
                    key: name_key(seed, &name),
                });
            }
            Source::Stored(weights) => weights,
        };
        let name = self.shared.names.published(&name);
        let mut faults = self.shared.faults.borrow_mut();
        let Some(stored) = weights.take(&name) else {
            faults.missing.push(name);
            return None;
        };
        if wanted.fits(&stored.shape) {
            return Some(Found::Stored(stored));
        }
        faults.misshapen.push(format!(
            "{name} is {:?} in {}, expected {:?}",
            stored.shape,
            stored.file.display(),
            wanted.shape
        ));
        None
    }

    /// The bytes of some rows of a parameter.
    fn materialise(&self, found: &Found, rows: Range<usize>, wanted: &Wanted<'_>) -> Option<Bytes> {
        let columns: usize = wanted.shape[1..].iter().product();
        match found {
            Found::Drawn { key } => {
                let key = mix(*key ^ rows.start as u64);
                draw(key, rows.len() * columns, wanted.initial, wanted.dtype)
            }
            Found::Stored(stored) => {
                let Source::Stored(weights) = self.shared.source else {
                    return None;
                };
                match weights.rows(stored, rows, columns, wanted.dtype) {
                    Ok(bytes) => Some(bytes),
                    Err(error) => {
                        self.shared.faults.borrow_mut().unreadable.push(error);
                        None
                    }
                }
            }
        }
    }
}

/// What a module asks for.
struct Wanted<'a> {
    shape: &'a [usize],
    dtype: DType,
    initial: Initial,
    /// One row per token: a file may hold more rows.
    is_table: bool,
}

impl Wanted<'_> {
    fn fits(&self, stored: &[usize]) -> bool {
        stored == self.shape
            || (self.is_table
                && stored.len() == self.shape.len()
                && stored[1..] == self.shape[1..]
                && stored[0] > self.shape[0])
    }
}

/// Where a parameter's numbers come from.
enum Found {
    Stored(StoredTensor),
    Drawn { key: u64 },
}

/// Draws are made of the seed and the name: the order in which parameters are built and the number
/// of threads do not matter.
fn name_key(seed: u64, name: &str) -> u64 {
    name.bytes()
        .fold(mix(seed), |key, byte| mix(key ^ u64::from(byte)))
}

fn draw(key: u64, count: usize, initial: Initial, dtype: DType) -> Option<Bytes> {
    let mut values = vec![0f32; count];
    match initial {
        Initial::Constant(value) => values.fill(value),
        Initial::Normal(deviation) => values
            .par_chunks_mut(1 << 14)
            .enumerate()
            .for_each(|(piece, values)| fill_normal(mix(key ^ piece as u64), deviation, values)),
    }
    convert::from_f32(&values, stored_as(dtype)?).map(Bytes::from_bytes_vec)
}

/// Normal numbers as the sum of four uniform ones (Irwin-Hall, cut at 3.5 deviations): cheap enough
/// to fill billions of them in seconds.
fn fill_normal(key: u64, deviation: f32, values: &mut [f32]) {
    // The sum of four uniform numbers on [0, 65536) has variance 4 * 65536² / 12.
    let scale = deviation / (65536.0 / 3f32.sqrt());
    for (at, value) in values.iter_mut().enumerate() {
        let bits = mix(key.wrapping_add(at as u64));
        let sum: u32 = (0..4)
            .map(|part| u32::from((bits >> (16 * part)) as u16))
            .sum();
        *value = (sum as f32 - 2.0 * 65535.0) * scale;
    }
}
