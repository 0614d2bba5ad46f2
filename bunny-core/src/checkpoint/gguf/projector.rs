//! The projector file (mmproj): the vision tower and what joins it to the language model.

use bunny_weights::{
    CheckpointError, GgufError, StoredDtype, StoredTensor,
    gguf::{Array, GgufFile, GgufTensor, Metadata, Value},
};
use serde_json::{Map, Value as Json, json};

use super::{
    fields::{scalars, shortest},
    names,
};
use crate::{
    ConfigError, Error, Fields,
    config::{BunnyConfig, SiglipConfig, VisionConfig},
    input::image::ImageProcessor,
    nn::{ParameterSpec, Part},
};

/// Which of llama.cpp's projectors a file says it is. Both are the same two matrices; they differ in what
/// becomes of pictures that are not square.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ProjectorKind {
    /// `janus_pro`: pictures are padded with grey, nearly as Bunny does. llama.cpp has it since the end
    /// of 2025.
    #[default]
    JanusPro,
    /// `mlp`: every reader knows it; pictures are padded with another colour, after they are resized.
    Mlp,
}

impl ProjectorKind {
    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::JanusPro => "janus_pro",
            Self::Mlp => "mlp",
        }
    }

    /// What the second matrix is called.
    fn second(self) -> &'static str {
        match self {
            Self::JanusPro => "mm.1.",
            Self::Mlp => "mm.2.",
        }
    }

    /// What a parameter of tower or projector is called.
    pub(super) fn name_of(self, spec: &ParameterSpec) -> Option<String> {
        let rest = spec.published.strip_prefix(spec.part.prefix())?;
        match spec.part {
            Part::VisionTower => names::of_tower(rest),
            Part::Projector => {
                let (layer, parameter) = rest.split_once('.')?;
                match layer {
                    "0" => Some(format!("mm.0.{parameter}")),
                    "2" => Some(format!("{}{parameter}", self.second())),
                    _ => None,
                }
            }
            Part::LanguageModel => None,
        }
    }

    /// What a projector file says.
    pub(super) fn keys(
        self,
        tower: &SiglipConfig,
        config: &BunnyConfig,
        processor: &ImageProcessor,
    ) -> Metadata {
        let count = |count: usize| Value::U32(count as u32);
        let floats = |numbers: [f64; 3]| Array::of_floats(&numbers.map(|number| number as f32));
        let layers = tower.layers_used();
        let mut keys: Vec<(&str, Value)> = vec![
            ("general.architecture", "clip".into()),
            ("general.type", "mmproj".into()),
            ("clip.has_vision_encoder", true.into()),
            ("clip.projector_type", self.name().into()),
            // What ggml calls GELU is the one with tanh; without this it takes another.
            ("clip.use_gelu", true.into()),
            ("clip.vision.image_size", count(tower.image_size)),
            ("clip.vision.patch_size", count(tower.patch_size)),
            ("clip.vision.embedding_length", count(tower.hidden_size)),
            (
                "clip.vision.feed_forward_length",
                count(tower.intermediate_size),
            ),
            ("clip.vision.block_count", count(layers)),
            (
                "clip.vision.attention.head_count",
                count(tower.num_attention_heads),
            ),
            (
                "clip.vision.attention.layer_norm_epsilon",
                Value::F32(tower.layer_norm_eps as f32),
            ),
            (
                "clip.vision.projection_dim",
                count(config.decoder.hidden_size),
            ),
            ("clip.vision.image_mean", floats(processor.mean).into()),
            ("clip.vision.image_std", floats(processor.std).into()),
        ];
        if self == Self::Mlp {
            // Without it llama.cpp runs one layer fewer than it holds.
            let layer = Array::of_integers(&[layers as i32]);
            keys.push(("clip.vision.feature_layer", layer.into()));
        }
        let keys = keys.into_iter();
        keys.map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// A projector file that is open, and what it says of the tower.
#[derive(Debug)]
pub(super) struct ProjectorFile {
    file: GgufFile,
    kind: ProjectorKind,
    /// Layers that take part.
    layers: usize,
    /// Whether the two matrices of an MLP have each other's names, as older converters left them.
    is_swapped: bool,
}

/// The name that stands for the sizes of the published tower.
const PUBLISHED: &str = "google/siglip-so400m-patch14-384";

impl ProjectorFile {
    /// Reads what a file says.
    pub fn open(file: GgufFile) -> Result<Self, Error> {
        let said = scalars(&file);
        let kind = match said.string("clip.projector_type")? {
            // Bunny's own files were made before there were several.
            None | Some("mlp") => ProjectorKind::Mlp,
            Some("janus_pro") => ProjectorKind::JanusPro,
            Some(other) => {
                return Err(ConfigError::NotSupported {
                    file: file.path().into(),
                    feature: format!("`clip.projector_type` `{other}`"),
                }
                .into());
            }
        };
        if file.get("v.class_embd").is_some() || file.get("v.pre_ln.weight").is_some() {
            return Err(ConfigError::NotSupported {
                file: file.path().into(),
                feature: "a vision tower with a class token, which is no SigLIP,".into(),
            }
            .into());
        }
        let (width, inside) = sizes(&said)?;
        let layers = layers(&file, &said, kind, width)?;
        let first = file.get("v.blk.0.ffn_down.weight");
        let is_swapped =
            width != inside && first.is_some_and(|tensor| tensor.shape == [inside, width]);
        Ok(Self {
            file,
            kind,
            layers,
            is_swapped,
        })
    }

    /// The file.
    pub fn file(&self) -> &GgufFile {
        &self.file
    }

    /// The tensor that is a parameter of tower or projector, and what it is called.
    pub fn find(&self, spec: &ParameterSpec) -> Option<(String, Option<&GgufTensor>)> {
        if let Some(parameter) = last_norm(spec) {
            let name = format!("v.post_ln.{parameter}");
            let found = self.file.get(&name);
            return Some((name, found));
        }
        let name = self.kind.name_of(spec)?;
        let name = match self.is_swapped {
            false => name,
            true if name.contains(".ffn_up.") => name.replace(".ffn_up.", ".ffn_down."),
            true => name.replace(".ffn_down.", ".ffn_up."),
        };
        let found = self.file.get(&name);
        Some((name, found))
    }

    /// A parameter that files leave out, since llama.cpp would apply it: of the norm behind all layers,
    /// which Bunny has and never applies, a norm that does nothing.
    pub fn left_out(&self, spec: &ParameterSpec) -> Option<StoredTensor> {
        let parameter = last_norm(spec)?;
        let number: f32 = if parameter == "weight" { 1.0 } else { 0.0 };
        Some(StoredTensor {
            name: spec.published.clone(),
            dtype: StoredDtype::F32,
            shape: spec.shape.clone(),
            bytes: number.to_le_bytes().repeat(spec.count() as usize).into(),
            file: self.file.path().into(),
        })
    }

    /// Whether Bunny never reads the tensor of this name: layers behind the one whose features are read,
    /// and a head behind all of them.
    pub fn is_unused(&self, name: &str) -> bool {
        let layer = name
            .strip_prefix("v.blk.")
            .and_then(|rest| rest.split_once('.'));
        let layer = layer.and_then(|(layer, _)| layer.parse::<usize>().ok());
        layer.is_some_and(|layer| layer >= self.layers) || name.starts_with("v.head.")
    }

    /// The tower's own `config.json`.
    pub fn tower_json(&self) -> Result<Map<String, Json>, ConfigError> {
        let said = scalars(&self.file);
        let (width, inside) = sizes(&said)?;
        let needed = |key: &str| said.needed(&format!("clip.vision.{key}"), 1 << 20);
        let eps = said.number("clip.vision.attention.layer_norm_epsilon", 1e-6)?;
        let json = json!({
            "model_type": "siglip_vision_model",
            "hidden_size": width,
            "intermediate_size": inside,
            // The last one is not read.
            "num_hidden_layers": self.layers + 1,
            "num_attention_heads": needed("attention.head_count")?,
            "image_size": needed("image_size")?,
            "patch_size": needed("patch_size")?,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": shortest(eps),
        });
        Ok(json.as_object().cloned().unwrap_or_default())
    }

    /// What a model's `config.json` says of the tower.
    pub fn config_json(&self, tower: &VisionConfig) -> Map<String, Json> {
        let name = match tower.is_published() {
            true => PUBLISHED,
            false => tower.folder_name(),
        };
        let json = json!({
            "mm_vision_tower": name,
            "mm_hidden_size": tower.hidden_size(),
            "mm_projector_type": "mlp2x_gelu",
            "use_mm_proj": true,
            "image_aspect_ratio": "pad",
        });
        json.as_object().cloned().unwrap_or_default()
    }

    /// How pictures are prepared.
    pub fn image_processor(&self, side: usize) -> Result<ImageProcessor, CheckpointError> {
        let three = |key: &str, default: [f64; 3]| {
            let key = format!("clip.vision.{key}");
            let Some(value) = self.file.metadata().get(&key) else {
                return Ok(default);
            };
            let floats = value.array().and_then(Array::floats);
            let floats: Vec<f64> = floats.into_iter().flatten().map(f64::from).collect();
            let is_right = |floats: &[f64; 3]| floats.iter().all(|number| number.is_finite());
            let found = <[f64; 3]>::try_from(floats).ok().filter(is_right);
            found.map(|floats| floats.map(shortest)).ok_or_else(|| {
                let problem = "is no list of three floats";
                GgufError::Value { key, problem }.at(self.file.path())
            })
        };
        let usual = ImageProcessor::siglip(side);
        let std = three("image_std", usual.std)?;
        if std.contains(&0.0) {
            let (key, problem) = ("clip.vision.image_std".into(), "has a zero");
            return Err(GgufError::Value { key, problem }.at(self.file.path()));
        }
        Ok(ImageProcessor {
            mean: three("image_mean", usual.mean)?,
            std,
            ..usual
        })
    }
}

/// Which parameter it is of the norm behind all layers, if it is one.
fn last_norm(spec: &ParameterSpec) -> Option<&str> {
    let (_, parameter) = spec.published.split_once(".vision_model.post_layernorm.")?;
    (spec.part == Part::VisionTower).then_some(parameter)
}

/// Channels of the tower, and inside its MLPs.
fn sizes(said: &Fields) -> Result<(usize, usize), ConfigError> {
    let needed = |key: &str| said.needed(&format!("clip.vision.{key}"), 1 << 20);
    Ok((needed("embedding_length")?, needed("feed_forward_length")?))
}

/// How many layers take part. Files say how many they hold, and mostly hold those that are needed.
fn layers(
    file: &GgufFile,
    said: &Fields,
    kind: ProjectorKind,
    width: usize,
) -> Result<usize, Error> {
    const KEY: &str = "clip.vision.feature_layer";
    let held = (0..1024)
        .take_while(|layer| file.get(&format!("v.blk.{layer}.ln1.weight")).is_some())
        .count();
    if held == 0 {
        return Err(said
            .invalid(
                "clip.vision.block_count",
                "counts layers that are not there",
            )
            .into());
    }
    let fault = |problem| GgufError::Value {
        key: KEY.into(),
        problem,
    };
    if let (ProjectorKind::Mlp, Some(value)) = (kind, file.metadata().get(KEY)) {
        let listed = value.array().and_then(Array::integers);
        let listed: Vec<i64> = listed.into_iter().flatten().collect();
        let found = match listed[..] {
            [layer] => usize::try_from(layer)
                .ok()
                .filter(|layer| (1..=held).contains(layer)),
            _ => None,
        };
        return found.ok_or_else(|| {
            fault("names no single layer of those that are there")
                .at(file.path())
                .into()
        });
    }
    let whole = SiglipConfig::so400m_patch14_384();
    // A whole tower as it is published: its last layer is not read.
    let is_whole = width == whole.hidden_size && held == whole.num_hidden_layers;
    Ok(if is_whole && kind == ProjectorKind::Mlp {
        held - 1
    } else {
        held
    })
}
