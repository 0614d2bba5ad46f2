//! Where a model's files are, and what they hold together.

use std::path::{Path, PathBuf};

use bunny_weights::{
    TensorFiles,
    adapter::{ADAPTER_CONFIG, Adapter, AdapterConfig},
};

use super::WeightSet;
use crate::{
    ConfigError, Error, Fields,
    config::{BunnyConfig, VisionConfig, vision_tower_name},
    input::{image::ImageProcessor, tokenizer::Tokenizer},
};

/// The folders a model is read from.
///
/// A model's folder may hold the whole of it (a merged model), or only a projector, or only what a
/// LoRA run learnt; the last two need the language model they belong to.
#[derive(Debug, Clone, Default)]
pub struct ModelSource {
    /// The model's folder.
    pub model: PathBuf,
    /// The base language model's folder, where `model` lacks it.
    pub base: Option<PathBuf>,
    /// The vision tower: a folder, or a file of weights.
    pub vision_tower: Option<PathBuf>,
}

/// A model whose files are open and whose weights can be read.
#[derive(Debug)]
pub struct OpenModel {
    /// Its sizes and choices; the vocabulary is as large as the tokenizer.
    pub config: BunnyConfig,
    /// Its weights under their published names.
    pub weights: WeightSet,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its image processor.
    pub image_processor: ImageProcessor,
    /// The folder its tokenizer files are in, unless they are in memory.
    pub tokenizer_folder: Option<PathBuf>,
}

/// What a model's folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contents {
    Merged,
    Projector,
    Adapter,
}

/// How every tensor of a tower is called in a merged checkpoint.
pub(super) const TOWER: &str = "model.vision_tower.vision_tower.";

impl ModelSource {
    /// A merged model in one folder.
    pub fn merged(model: impl Into<PathBuf>) -> Self {
        Self {
            model: model.into(),
            ..Self::default()
        }
    }

    /// The language model that has to be found before this model can be opened, if its folder holds
    /// none, none is given, and it says which: an adapter names its base, and the configuration
    /// beside a projector the model that it was trained with.
    ///
    /// # Errors
    /// When the configuration cannot be read.
    pub fn wanted_base(&self) -> Result<Option<String>, Error> {
        let name = match self.contents() {
            _ if self.base.is_some() => None,
            Contents::Merged => None,
            Contents::Adapter => AdapterConfig::read(self.model.join(ADAPTER_CONFIG))?.base_model,
            Contents::Projector => {
                let fields = Fields::read(self.model.join("config.json"))?;
                fields.string("_name_or_path")?.map(str::to_owned)
            }
        };
        Ok(name.filter(|name| !name.is_empty()))
    }

    /// The hub id of the vision tower that has to be fetched before this model can be opened, if
    /// there is one: the tower is named in `config.json`, is no folder here, and its tensors are
    /// neither in the checkpoint nor in its base. So the base, where [one is wanted](Self::wanted_base),
    /// is to be given first.
    ///
    /// # Errors
    /// When the files of the model or its base cannot be read.
    pub fn wanted_tower(&self) -> Result<Option<String>, Error> {
        let fields = Fields::read(self.model.join("config.json"))?;
        let name = vision_tower_name(&fields)?;
        if self.tower_path(name).is_some() {
            return Ok(None);
        }
        let whole = match self.contents() {
            Contents::Merged => Some(&self.model),
            Contents::Projector | Contents::Adapter => self.base.as_ref(),
        };
        let files = whole.map(TensorFiles::open_folder).transpose()?;
        Ok((!files.is_some_and(|files| holds_tower(&files))).then(|| name.to_string()))
    }

    /// The model's sizes and choices, from the configurations that are here; no weights are needed.
    ///
    /// # Errors
    /// When a configuration is missing or cannot be used.
    pub fn configuration(&self) -> Result<BunnyConfig, Error> {
        let fields = Fields::read(self.model.join("config.json"))?;
        let tower = self.tower_path(vision_tower_name(&fields)?);
        configuration(&fields, tower.as_deref().map(folder_of))
    }

    /// Opens the files and checks what can be checked without reading weights.
    ///
    /// # Errors
    /// When a file is missing or damaged, or a part of the model is nowhere to be found.
    pub fn open(&self) -> Result<OpenModel, Error> {
        let fields = Fields::read(self.model.join("config.json"))?;
        let tower_path = self.tower_path(vision_tower_name(&fields)?);
        let tower_folder = tower_path.as_deref().map(folder_of);
        let mut config = configuration(&fields, tower_folder)?;
        // Before the tokenizer: where a base is wanted and not given, that is what to say.
        let weights = self.weights(&config, tower_path.as_deref())?;

        let tokenizer_folder = self.tokenizer_folder();
        let tokenizer = Tokenizer::from_folder(&tokenizer_folder)?;
        config.decoder.vocab_size = tokenizer.vocab_size();

        let image_processor = image_processor(&config, tower_folder)?;

        Ok(OpenModel {
            weights,
            config,
            tokenizer,
            image_processor,
            tokenizer_folder: Some(tokenizer_folder),
        })
    }

    /// All weights under their published names.
    fn weights(&self, config: &BunnyConfig, tower: Option<&Path>) -> Result<WeightSet, Error> {
        let contents = self.contents();
        let place = self.model.display().to_string();
        let mut weights = WeightSet::new(place).leaving_aside(unused(config));
        let base = |holds| {
            self.base.as_ref().ok_or_else(|| Error::NoBase {
                folder: self.model.clone(),
                holds,
            })
        };
        let base = match contents {
            Contents::Merged => &self.model,
            Contents::Projector => base("a projector")?,
            Contents::Adapter => base("an adapter")?,
        };
        match contents {
            Contents::Merged => {}
            Contents::Projector => weights = weights.with(projector(&self.model)?),
            Contents::Adapter => {
                let mut adapter = Adapter::open(&self.model)?;
                if let Some(learnt) = adapter.take_others() {
                    weights = weights.with(learnt);
                }
                weights = weights.with_adapter(adapter);
            }
        }
        let base = TensorFiles::open_folder(base)?;
        let is_inside = holds_tower(&base);
        weights = weights.with(base);
        match tower {
            _ if is_inside => Ok(weights),
            // Behind what has learnt: of a tower that did, only the layers that are read are there.
            Some(tower) => Ok(weights.with(open_tower(tower)?)),
            None if weights.has_any(TOWER) => Ok(weights),
            None => Err(Error::NoTower {
                folder: self.model.clone(),
                tower: config.vision_tower.clone(),
            }),
        }
    }

    fn contents(&self) -> Contents {
        let has = |file: &str| self.model.join(file).exists();
        let whole = has("model.safetensors")
            || has("model.safetensors.index.json")
            || has("pytorch_model.bin")
            || has("pytorch_model.bin.index.json");
        if has("adapter_config.json") {
            Contents::Adapter
        } else if !whole && PROJECTOR_FILES.iter().any(|file| has(file)) {
            Contents::Projector
        } else {
            Contents::Merged
        }
    }

    /// The folder with tokenizer files: the model's own, else the base's.
    fn tokenizer_folder(&self) -> PathBuf {
        let files = ["tokenizer.json", "vocab.json", "tokenizer_config.json"];
        let has_one = |folder: &Path| files.iter().any(|file| folder.join(file).exists());
        match &self.base {
            Some(base) if !has_one(&self.model) => base.clone(),
            _ => self.model.clone(),
        }
    }

    /// The tower's folder or file, if it is here: the one given, else the one `config.json` names,
    /// beside the model, beside its base, or as a path.
    fn tower_path(&self, name: &str) -> Option<PathBuf> {
        let beside = [Some(&self.model), self.base.as_ref()];
        let beside = beside.into_iter().flatten().map(|folder| folder.join(name));
        self.vision_tower.clone().or_else(|| {
            beside
                .chain([PathBuf::from(name)])
                .find(|path| path.exists())
        })
    }
}

/// What a checkpoint's `config.json` and its tower's folder say together.
pub(super) fn configuration(fields: &Fields, tower: Option<&Path>) -> Result<BunnyConfig, Error> {
    let tower = tower.map_or(Ok(None), VisionConfig::fields_in)?;
    Ok(BunnyConfig::from_fields(fields, tower.as_ref())?)
}

/// Whether these files hold a vision tower, as a whole Bunny's do.
fn holds_tower(files: &TensorFiles) -> bool {
    files.names().any(|name| name.starts_with(TOWER))
}

/// How the names of tensors start that files of such a model may hold and it never reads.
pub(super) fn unused(config: &BunnyConfig) -> Vec<String> {
    let mut starts = config.vision.unused(TOWER);
    starts.extend(config.vision.computed(TOWER));
    if config.decoder.tie_word_embeddings {
        // The token table, once more.
        starts.push("lm_head.weight".into());
    }
    starts
}

/// How a tower's pictures are prepared: as its own folder says, else as its kind does.
pub(super) fn image_processor(
    config: &BunnyConfig,
    tower_folder: Option<&Path>,
) -> Result<ImageProcessor, Error> {
    let file = tower_folder.map(|folder| folder.join("preprocessor_config.json"));
    let processor = match file {
        Some(file) if file.exists() => {
            let processor = ImageProcessor::from_preprocessor_config(&file)?;
            let (made, read) = (processor.size, config.vision.image_size());
            if made != read {
                return Err(Error::Config(ConfigError::Field {
                    file,
                    field: "size".into(),
                    problem: format!("is {made}, but the tower's `image_size` is {read}"),
                }));
            }
            processor
        }
        _ => match &config.vision {
            VisionConfig::Siglip(siglip) => ImageProcessor::siglip(siglip.image_size),
            VisionConfig::EvaClip(eva) => ImageProcessor::eva_clip(eva.image_size),
        },
    };
    Ok(processor.with_aspect(config.image_aspect_ratio))
}

const PROJECTOR_FILES: [&str; 2] = ["mm_projector.safetensors", "mm_projector.bin"];

/// The projector's tensors, from its folder or file; files name them with varying prefixes.
pub(super) fn projector(path: &Path) -> Result<TensorFiles, Error> {
    let file = if path.is_file() {
        path.to_path_buf()
    } else {
        PROJECTOR_FILES
            .iter()
            .map(|file| path.join(file))
            .find(|file| file.exists())
            .unwrap_or_else(|| path.join(PROJECTOR_FILES[0]))
    };
    let renamed = TensorFiles::open_file(file)?.renamed(|name| {
        let rest = name
            .rsplit_once("mm_projector.")
            .map_or(name, |(_, rest)| rest);
        Some(format!("model.mm_projector.{rest}"))
    })?;
    Ok(renamed)
}

/// A tower's own files: SigLIP as `transformers` saves it, or EVA-CLIP's single `.pt`.
pub(super) fn open_tower(path: &Path) -> Result<TensorFiles, Error> {
    let files = if path.is_file() {
        TensorFiles::open_file(path)?
    } else {
        match single_pt(path) {
            Some(file) => TensorFiles::open_file(file)?,
            None => TensorFiles::open_folder(path)?,
        }
    };
    let renamed = files.renamed(|name| {
        let name = name.strip_prefix("module.").unwrap_or(name);
        if let Some(rest) = name.strip_prefix("visual.") {
            return Some(format!("{TOWER}model.{rest}"));
        }
        name.starts_with("vision_model.")
            .then(|| format!("{TOWER}{name}"))
    })?;
    Ok(renamed)
}

/// The one `.pt` file of a folder that holds no weights in `transformers`' form.
fn single_pt(folder: &Path) -> Option<PathBuf> {
    let mut files = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "pt"));
    let first = files.next()?;
    files.next().is_none().then_some(first)
}

pub(super) fn folder_of(path: &Path) -> &Path {
    if path.is_file() {
        path.parent().unwrap_or(path)
    } else {
        path
    }
}
