//! Builds a model's parameters, one name at a time, from stored tensors or at random.
//!
//! A module asks its [`Builder`] for parameters by the names they have in this crate and the shapes
//! it expects. What is missing or misshapen is noted and the work goes on, so that one look at a
//! checkpoint names everything that is wrong with it; [`Builder::build`] then refuses the model.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt::{self, Display},
    ops::Range,
};

use burn::{
    module::{Param, ParamId},
    tensor::{Bytes, DType, Tensor, TensorData, backend::Backend},
};
use rayon::prelude::*;

use bunny_base::random::mix;
use bunny_weights::{CheckpointError, StoredTensor, convert, packed::PackedTensor};

use crate::ops::packs;

use super::{
    Bits, NameTable, Operands, PackedWeight, Packing, Precision, Weight, WeightFormat,
    nothing::{Blank, Nothing},
    precision::stored_as,
    spec::{ParameterKind, ParameterSpec, Part},
};

/// Where a builder finds a model's stored tensors, by their published names.
pub trait Weights: fmt::Debug {
    /// Where they are from, for errors.
    fn place(&self) -> String;

    /// Asks the system to read the files now, in order: a model needs most of them at once.
    fn read_ahead(&self);

    /// The tensor of this name; it counts as used from now on.
    fn take(&self, name: &str) -> Option<StoredTensor>;

    /// A tensor that was taken, where its file has integers that products take as they are.
    fn packed(&self, stored: &StoredTensor) -> Option<&PackedTensor>;

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
#[non_exhaustive]
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
    part: Part,
    layer: Option<usize>,
}

#[derive(Debug)]
struct Shared<'a, B: Backend> {
    source: Source<'a>,
    names: &'a NameTable,
    precision: Precision,
    device: &'a B::Device,
    faults: RefCell<Faults>,
    /// Of published tensors that hold several of the model's, how many rows have been asked for.
    asked: RefCell<BTreeMap<String, usize>>,
}

#[derive(Debug)]
enum Source<'a> {
    Stored(&'a dyn Weights),
    Random {
        seed: u64,
    },
    /// Nothing is built: what is asked for is noted.
    Described(&'a RefCell<Vec<ParameterSpec>>),
}

/// What was wrong with the tensors asked for.
#[derive(Debug, Default)]
struct Faults {
    missing: Vec<String>,
    misshapen: Vec<String>,
    unreadable: Vec<CheckpointError>,
}

/// Every parameter of the module that `make` builds, in the order in which it is built; no device is
/// asked for anything, and no weight is allocated.
pub fn describe<M>(
    names: &NameTable,
    make: impl FnOnce(&Builder<'_, Nothing>) -> M,
) -> Vec<ParameterSpec> {
    let specs = RefCell::default();
    let source = Source::Described(&specs);
    make(&Shared::new(source, names, Precision::F32, &Blank).root());
    specs.into_inner()
}

impl<'a, B: Backend> Shared<'a, B> {
    fn new(
        source: Source<'a>,
        names: &'a NameTable,
        precision: Precision,
        device: &'a B::Device,
    ) -> Self {
        Self {
            source,
            names,
            precision,
            device,
            faults: RefCell::default(),
            asked: RefCell::default(),
        }
    }

    fn root(&'a self) -> Builder<'a, B> {
        Builder {
            shared: self,
            path: String::new(),
            part: Part::LanguageModel,
            layer: None,
        }
    }
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
        let shared = Shared::new(Source::Stored(weights), names, precision, device);
        let model = make(&shared.root());
        let mut faults = shared.faults.into_inner();
        if !faults.unreadable.is_empty() {
            return Err(faults.unreadable.swap_remove(0));
        }
        for (name, asked) in shared.asked.into_inner() {
            let held = weights.take(&name).map_or(asked, |stored| stored.shape[0]);
            if held > asked {
                let fault = format!("{name} has {held} rows, expected {asked}");
                faults.misshapen.push(fault);
            }
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
        make(&Shared::new(Source::Random { seed }, names, precision, device).root())
    }

    /// The place called `name` below this one.
    pub fn child(&self, name: impl Display) -> Self {
        Self {
            path: self.full_name(name),
            ..self.clone()
        }
    }

    /// The place of layer `layer` below this one.
    pub fn layer(&self, layer: usize) -> Self {
        Self {
            layer: Some(layer),
            ..self.child(layer)
        }
    }

    /// The place of a part of a Bunny, this one being the Bunny's.
    pub fn part(&self, part: Part) -> Self {
        self.child(part.prefix().trim_end_matches('.')).of(part)
    }

    /// This place, as one within a part of a Bunny.
    pub fn of(&self, part: Part) -> Self {
        Self {
            part,
            ..self.clone()
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

    /// How what is multiplied with the weights, and with what comes of them, may be rounded.
    pub fn operands(&self) -> Operands {
        self.shared.precision.weights.operands()
    }

    /// A weight of a product or a kernel, in the format of the weights.
    pub fn weight<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
        initial: Initial,
    ) -> Weight<B, D> {
        let spec = self.spec(name, &shape, ParameterKind::Product);
        let found = self.find(&spec);
        self.weight_of(&found, 0..shape[0], &spec, shape, initial)
    }

    /// As [`Builder::weight`] for a table with one row per token, in blocks of rows that the
    /// device's buffers take. A stored table with more rows is cut, as the reference resizes
    /// embeddings to the tokenizer's length.
    pub fn table(&self, name: &str, shape: [usize; 2], initial: Initial) -> Vec<Weight<B>> {
        let [rows, columns] = shape;
        let spec = self.spec(name, &shape, ParameterKind::Table);
        let precision = self.shared.precision;
        let format = precision.packing_of(&spec);
        let format = format.map_or(precision.weights, WeightFormat::Packed);
        let block = precision.table_limit / format.bytes(1, columns);
        let block = block.clamp(1, rows);
        let found = self.find(&spec);
        (0..rows)
            .step_by(block)
            .map(|first| {
                let range = first..rows.min(first + block);
                let shape = [range.len(), columns];
                self.weight_of(&found, range, &spec, shape, initial)
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
        self.whole(name, shape, ParameterKind::Addend, initial)
    }

    /// The bias of a product, in the type of the activations; a new one is zero.
    pub fn bias(&self, name: &str, size: usize) -> Param<Tensor<B, 1>> {
        self.whole(name, [size], ParameterKind::Bias, Initial::Constant(0.0))
    }

    /// A norm's weight or bias, always f32.
    pub fn norm(&self, name: &str, size: usize, initial: Initial) -> Param<Tensor<B, 1>> {
        self.whole(name, [size], ParameterKind::Norm, initial)
    }

    /// Numbers that are computed from the model's sizes, in the type of the activations.
    pub fn constant<const D: usize>(
        &self,
        shape: [usize; D],
        compute: impl FnOnce() -> Vec<f32>,
    ) -> Tensor<B, D> {
        let options = (self.device(), self.shared.precision.compute);
        match self.shared.source {
            Source::Described(_) => Tensor::empty(shape, options),
            _ => Tensor::from_data(TensorData::new(compute(), shape), options),
        }
    }

    fn full_name(&self, name: impl Display) -> String {
        if self.path.is_empty() {
            name.to_string()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// What is asked for under `name`.
    fn spec(&self, name: &str, shape: &[usize], kind: ParameterKind) -> ParameterSpec {
        let (local, names) = (self.full_name(name), self.shared.names);
        let is_family = self.part == Part::LanguageModel;
        let published = match is_family {
            true => names.published(&local),
            false => local.clone(),
        };
        let rows = (is_family && names.is_fused(&local)).then(|| {
            let mut asked = self.shared.asked.borrow_mut();
            let end = asked.entry(published.clone()).or_default();
            let start = *end;
            *end += shape[0];
            start..*end
        });
        ParameterSpec {
            local,
            published,
            rows,
            shape: shape.to_vec(),
            kind,
            part: self.part,
            layer: self.layer,
        }
    }

    /// Some rows of a weight, in the format that is wanted of it.
    fn weight_of<const D: usize>(
        &self,
        found: &Option<Found>,
        rows: Range<usize>,
        spec: &ParameterSpec,
        shape: [usize; D],
        initial: Initial,
    ) -> Weight<B, D> {
        let dtype = self.shared.precision.of(spec.kind);
        if let Some(packed) = found
            .as_ref()
            .and_then(|found| self.as_stored(found, rows.clone(), spec))
        {
            return Weight::Packed(packed);
        }
        let data = found
            .as_ref()
            .and_then(|found| self.materialise(found, rows, spec, initial));
        if let (Some(numbers), Some(packing), [out, inner]) =
            (&data, self.shared.precision.packing_of(spec), &shape[..])
        {
            let (sides, device) = ([*out, *inner], self.device());
            let activations = self.shared.precision.activations;
            match PackedWeight::rounded(numbers, dtype, sides, packing, activations, device) {
                Ok(packed) => return Weight::Packed(packed),
                Err(fault) => {
                    let fault = CheckpointError::Unpackable {
                        tensor: spec.published.clone(),
                        problem: fault.to_string(),
                    };
                    self.shared.faults.borrow_mut().unreadable.push(fault);
                }
            }
        }
        Weight::Float(self.parameter(data, shape, dtype))
    }

    /// Some rows of a weight that its file holds in integers, as they are: unless others are wanted, or
    /// the backend has no products with them.
    fn as_stored(
        &self,
        found: &Found,
        rows: Range<usize>,
        spec: &ParameterSpec,
    ) -> Option<PackedWeight<B>> {
        let (Found::Stored(stored), Source::Stored(weights)) = (found, &self.shared.source) else {
            return None;
        };
        let packed = weights.packed(stored).filter(|_| packs::<B>())?;
        let first = spec.rows.as_ref().map_or(0, |own| own.start);
        let packed_rows = packed.rows(first + rows.start..first + rows.end)?;
        let precision = self.shared.precision;
        let [_, inner] = packed.sides();
        let bits = if packed_rows.bits == 8 {
            Bits::Eight
        } else {
            Bits::Four
        };
        let packing = Packing {
            bits,
            group: packed.group(),
        };
        // Of rows that are shorter, the group is all.
        let alike = |wanted: Packing| {
            wanted.bits == bits && wanted.group.min(inner) == packing.group.min(inner)
        };
        precision.packing_of(spec).is_none_or(alike).then(|| {
            let sides = [rows.len(), inner];
            PackedWeight::stored(
                packed_rows,
                sides,
                packing,
                precision.activations,
                self.device(),
            )
        })
    }

    fn whole<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
        kind: ParameterKind,
        initial: Initial,
    ) -> Param<Tensor<B, D>> {
        let spec = self.spec(name, &shape, kind);
        let data = self
            .find(&spec)
            .and_then(|found| self.materialise(&found, 0..shape[0], &spec, initial));
        self.parameter(data, shape, self.shared.precision.of(kind))
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
            // The model is refused in the end, or only described; the parameter costs nothing.
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
    fn find(&self, spec: &ParameterSpec) -> Option<Found> {
        let weights = match self.shared.source {
            Source::Described(specs) => {
                specs.borrow_mut().push(spec.clone());
                return None;
            }
            Source::Random { seed } => {
                return Some(Found::Drawn {
                    key: name_key(seed, &spec.local),
                });
            }
            Source::Stored(weights) => weights,
        };
        let mut faults = self.shared.faults.borrow_mut();
        let Some(stored) = weights.take(&spec.published) else {
            faults.missing.push(spec.published.clone());
            return None;
        };
        if fits(spec, &stored.shape) {
            return Some(Found::Stored(stored));
        }
        let (name, found) = (&spec.published, &stored.shape);
        let file = stored.file.display();
        faults.misshapen.push(match &spec.rows {
            None => format!("{name} is {found:?} in {file}, expected {:?}", spec.shape),
            Some(rows) => format!(
                "{name} is {found:?} in {file}, expected {:?} in its rows {rows:?}",
                spec.shape
            ),
        });
        None
    }

    /// The bytes of some rows of a parameter.
    fn materialise(
        &self,
        found: &Found,
        rows: Range<usize>,
        spec: &ParameterSpec,
        initial: Initial,
    ) -> Option<Bytes> {
        let columns: usize = spec.shape[1..].iter().product();
        let dtype = self.shared.precision.of(spec.kind);
        match found {
            Found::Drawn { key } => {
                let key = mix(*key ^ rows.start as u64);
                draw(key, rows.len() * columns, initial, dtype)
            }
            Found::Stored(stored) => {
                let Source::Stored(weights) = self.shared.source else {
                    return None;
                };
                let first = spec.rows.as_ref().map_or(0, |own| own.start);
                let rows = first + rows.start..first + rows.end;
                match weights.rows(stored, rows, columns, dtype) {
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

/// Whether a stored tensor of this shape holds the parameter: of a table or of what others share, a
/// file may hold more rows.
fn fits(spec: &ParameterSpec, stored: &[usize]) -> bool {
    let end = spec.rows.as_ref().map_or(spec.shape[0], |rows| rows.end);
    let may_be_longer = spec.kind == ParameterKind::Table || spec.rows.is_some();
    match may_be_longer {
        true => {
            stored.len() == spec.shape.len() && stored[1..] == spec.shape[1..] && stored[0] >= end
        }
        false => stored == spec.shape,
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
