//! From a model back to published files: the inverse of building one.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use bunny_weights::{CheckpointError, StoredDtype, convert, writer};
use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{DType, Tensor, backend::Backend},
};
use serde_json::{Value, json};

use crate::{
    Bunny, BunnyConfig, Error,
    config::{ProjectorKind, VisionConfig},
    input::image::ImageProcessor,
    nn::{Activation, NameTable, held_as},
};

/// The files a tokenizer may be made of.
const TOKENIZER_FILES: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
];

/// A parameter of a model, by its published name.
///
/// A token table that is held in several blocks is one parameter here.
#[derive(Debug, Clone)]
pub struct NamedParameter<B: Backend> {
    /// The published name.
    pub name: String,
    /// Its published shape.
    pub shape: Vec<usize>,
    /// Its numbers, flat, in pieces to be put end to end.
    pub pieces: Vec<Tensor<B, 1>>,
}

impl<B: Backend> NamedParameter<B> {
    /// The numbers in type `dtype`, little endian.
    fn bytes(&self, dtype: StoredDtype) -> Vec<u8> {
        let mut bytes = Vec::new();
        for piece in &self.pieces {
            let data = piece.clone().into_data();
            let values: Vec<f32> = data.iter::<f32>().collect();
            bytes.extend(convert::from_f32(&values, dtype).expect("weights are floats"));
        }
        bytes
    }
}

impl<B: Backend> Bunny<B> {
    /// Every parameter by its published name, in the order of the model. Adapters that are not
    /// merged are not among them.
    pub fn named_parameters(&self) -> Vec<NamedParameter<B>> {
        let mut visitor = Names {
            config: self.config(),
            table: self.config().family.names(),
            path: Vec::new(),
            found: Vec::new(),
        };
        self.visit(&mut visitor);
        visitor.found
    }

    /// Writes the weights, `config.json` and `generation_config.json` as a merged checkpoint, in
    /// shards of at most `max_shard_size` bytes. Tokenizer files are copied from the folder
    /// `tokenizer`, where one is given. A tower that is not published says its sizes, and how
    /// `image_processor` prepares its pictures, in a folder of its own.
    ///
    /// Gives the files written.
    ///
    /// # Errors
    /// When `dtype` is no float, or a file cannot be written; files that were there before are then
    /// whole.
    pub fn save(
        &self,
        folder: impl AsRef<Path>,
        dtype: StoredDtype,
        max_shard_size: u64,
        tokenizer: Option<&Path>,
        image_processor: &ImageProcessor,
    ) -> Result<Vec<PathBuf>, Error> {
        let folder = folder.as_ref();
        float_to_write(folder, dtype)?;
        let parameters = self.named_parameters();
        let plan: Vec<_> = parameters
            .iter()
            .map(|parameter| writer::PlannedTensor {
                name: parameter.name.clone(),
                dtype,
                shape: parameter.shape.clone(),
            })
            .collect();
        let by_name: HashMap<&str, _> = parameters
            .iter()
            .map(|parameter| (parameter.name.as_str(), parameter))
            .collect();
        let mut written = writer::write_folder(folder, &plan, max_shard_size, |planned| {
            let parameter = by_name[planned.name.as_str()];
            Ok::<_, CheckpointError>(parameter.bytes(planned.dtype))
        })?;
        let mut config = self.config().clone();
        if let Some((tower, files)) = write_tower(folder, &config.vision, image_processor)? {
            config.vision_tower = tower.into();
            written.extend(files);
        }
        for (name, json) in [
            ("generation_config.json", generation_json(&config)),
            ("config.json", config_json(&config, dtype)),
        ] {
            written.push(write_json(folder.join(name), &json)?);
        }
        if let Some(tokenizer) = tokenizer {
            let copied = writer::copy_side_files(tokenizer, folder, TOKENIZER_FILES)?;
            written.extend(copied.iter().map(|name| folder.join(name)));
        }
        Ok(written)
    }
}

/// The numbers of a model that is going to be written to `folder` in `dtype`.
pub(super) fn float_to_write(folder: &Path, dtype: StoredDtype) -> Result<DType, CheckpointError> {
    held_as(dtype).ok_or_else(|| CheckpointError::NotAFloat {
        folder: folder.into(),
        dtype: dtype.name(),
    })
}

/// Writes what a tower says of itself to a folder of its own beside a model's files, unless the name
/// of a published tower says it all. Gives the folder's name and the files written.
pub(super) fn write_tower(
    model: &Path,
    tower: &VisionConfig,
    image_processor: &ImageProcessor,
) -> Result<Option<(&'static str, [PathBuf; 2])>, CheckpointError> {
    if tower.is_published() {
        return Ok(None);
    }
    let name = tower.folder_name();
    let file = |file: &str, json| write_json(model.join(name).join(file), &json);
    let files = [
        file("config.json", tower_json(tower))?,
        file(
            "preprocessor_config.json",
            image_processor.preprocessor_config(),
        )?,
    ];
    Ok(Some((name, files)))
}

/// Writes a configuration, and gives its path.
pub(super) fn write_json(path: PathBuf, json: &Value) -> Result<PathBuf, CheckpointError> {
    bunny_base::write_atomic(&path, |file| writeln!(file, "{json:#}"))?;
    Ok(path)
}

/// A model's `config.json`, with every field the reference reads.
pub fn config_json(config: &BunnyConfig, dtype: StoredDtype) -> Value {
    let decoder = &config.decoder;
    let mut json = json!({
        "model_type": config.family.model_type(),
        "architectures": [config.family.architecture()],
        "vocab_size": decoder.vocab_size,
        "hidden_size": decoder.hidden_size,
        "intermediate_size": decoder.intermediate_size,
        "num_hidden_layers": decoder.num_hidden_layers,
        "num_attention_heads": decoder.num_attention_heads,
        "num_key_value_heads": decoder.num_key_value_heads,
        "hidden_act": decoder.activation.name(),
        "max_position_embeddings": decoder.max_position_embeddings,
        "layer_norm_eps": decoder.norm_eps,
        "rope_theta": decoder.rope_theta,
        "partial_rotary_factor": decoder.rotary_dim as f64 / decoder.head_dim as f64,
        "tie_word_embeddings": decoder.tie_word_embeddings,
        "attention_dropout": decoder.attention_dropout,
        "eos_token_id": config.eos_token_id,
        "bos_token_id": config.eos_token_id,
        "mm_vision_tower": config.vision_tower,
        "mm_hidden_size": config.vision.hidden_size(),
        "mm_projector_type": config.projector.name(),
        "use_mm_proj": true,
        "image_aspect_ratio": config.image_aspect_ratio.name(),
        "tokenizer_model_max_length": config.tokenizer_model_max_length,
        "tokenizer_padding_side": "right",
        "unfreeze_vision_tower": config.unfreeze_vision_tower,
        "torch_dtype": dtype.torch_name(),
        "use_cache": true,
    });
    for (field, value) in config.family.own_fields(decoder) {
        json[field] = value;
    }
    json
}

fn generation_json(config: &BunnyConfig) -> Value {
    json!({
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.eos_token_id,
    })
}

/// Collects parameters on a walk through the modules, whose fields are called as in files but for
/// a few wrappers of our own.
struct Names<'a, B: Backend> {
    config: &'a BunnyConfig,
    table: &'a NameTable,
    path: Vec<String>,
    found: Vec<NamedParameter<B>>,
}

impl<B: Backend> Names<'_, B> {
    /// The published name of the parameter at the present path.
    fn name(&self) -> String {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let name = match path.as_slice() {
            ["language_model", rest @ ..] => rest.join("."),
            ["vision_tower", rest @ ..] => {
                format!("model.vision_tower.vision_tower.{}", rest.join("."))
            }
            ["mm_projector", "layers", at, rest @ ..] => match self.config.projector.kind {
                // Every other place of the published sequence is a GELU.
                ProjectorKind::Mlp { .. } => {
                    let at: usize = at.parse().unwrap_or_default();
                    format!("model.mm_projector.{}.{}", 2 * at, rest.join("."))
                }
                _ => format!("model.mm_projector.{}", rest.join(".")),
            },
            path => path.join("."),
        };
        self.table.published(&name)
    }
}

impl<B: Backend> ModuleVisitor<B> for Names<'_, B> {
    fn enter_module(&mut self, name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.path.push(name.to_string());
        }
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.path.pop();
        }
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if self.path.iter().any(|part| part == "lora") {
            return;
        }
        let tensor = param.val();
        let shape = tensor.dims();
        let piece = tensor.reshape([shape.iter().product::<usize>()]);
        // A block of a token table: `...weight.blocks.N` is a piece of `...weight`.
        let depth = self.path.len();
        if depth > 2 && self.path[depth - 2] == "blocks" {
            let block = self.path.split_off(depth - 2);
            let name = self.name();
            self.path.extend(block);
            match self.found.last_mut().filter(|last| last.name == name) {
                Some(table) => {
                    table.shape[0] += shape[0];
                    table.pieces.push(piece);
                }
                None => self.found.push(NamedParameter {
                    name,
                    shape: shape.to_vec(),
                    pieces: vec![piece],
                }),
            }
            return;
        }
        self.found.push(NamedParameter {
            name: self.name(),
            shape: shape.to_vec(),
            pieces: vec![piece],
        });
    }
}

/// The `config.json` of a tower's own folder, so that a saved model says its tower's sizes.
pub fn tower_json(config: &VisionConfig) -> Value {
    match config {
        VisionConfig::Siglip(siglip) => json!({
            "model_type": "siglip_vision_model",
            "architectures": ["SiglipVisionModel"],
            "hidden_size": siglip.hidden_size,
            "intermediate_size": siglip.intermediate_size,
            "num_hidden_layers": siglip.num_hidden_layers,
            "num_attention_heads": siglip.num_attention_heads,
            "num_channels": 3,
            "image_size": siglip.image_size,
            "patch_size": siglip.patch_size,
            "hidden_act": match siglip.activation {
                // As `transformers` calls it in towers.
                Activation::GeluTanh => "gelu_pytorch_tanh",
                other => other.name(),
            },
            "layer_norm_eps": siglip.layer_norm_eps,
            "attention_dropout": 0.0,
        }),
        VisionConfig::EvaClip(eva) => json!({
            "vision_cfg": {
                "image_size": eva.image_size,
                "layers": eva.layers,
                "width": eva.width,
                "head_width": eva.head_width,
                "mlp_ratio": eva.intermediate_size as f64 / eva.width as f64,
                "patch_size": eva.patch_size,
                "rope": true,
                "pt_hw_seq_len": eva.rope_grid,
                "intp_freq": true,
                "naiveswiglu": true,
                "subln": true,
            },
        }),
    }
}
