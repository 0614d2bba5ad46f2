//! A model written in GGUF.

use std::path::{Path, PathBuf};

use bunny_weights::{
    CheckpointError, ModelFolder, StoredDtype,
    gguf::{Metadata, PlannedBlocks, TensorType, write_file},
    packed::RowOrder,
};

use super::{
    architecture::{Architecture, Kind as ArchitectureKind},
    card::Card,
    names,
    projector::ProjectorKind,
    quantities::{Quantities, of_tower},
    rows::{Content, Planned},
    vocabulary,
};
use crate::{
    Error,
    checkpoint::{OpenModel, chat_template::chat_template},
    config::{BunnyConfig, ProjectorKind as Projector, SiglipConfig, VisionConfig},
    input::image::{Aspect, ImageProcessor, Kind},
    nn::{Activation, ParameterSpec, Part},
};

/// How llama-server's markers begin, which stand for pictures in the text of a turn; they end in `_>`.
const MEDIA_MARKER: &str = "<__media_";

/// How a model is written in GGUF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufExport {
    /// What the model is called, in the names of its files too.
    pub name: String,
    /// In what the language model's weights are held.
    pub weights: Quantities,
    /// What the projector file says it is.
    pub projector: ProjectorKind,
}

/// A model that the format has no place for.
fn refused(reason: impl Into<String>) -> Error {
    Error::Unexportable {
        format: "GGUF",
        reason: reason.into(),
    }
}

/// The tower of a model that llama.cpp runs as it is run here.
///
/// # Errors
/// Where it runs no such model, in words that say why.
fn tower_of<'c>(
    config: &'c BunnyConfig,
    processor: &ImageProcessor,
) -> Result<&'c SiglipConfig, Error> {
    let tower = match &config.vision {
        VisionConfig::Siglip(tower) => tower,
        VisionConfig::EvaClip(_) => {
            return Err(refused(
                "its vision tower is an EVA-CLIP, whose rotary angles and inner norms llama.cpp does not \
                 compute",
            ));
        }
        VisionConfig::Multiscale(_) => {
            return Err(refused(
                "its vision tower sees a picture in several sizes (S²), and llama.cpp joins no features of \
                 several",
            ));
        }
        VisionConfig::Clip(_) => {
            return Err(refused(
                "its vision tower is a CLIP, for which llama.cpp prepares pictures otherwise",
            ));
        }
    };
    if tower.activation != Activation::GeluTanh {
        return Err(refused(
            "the activation of its vision tower is not GELU with tanh",
        ));
    }
    if config.projector.kind != (Projector::Mlp { depth: 2 }) {
        let name = config.projector.name();
        return Err(refused(format!(
            "its projector is `{name}`, and llama.cpp has only `mlp2x_gelu`"
        )));
    }
    if config.image_aspect_ratio != Aspect::Pad || processor.kind != Kind::Siglip {
        return Err(refused(
            "its pictures are squashed to squares, and llama.cpp pads them",
        ));
    }
    Ok(tower)
}

impl OpenModel {
    /// Writes the model into `folder` for llama.cpp and all that is built on it: the language model with
    /// its tokenizer and chat template, the projector file with the vision tower, a `Modelfile` for ollama
    /// and a README with the commands. Adapters are folded in before anything is rounded; weights that are
    /// in integers already stay the numbers they are where the file has such. Some rows are in memory at a
    /// time. Gives the files written.
    ///
    /// # Errors
    /// [`Error::Unexportable`] before anything is written where llama.cpp does not run such a model; when
    /// a tensor is missing or cannot be read or rounded, an adapter has no weight to go to, or a file
    /// cannot be written.
    pub fn export_gguf(
        &self,
        folder: impl AsRef<Path>,
        export: &GgufExport,
    ) -> Result<Vec<PathBuf>, Error> {
        let (folder, config) = (folder.as_ref(), &self.config);
        let tower = tower_of(config, &self.image_processor)?;
        let architecture = Architecture::of(config.family)
            .ok_or_else(|| refused(format!("llama.cpp knows no {}", config.family.model_type())))?;
        if let Some(reason) = architecture.refuses(&config.decoder) {
            return Err(refused(reason));
        }
        // Names all that is wrong with the weights at once.
        self.weights.merged_plan(config, StoredDtype::F32)?;
        let text_keys = self.text_keys(architecture, export)?;
        let [text, projector] = self.plans(architecture, export);

        let names = [
            format!("{}-{}.gguf", export.name, export.weights.name()),
            format!("mmproj-{}-f16.gguf", export.name),
        ];
        let mut projector_keys = export.projector.keys(tower, config, &self.image_processor);
        projector_keys.insert("general.name".into(), export.name.as_str().into());
        projector_keys.insert(
            "general.file_type".into(),
            Quantities::F16.file_type().into(),
        );
        let write = |name: &str, keys: &Metadata, plan: &[Planned]| {
            let blocks: Vec<PlannedBlocks> =
                plan.iter().map(|planned| planned.blocks.clone()).collect();
            let mut parts = plan.iter();
            write_file(folder.join(name), keys, &blocks, |_, sink| {
                match parts.next() {
                    Some(planned) => self.weights.put_tensor(planned, sink),
                    None => Ok(()),
                }
            })
        };
        let drafts = [
            write(&names[0], &text_keys, &text)?,
            write(&names[1], &projector_keys, &projector)?,
        ];
        let mut written = Vec::new();
        for draft in drafts {
            written.push(draft.path().to_path_buf());
            draft.publish().map_err(CheckpointError::from)?;
        }
        let card = Card {
            name: &export.name,
            text: &names[0],
            projector: &names[1],
            is_mlp: export.projector == ProjectorKind::Mlp,
            window: config.decoder.sliding_window,
            context: config.decoder.max_position_embeddings,
        };
        let beside = ModelFolder::new()
            .with_bytes("Modelfile", card.modelfile().into_bytes())
            .with_bytes("README.md", card.readme().into_bytes());
        written.extend(beside.write_files(folder)?);
        Ok(written)
    }

    /// What the language model's file says.
    fn text_keys(
        &self,
        architecture: &Architecture,
        export: &GgufExport,
    ) -> Result<Metadata, Error> {
        let config = &self.config;
        let mut keys = architecture.keys(&config.decoder);
        keys.extend(vocabulary::keys(
            &self.tokenizer,
            config,
            config.decoder.vocab_size,
        )?);
        keys.insert("general.type".into(), "model".into());
        keys.insert("general.name".into(), export.name.as_str().into());
        keys.insert(
            "general.file_type".into(),
            export.weights.file_type().into(),
        );
        if export.weights != Quantities::F16 {
            keys.insert("general.quantization_version".into(), 2u32.into());
        }
        let beginning = self.tokenizer.beginning()?.unwrap_or_default();
        let template = chat_template(config.family.template(), &beginning, MEDIA_MARKER);
        keys.insert("tokenizer.chat_template".into(), template.into());
        Ok(keys)
    }

    /// The tensors of both files.
    fn plans(&self, architecture: &Architecture, export: &GgufExport) -> [Vec<Planned>; 2] {
        let config = &self.config;
        let (mut text, mut projector) = (Vec::new(), Vec::new());
        for spec in config.describe() {
            match spec.part {
                Part::LanguageModel => {
                    let name = names::of_text(&spec.local);
                    text.extend(name.map(|name| self.planned(architecture, export, spec, name)));
                }
                Part::VisionTower | Part::Projector => {
                    let name = export.projector.name_of(&spec);
                    projector.extend(name.map(|name| Planned {
                        blocks: PlannedBlocks {
                            name,
                            kind: of_tower(&spec),
                            shape: spec.shape.clone(),
                        },
                        content: Content::Parameter {
                            spec,
                            order: RowOrder::Same,
                        },
                    }));
                }
            }
        }
        // Some take no head for granted that is the table.
        let wants_head = matches!(
            architecture.kind,
            ArchitectureKind::Phi2 | ArchitectureKind::StableLm
        );
        if wants_head && config.decoder.tie_word_embeddings {
            let specs = config.describe().into_iter();
            let table = specs.filter(|spec| spec.local.starts_with("model.embed_tokens"));
            let head = |spec| self.planned(architecture, export, spec, "output.weight".into());
            text.extend(table.map(head));
        }
        if architecture.kind == ArchitectureKind::Phi2 {
            // Bunny's Phi has no bias on its head, and llama.cpp's asks for one.
            text.push(Planned {
                blocks: PlannedBlocks {
                    name: "output.bias".into(),
                    kind: TensorType::F32,
                    shape: vec![config.decoder.vocab_size],
                },
                content: Content::Zeros,
            });
        }
        [text, projector]
    }

    /// A tensor of the language model.
    fn planned(
        &self,
        architecture: &Architecture,
        export: &GgufExport,
        spec: ParameterSpec,
        name: String,
    ) -> Planned {
        let bits = self.weights.integer_bits(&spec.published);
        Planned {
            blocks: PlannedBlocks {
                name,
                kind: export.weights.of(&spec, &self.config, bits),
                shape: spec.shape.clone(),
            },
            content: Content::Parameter {
                order: architecture.order_of(&self.config.decoder, &spec.local),
                spec,
            },
        }
    }
}
