//! The weights of one model, from however many files they come.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bunny_weights::{
    CheckpointError, StoredDtype, StoredTensor, TensorFiles,
    adapter::{Adapter, AdapterLayer},
    convert::{self, Floats},
    packed::PackedTensor,
};
use burn::tensor::{AllocationProperty, Bytes, DType};

use super::merge::{add_adapter, add_bias};
use crate::nn::{Bits, NameTable, Packing, WeightFormat, Weights, held_as, stored_as};

/// The tensors of one model under their published names, from one or several sets of files.
#[derive(Debug)]
pub struct WeightSet {
    place: String,
    pub(super) parts: Vec<TensorFiles>,
    /// Weights in integers, by the names that they have in floats.
    pub(super) packed: BTreeMap<String, PackedTensor>,
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
            packed: BTreeMap::new(),
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

    /// Adds weights in integers under the names that they have in floats. A tensor of floats of the same
    /// name goes before one.
    #[must_use]
    pub fn with_packed(mut self, packed: BTreeMap<String, PackedTensor>) -> Self {
        self.packed.extend(packed);
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

    /// The format of most of a model's weights: that of its token table.
    pub fn stored_format(&self) -> WeightFormat {
        let table = "model.embed_tokens.weight";
        let stored = self.parts.iter().find_map(|part| part.dtype(table));
        let packed = || self.packed.get(table).map(PackedTensor::float_type);
        stored
            .or_else(packed)
            .and_then(|dtype| WeightFormat::of_floats(held_as(dtype)?))
            .unwrap_or(WeightFormat::F32)
    }

    /// In which integers the language model's files hold its layers, if in any.
    pub fn stored_packing(&self) -> Option<Packing> {
        let mut packed = self.packed.iter();
        let (_, packed) = packed.find(|(name, packed)| {
            // What is opened into floats as it is read is in none.
            name.starts_with("model.layers.") && packed.is_integers()
        })?;
        let bits = match packed.bits() {
            4 => Bits::Four,
            _ => Bits::Eight,
        };
        let group = packed.group();
        Some(Packing { bits, group })
    }

    /// The names of all tensors, sorted within each set of files.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let floats = self.parts.iter().flat_map(TensorFiles::names);
        floats.chain(self.packed.keys().map(String::as_str))
    }

    /// The shape of a tensor.
    pub(super) fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let floats = self.parts.iter().find_map(|part| part.shape(name));
        let packed = || self.packed.get(name).map(PackedTensor::shape);
        floats.map(<[usize]>::to_vec).or_else(packed)
    }

    fn taken(&self) -> MutexGuard<'_, BTreeSet<String>> {
        // A set is whole between any two insertions.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the adapter has for weights and biases that are `astray`, in words.
    pub(super) fn strays(&self, astray: impl Fn(&str) -> bool) -> Vec<String> {
        let Some(adapter) = &self.adapter else {
            return Vec::new();
        };
        let of_layer = |target: &str| {
            let bias = adapter
                .get(target)
                .is_some_and(|layer| layer.bias.is_some());
            let weight = astray(&format!("{target}.weight"));
            let weight = weight.then(|| format!("adapter of {target}"));
            let bias = bias && astray(&format!("{target}.bias"));
            let bias = bias.then(|| format!("an adapter's bias of {target}, which has none"));
            weight.or(bias)
        };
        adapter.targets().filter_map(of_layer).collect()
    }

    /// What the adapter has for the weight or the bias of this name.
    fn adapted(&self, name: &str) -> Option<(AdapterLayer, Parameter)> {
        let adapter = self.adapter.as_ref()?;
        let (target, parameter) = match name.strip_suffix(".weight") {
            Some(target) => (target, Parameter::Weight),
            None => (name.strip_suffix(".bias")?, Parameter::Bias),
        };
        let layer = adapter.get(target)?;
        let changes = parameter == Parameter::Weight || layer.bias.is_some();
        changes.then_some((layer, parameter))
    }

    /// Whether a tensor of this published name is there.
    pub fn contains(&self, name: &str) -> bool {
        self.shape(name).is_some()
    }

    /// Whether the name of any tensor starts so.
    pub fn has_any(&self, start: &str) -> bool {
        self.names().any(|name| name.starts_with(start))
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
        let floats = self.parts.iter().find_map(|part| part.get(name));
        let packed = || self.packed.get(name).map(PackedTensor::stored);
        let stored = floats.or_else(packed)?;
        self.taken().insert(name.to_string());
        Some(stored)
    }

    fn packed(&self, stored: &StoredTensor) -> Option<&PackedTensor> {
        let has_adapter = self.adapted(&stored.name).is_some();
        let packed = self.packed.get(&stored.name);
        // What is merged into is floats from then on.
        packed.filter(|_| !stored.dtype.is_float() && !has_adapter)
    }

    fn unexpected(&self, names: &NameTable) -> Vec<String> {
        let taken = self.taken();
        let left: BTreeSet<&str> = self
            .names()
            .filter(|name| !taken.contains(*name) && !names.is_unused(name))
            .filter(|name| {
                !self
                    .unused
                    .iter()
                    .any(|start| name.starts_with(start.as_str()))
            })
            .collect();
        // What stands beside weights that are passed over is passed over, too.
        let is_astray = |name: &str| {
            let is_unused = self
                .unused
                .iter()
                .any(|start| name.starts_with(start.as_str()));
            !taken.contains(name) && !is_unused && !names.is_unused(name)
        };
        let strays = self.strays(is_astray);
        left.into_iter().map(str::to_string).chain(strays).collect()
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
        let to = stored_as(dtype).expect("models are made of floats");
        let adapted = self.adapted(&stored.name);
        let packed = self.packed.get(&stored.name);
        let packed = packed.filter(|_| !stored.dtype.is_float());
        let mut values = match packed {
            Some(packed) => packed.floats(rows.clone()),
            None => {
                let from = float_type(stored)?;
                let row_bytes = columns * from.size();
                let bytes = stored
                    .bytes
                    .slice(rows.start * row_bytes..rows.end * row_bytes);
                let aligned = bytes.as_ptr().addr().is_multiple_of(from.size());
                if from == to && aligned && adapted.is_none() {
                    return Ok(Bytes::from_shared(bytes, AllocationProperty::File));
                }
                if adapted.is_none() {
                    let floats = convert::convert(&bytes, from, to).expect("both types are floats");
                    return Ok(match floats {
                        Floats::F64(values) => Bytes::from_elems(values),
                        Floats::F32(values) => Bytes::from_elems(values),
                        Floats::F16(values) => Bytes::from_elems(values),
                        Floats::BF16(values) => Bytes::from_elems(values),
                        _ => unreachable!("a type of weights"),
                    });
                }
                convert::to_f32(&bytes, from).expect("the type is a float")
            }
        };
        if let Some((layer, parameter)) = adapted {
            let count = stored.shape.iter().product();
            match parameter {
                Parameter::Weight => add_adapter(&layer, &mut values, rows, &stored.shape)?,
                Parameter::Bias => add_bias(&layer, &mut values, rows, count)?,
            }
        }
        let bytes = convert::from_f32(&values, to).expect("models are made of floats");
        Ok(Bytes::from_bytes_vec(bytes))
    }
}

/// Which of a layer's parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parameter {
    Weight,
    Bias,
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

#[cfg(all(test, feature = "flex"))]
mod tests {
    use bunny_base::random::mix;
    use bunny_weights::{
        adapter::{ADAPTER_WEIGHTS, AdapterConfig, LoraMatrix, lora_name},
        writer::{MAX_SHARD_SIZE, PlannedTensor, write_file, write_folder},
    };
    use burn_flex::Flex;

    use super::*;
    use crate::{
        config::DecoderConfig,
        model::Decoder,
        nn::{Builder, FusedRows, Precision, visit_parameters},
    };

    static FUSED: NameTable = NameTable {
        renames: &[],
        fused: &[FusedRows {
            published: "self_attn.qkv_proj",
            parts: &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        }],
        unused: &[],
    };

    const HIDDEN: usize = 16;
    const RANK: usize = 2;

    fn config() -> DecoderConfig {
        DecoderConfig {
            vocab_size: 30,
            hidden_size: HIDDEN,
            intermediate_size: 24,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 4,
            rotary_dim: 2,
            ..DecoderConfig::phi_2()
        }
    }

    fn numbers(seed: u64, count: usize) -> Vec<f32> {
        let number = |at| (mix(seed ^ mix(at)) >> 40) as f32 / (1 << 24) as f32 - 0.5;
        (0..count as u64).map(number).collect()
    }

    type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

    /// A model's tensors, drawn one by one under the names they have here.
    fn drawn() -> Tensors {
        let specs = config().describe(&NameTable::SAME).into_iter();
        specs
            .enumerate()
            .map(|(at, spec)| {
                let values = numbers(at as u64, spec.count() as usize);
                (spec.local, (spec.shape, values))
            })
            .collect()
    }

    /// The same with queries, keys and values one below the other.
    fn fused(mut tensors: Tensors) -> Tensors {
        for layer in 0..2 {
            for parameter in ["weight", "bias"] {
                let name = |part| format!("model.layers.{layer}.self_attn.{part}_proj.{parameter}");
                let parts = ["q", "k", "v"].map(|part| tensors.remove(&name(part)).unwrap());
                let mut shape = parts[0].0.clone();
                shape[0] = parts.iter().map(|(shape, _)| shape[0]).sum();
                let values = parts.into_iter().flat_map(|(_, values)| values).collect();
                tensors.insert(name("qkv"), (shape, values));
            }
        }
        tensors
    }

    fn plan(tensors: &Tensors) -> Vec<PlannedTensor> {
        let planned = |(name, (shape, _)): (&String, &(Vec<usize>, _))| PlannedTensor {
            name: name.clone(),
            dtype: StoredDtype::F32,
            shape: shape.clone(),
        };
        tensors.iter().map(planned).collect()
    }

    fn bytes(tensors: &Tensors, planned: &PlannedTensor) -> Result<Vec<u8>, CheckpointError> {
        let (_, values) = &tensors[&planned.name];
        Ok(values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect())
    }

    fn stored(tensors: &Tensors) -> (tempfile::TempDir, WeightSet) {
        let folder = tempfile::tempdir().unwrap();
        write_folder(folder.path(), &plan(tensors), MAX_SHARD_SIZE, |planned| {
            bytes(tensors, planned)
        })
        .unwrap();
        let files = TensorFiles::open_folder(folder.path()).unwrap();
        (folder, WeightSet::new("here").with(files))
    }

    fn load(weights: &WeightSet) -> Result<Tensors, CheckpointError> {
        let device = Default::default();
        let model = Builder::build(weights, &FUSED, Precision::F32, &device, |builder| {
            Decoder::<Flex>::new(&config(), builder)
        })?;
        let mut found = Tensors::new();
        let specs = config().describe(&FUSED);
        visit_parameters(&model, &specs, |parameter| {
            let values = parameter.numbers().into_data().to_vec().unwrap();
            found.insert(parameter.spec.local.clone(), (parameter.shape, values));
        });
        Ok(found)
    }

    #[test]
    fn parts_of_a_fused_tensor_are_its_rows() {
        let (_folder, weights) = stored(&fused(drawn()));
        assert_eq!(load(&weights).unwrap(), drawn());
    }

    #[test]
    fn a_fused_tensor_has_the_rows_of_its_parts_and_no_more() {
        for (rows, fault) in [(33, "has 33 rows, expected 32"), (31, "in its rows 24..32")] {
            let mut tensors = fused(drawn());
            let name = "model.layers.1.self_attn.qkv_proj.weight";
            tensors.insert(name.into(), (vec![rows, HIDDEN], vec![0.0; rows * HIDDEN]));
            let (_folder, weights) = stored(&tensors);
            let error = load(&weights).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(fault), "{error}");
            assert!(error.contains("1 misshapen"), "{error}");
        }
    }

    #[test]
    fn an_adapter_of_a_fused_tensor_reaches_each_of_its_parts() {
        let target = "model.layers.1.self_attn.qkv_proj";
        let (a, b) = (numbers(90, RANK * HIDDEN), numbers(91, 32 * RANK));
        let adapter: Tensors = [
            (LoraMatrix::A, vec![RANK, HIDDEN], a.clone()),
            (LoraMatrix::B, vec![32, RANK], b.clone()),
        ]
        .map(|(matrix, shape, values)| (lora_name(target, matrix), (shape, values)))
        .into();
        let beside = tempfile::tempdir().unwrap();
        write_file(
            beside.path().join(ADAPTER_WEIGHTS),
            &plan(&adapter),
            |planned| bytes(&adapter, planned),
        )
        .unwrap();
        let settings = AdapterConfig::plain(RANK, 3.0, vec!["qkv_proj".into()]);
        settings.write(beside.path()).unwrap();
        let (_folder, weights) = stored(&fused(drawn()));
        let weights = weights.with_adapter(Adapter::open(beside.path()).unwrap());
        let (merged, base) = (load(&weights).unwrap(), drawn());
        for (part, first) in [("q", 0), ("k", 16), ("v", 24)] {
            let name = format!("model.layers.1.self_attn.{part}_proj.weight");
            for (at, (merged, base)) in merged[&name].1.iter().zip(&base[&name].1).enumerate() {
                let (row, column) = (first + at / HIDDEN, at % HIDDEN);
                let product: f32 = (0..RANK)
                    .map(|rank| b[row * RANK + rank] * a[rank * HIDDEN + column])
                    .sum();
                let expected = base + 1.5 * product;
                assert!((merged - expected).abs() < 1e-6, "{name} {row} {column}");
            }
        }
        let elsewhere = "model.layers.0.self_attn.q_proj.weight";
        assert_eq!(merged[elsewhere], base[elsewhere]);
    }
}
