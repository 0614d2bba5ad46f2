//! LoRA adapters as PEFT stores them: a folder of `adapter_config.json`, `adapter_model.safetensors`
//! and, as Bunny's training adds it, `non_lora_trainables.bin` with what else has learned.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{AdapterError, CheckpointError, one_line};
use crate::{StoredTensor, TensorFiles};

mod config;

pub use config::AdapterConfig;

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
    config: AdapterConfig,
    files: TensorFiles,
    /// Names of both matrices in the files, by layer.
    layers: BTreeMap<String, [String; 2]>,
    others: Option<TensorFiles>,
}

impl Adapter {
    /// Opens an adapter's folder. Matrices that do not belong together are found here.
    ///
    /// # Errors
    ///
    /// A configuration that asks for more than plain LoRA, a matrix without its pair or of
    /// another rank, a tensor that is no matrix of a linear layer, or a file that cannot be read.
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
        let layers = pair(&files, config.rank).map_err(|fault| CheckpointError::Adapter {
            path: weights,
            fault,
        })?;
        let others = first_of(folder, [NON_LORA_WEIGHTS, "non_lora_trainables.bin"])
            .map(|path| unwrap_names(TensorFiles::open_file(path)?))
            .transpose()?;
        Ok(Self {
            config,
            files,
            layers,
            others,
        })
    }

    /// How the adapter was made.
    pub fn config(&self) -> &AdapterConfig {
        &self.config
    }

    /// Published names of the layers that have an adapter, sorted.
    pub fn targets(&self) -> impl ExactSizeIterator<Item = &str> {
        self.layers.keys().map(String::as_str)
    }

    /// The matrices A `[rank, in]` and B `[out, rank]` of a layer.
    pub fn get(&self, target: &str) -> Option<[StoredTensor; 2]> {
        let [a, b] = self.layers.get(target)?;
        Some([self.files.get(a)?, self.files.get(b)?])
    }

    /// What else has learned, such as the projector, under its published names.
    pub fn others(&self) -> Option<&TensorFiles> {
        self.others.as_ref()
    }

    /// Takes [`others`](Self::others) out, for keeps.
    pub fn take_others(&mut self) -> Option<TensorFiles> {
        self.others.take()
    }
}

fn first_of(folder: &Path, names: [&str; 2]) -> Option<PathBuf> {
    names
        .into_iter()
        .map(|name| folder.join(name))
        .find(|path| path.exists())
}

/// Finds the two matrices of every layer.
fn pair(files: &TensorFiles, rank: usize) -> Result<BTreeMap<String, [String; 2]>, AdapterError> {
    let mut found: BTreeMap<&str, [Option<&str>; 2]> = BTreeMap::new();
    for name in files.names() {
        let (target, matrix) = parse_lora_name(name).ok_or_else(|| AdapterError::NotLora {
            tensor: one_line(name),
        })?;
        let slot = &mut found.entry(target).or_default()[matrix as usize];
        if slot.replace(name).is_some() {
            return Err(AdapterError::Twice {
                tensor: one_line(name),
            });
        }
    }
    found
        .into_iter()
        .map(|(target, matrices)| {
            let [Some(a), Some(b)] = matrices else {
                let missing = if matrices[0].is_none() {
                    LoraMatrix::A
                } else {
                    LoraMatrix::B
                };
                let (target, missing) = (one_line(target), missing.component());
                return Err(AdapterError::Unpaired { target, missing });
            };
            match [a, b].map(|name| files.shape(name).unwrap_or_default()) {
                [&[r, _], &[_, s]] if r == rank && s == rank => {
                    Ok((target.to_string(), [a, b].map(str::to_string)))
                }
                [a, b] => {
                    let (target, a, b) = (one_line(target), a.to_vec(), b.to_vec());
                    Err(AdapterError::Rank { target, a, b, rank })
                }
            }
        })
        .collect()
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
