//! LoRA adapters as PEFT stores them: a folder of `adapter_config.json`, `adapter_model.safetensors`
//! and, as Bunny's training adds it, `non_lora_trainables.bin` with what else has learned.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{AdapterError, CheckpointError, one_line};
use crate::{StoredTensor, TensorFiles};

mod config;

pub use config::{AdapterConfig, TargetModules};

/// The file of an adapter's matrices.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
/// The file of an adapter's configuration.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// The file of what else has learned, as written here; the reference's ends in `.bin`.
pub const NON_LORA_WEIGHTS: &str = "non_lora_trainables.safetensors";

/// What PEFT puts before the names of the model it wraps.
const WRAPPER: &str = "base_model.model.";

/// One of the two matrices that stand beside a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LoraMatrix {
    /// `[rank, in]`, what comes first.
    A,
    /// `[out, rank]`, what comes second.
    B,
}

impl LoraMatrix {
    fn component(self) -> &'static str {
        match self {
            Self::A => "lora_A",
            Self::B => "lora_B",
        }
    }
}

/// The name in an adapter's file of a matrix of the layer with the published name `target`, such
/// as `model.layers.0.self_attn.q_proj`.
pub fn lora_name(target: &str, matrix: LoraMatrix) -> String {
    format!("{WRAPPER}{target}.{}.weight", matrix.component())
}

/// The layer and the matrix that a name in an adapter's file stands for. The adapter's own name,
/// which torch has in it and PEFT's files do not, may be `default`.
pub fn parse_lora_name(name: &str) -> Option<(&str, LoraMatrix)> {
    let name = name.strip_prefix(WRAPPER)?.strip_suffix(".weight")?;
    let name = name.strip_suffix(".default").unwrap_or(name);
    [LoraMatrix::A, LoraMatrix::B]
        .into_iter()
        .find_map(|matrix| {
            let target = name.strip_suffix(matrix.component())?.strip_suffix('.')?;
            Some((target, matrix))
        })
}

/// The name among an adapter's other weights of the tensor with the published name `name`.
pub fn non_lora_name(name: &str) -> String {
    format!("{WRAPPER}{name}")
}

/// An adapter's folder.
#[derive(Debug)]
pub struct Adapter {
    folder: PathBuf,
    config: AdapterConfig,
    files: TensorFiles,
    /// Names in the files of what each layer has.
    layers: BTreeMap<String, Layer>,
    others: Option<TensorFiles>,
    replaced: Option<TensorFiles>,
}

/// The names in an adapter's file of what stands beside one layer.
#[derive(Debug, Clone, Default)]
struct Layer {
    /// The matrices, first and second.
    matrices: [Option<String>; 2],
    /// What the second one's product is moved by.
    bias: Option<String>,
    /// The lengths of the merged weight's rows, as DoRA has them.
    magnitude: Option<String>,
    /// Whether the layer is a table, whose matrices lie on their sides.
    is_table: bool,
}

/// What stands beside one layer, as stored.
#[derive(Debug, Clone)]
pub struct AdapterLayer {
    /// The first matrix: `[rank, in]`, of a table `[rank, rows]`.
    pub a: StoredTensor,
    /// The second one: `[out, rank]`, of a table `[columns, rank]`.
    pub b: StoredTensor,
    /// What their product is multiplied with.
    pub scale: f64,
    /// What is added to the layer's bias, once it is multiplied with `scale`: `[out]`.
    pub bias: Option<StoredTensor>,
    /// The lengths that the rows of the merged weight have: `[out]`.
    pub magnitude: Option<StoredTensor>,
    /// Whether the layer is a table of tokens.
    pub is_table: bool,
}

/// What a name in an adapter's file stands for.
enum Found<'a> {
    Matrix(&'a str, LoraMatrix),
    TableMatrix(&'a str, LoraMatrix),
    Bias(&'a str),
    Magnitude(&'a str),
    /// A tensor in the place of the base's, under its published name.
    Replaced(String),
}

impl Adapter {
    /// Opens an adapter's folder. Matrices that do not belong together are found here.
    ///
    /// # Errors
    ///
    /// A configuration that asks for more than is known here, a matrix without its pair or of
    /// another rank, a tensor that belongs to no layer, or a file that cannot be read.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let folder = folder.as_ref();
        let config = AdapterConfig::read(folder.join(ADAPTER_CONFIG))?;
        let weights =
            first_of(folder, [ADAPTER_WEIGHTS, "adapter_model.bin"]).ok_or_else(|| {
                let path = folder.to_path_buf();
                CheckpointError::Adapter {
                    path,
                    fault: AdapterError::NoWeights,
                }
            })?;
        let files = TensorFiles::open_file(&weights)?;
        let layers = layers(&files, &config).map_err(|fault| CheckpointError::Adapter {
            path: weights.clone(),
            fault,
        })?;
        let replaced = |name: &str| match found(name, &config) {
            Some(Found::Replaced(name)) => Some(name),
            _ => None,
        };
        let replaced = match files.names().any(|name| replaced(name).is_some()) {
            true => Some(TensorFiles::open_file(&weights)?.renamed(replaced)?),
            false => None,
        };
        let others = first_of(folder, [NON_LORA_WEIGHTS, "non_lora_trainables.bin"])
            .map(|path| unwrap_names(TensorFiles::open_file(path)?))
            .transpose()?;
        Ok(Self {
            folder: folder.to_path_buf(),
            config,
            files,
            layers,
            others,
            replaced,
        })
    }

    /// The folder that it was opened from.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How the adapter was made.
    pub fn config(&self) -> &AdapterConfig {
        &self.config
    }

    /// Published names of the layers that have an adapter, sorted.
    pub fn targets(&self) -> impl ExactSizeIterator<Item = &str> {
        self.layers.keys().map(String::as_str)
    }

    /// What stands beside a layer.
    pub fn get(&self, target: &str) -> Option<AdapterLayer> {
        let layer = self.layers.get(target)?;
        let stored = |name: &Option<String>| self.files.get(name.as_deref()?);
        let [a, b] = [&layer.matrices[0], &layer.matrices[1]].map(stored);
        let a = a?;
        Some(AdapterLayer {
            scale: self.config.scale_of(target, a.shape[0]),
            a,
            b: b?,
            bias: stored(&layer.bias),
            magnitude: stored(&layer.magnitude),
            is_table: layer.is_table,
        })
    }

    /// Whether nothing stands beside the layers but their matrices, all of one rank and strength, and
    /// nothing in the place of the base's own: such an adapter can learn on.
    pub fn is_plain(&self) -> bool {
        let is_plain =
            |layer: &Layer| layer.bias.is_none() && layer.magnitude.is_none() && !layer.is_table;
        self.config.is_uniform() && self.replaced.is_none() && self.layers.values().all(is_plain)
    }

    /// What else has learned, such as the projector, under its published names.
    pub fn others(&self) -> Option<&TensorFiles> {
        self.others.as_ref()
    }

    /// Takes out what goes before tensors of the base, for keeps: [`others`](Self::others), and what the
    /// adapter's own file has in the place of the base's.
    pub fn take_learnt(&mut self) -> Vec<TensorFiles> {
        let both = [self.others.take(), self.replaced.take()];
        both.into_iter().flatten().collect()
    }
}

fn first_of(folder: &Path, names: [&str; 2]) -> Option<PathBuf> {
    names
        .into_iter()
        .map(|name| folder.join(name))
        .find(|path| bunny_base::files::exists(path))
}

/// What a name in an adapter's file stands for, if anything that is known. PEFT leaves the adapter's own
/// name out, which torch has in it.
fn found<'a>(name: &'a str, config: &AdapterConfig) -> Option<Found<'a>> {
    if let Some((target, matrix)) = parse_lora_name(name) {
        return Some(Found::Matrix(target, matrix));
    }
    let inner = name.strip_prefix(WRAPPER)?;
    let plain = inner.strip_suffix(".default").unwrap_or(inner);
    for (matrix, end) in [
        (LoraMatrix::A, ".lora_embedding_A"),
        (LoraMatrix::B, ".lora_embedding_B"),
    ] {
        if let Some(target) = plain.strip_suffix(end) {
            return Some(Found::TableMatrix(target, matrix));
        }
    }
    for end in [".lora_B.bias", ".lora_B.default.bias"] {
        if let Some(target) = inner.strip_suffix(end) {
            return Some(Found::Bias(target));
        }
    }
    let vector = plain.strip_suffix(".weight").unwrap_or(plain);
    let vector = vector.strip_suffix(".default").unwrap_or(vector);
    if let Some(target) = vector.strip_suffix(".lora_magnitude_vector") {
        return Some(Found::Magnitude(target));
    }
    let (layer, parameter) = inner.rsplit_once('.')?;
    if !matches!(parameter, "weight" | "bias") {
        return None;
    }
    // What was trained as a whole, and what an adapter of a table takes along of it.
    let wrapped = [
        ".modules_to_save",
        ".modules_to_save.default",
        ".base_layer",
    ];
    let base = wrapped.iter().find_map(|end| layer.strip_suffix(end));
    let layer_name = base.unwrap_or(layer);
    let is_table = ["embed_tokens", "lm_head"]
        .iter()
        .any(|table| layer_name.ends_with(table));
    let is_bias = parameter == "bias" && config.has_biases;
    let is_known = base.is_some() || is_table || is_bias || config.saves(layer_name);
    is_known.then(|| Found::Replaced(format!("{layer_name}.{parameter}")))
}

/// Finds what every layer has.
fn layers(
    files: &TensorFiles,
    config: &AdapterConfig,
) -> Result<BTreeMap<String, Layer>, AdapterError> {
    let mut layers: BTreeMap<String, Layer> = BTreeMap::new();
    for name in files.names() {
        let what = found(name, config).ok_or_else(|| AdapterError::NotLora {
            tensor: one_line(name),
        })?;
        let target = match &what {
            Found::Replaced(_) => continue,
            Found::Matrix(target, _)
            | Found::TableMatrix(target, _)
            | Found::Bias(target)
            | Found::Magnitude(target) => *target,
        };
        let layer = layers.entry(target.to_owned()).or_default();
        layer.is_table |= matches!(what, Found::TableMatrix(..));
        let slot = match what {
            Found::Matrix(_, matrix) | Found::TableMatrix(_, matrix) => {
                &mut layer.matrices[matrix as usize]
            }
            Found::Bias(_) => &mut layer.bias,
            _ => &mut layer.magnitude,
        };
        if slot.replace(name.to_owned()).is_some() {
            return Err(AdapterError::Twice {
                tensor: one_line(name),
            });
        }
    }
    for (target, layer) in &layers {
        check(files, config, target, layer)?;
    }
    Ok(layers)
}

/// Whether what a layer has belongs together.
fn check(
    files: &TensorFiles,
    config: &AdapterConfig,
    target: &str,
    layer: &Layer,
) -> Result<(), AdapterError> {
    let lacks = |missing| AdapterError::Unpaired {
        target: one_line(target),
        missing,
    };
    let [Some(a), Some(b)] = &layer.matrices else {
        let matrix = match layer.matrices[0] {
            None => LoraMatrix::A,
            Some(_) => LoraMatrix::B,
        };
        return Err(lacks(matrix.component()));
    };
    if config.use_dora && layer.magnitude.is_none() {
        return Err(lacks("lora_magnitude_vector"));
    }
    if layer.is_table && layer.magnitude.is_some() {
        return Err(AdapterError::NotLora {
            tensor: format!("{}.lora_magnitude_vector", one_line(target)),
        });
    }
    let rank = config.rank_of(target);
    match [a, b].map(|name| files.shape(name).unwrap_or_default()) {
        [&[r, _], &[out, s]] if r == rank && s == rank => {
            // One number for each row that comes out.
            let vectors = [&layer.bias, &layer.magnitude].into_iter().flatten();
            for name in vectors {
                let shape = files.shape(name).unwrap_or_default();
                if shape.iter().product::<usize>() != out {
                    return Err(AdapterError::Vector {
                        tensor: one_line(name),
                        shape: shape.to_vec(),
                        rows: out,
                    });
                }
            }
            Ok(())
        }
        [a, b] => {
            let (target, a, b) = (one_line(target), a.to_vec(), b.to_vec());
            Err(AdapterError::Rank { target, a, b, rank })
        }
    }
}

/// The published names of what else has learned. As the reference does: `base_model.` goes from
/// every name, and, if any name then starts with `model.model.`, one `model.` from all.
fn unwrap_names(files: TensorFiles) -> Result<TensorFiles, CheckpointError> {
    let strip = |name: &str, prefix| name.strip_prefix(prefix).unwrap_or(name).to_string();
    let files = files.renamed(|name| Some(strip(name, "base_model.")))?;
    if files.names().any(|name| name.starts_with("model.model.")) {
        files.renamed(|name| Some(strip(name, "model.")))
    } else {
        Ok(files)
    }
}

#[cfg(test)]
mod tests;
