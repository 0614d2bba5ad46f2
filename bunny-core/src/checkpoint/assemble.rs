//! A model put together from parts that were published apart, and opened.

use std::path::{Path, PathBuf};

use bunny_base::files;
use bunny_weights::{
    ModelFolder, TensorFiles, adapter::Adapter, folder::CONFIG, packed::PackedConfig,
};

use super::{
    WeightSet,
    folder::{beside, processor_file},
    open_weights,
};
use crate::{
    ConfigError, Error, Fields,
    config::{BunnyConfig, VisionConfig, refuse_foreign_integers},
    input::{image::ImageProcessor, tokenizer::Tokenizer},
    nn::Part,
};

/// How the names of a tower's tensors begin in a merged checkpoint.
const TOWER: &str = Part::VisionTower.prefix();

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
    /// What lies beside its weights: the configuration as it was read, and its tokenizer's files.
    pub beside: ModelFolder,
}

/// The parts of a model that is yet to be one.
#[derive(Debug)]
pub struct Parts {
    /// The folder of the language model, or of a whole Bunny to go on from.
    pub language_model: PathBuf,
    /// The vision tower, a folder or a file of weights, where the folder above holds none.
    pub vision_tower: Option<PathBuf>,
    /// Tensors under their published names that go before those of the folder above: a projector,
    /// or what learnt beside an adapter. Of two of one name, the first holds.
    pub learnt: Vec<TensorFiles>,
}

impl Parts {
    /// Sizes and choices of the model that `fields`, its `config.json`, describes, the vocabulary
    /// being the tokenizer's.
    ///
    /// # Errors
    /// When `fields` describe no model, or there is no tokenizer.
    pub fn configuration(&self, fields: &Fields) -> Result<(BunnyConfig, Tokenizer), Error> {
        let tower_folder = self.vision_tower.as_deref().map(folder_of);
        let mut config = configuration(fields, tower_folder)?;
        let tokenizer = Tokenizer::from_folder(&self.language_model)?;
        config.decoder.vocab_size = tokenizer.vocab_size();
        Ok((config, tokenizer))
    }

    /// Opens the files of the model that `fields`, its `config.json`, describes.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the tower is nowhere to be found.
    pub fn open(self, fields: &Fields) -> Result<OpenModel, Error> {
        Found::of(self).open(fields)
    }
}

/// A projector's tensors under their published names, from its folder or file.
///
/// # Errors
/// When there is no such file, or it holds anything but tensors.
pub fn open_projector(path: impl AsRef<Path>) -> Result<TensorFiles, Error> {
    projector(path.as_ref())
}

/// All that a model is opened from.
#[derive(Debug)]
pub(super) struct Found {
    pub parts: Parts,
    /// The folder that is the model's own, where there is one already.
    pub own: Option<PathBuf>,
    /// The folder with the tokenizer's files.
    pub tokenizer: PathBuf,
    /// What is merged into the language model.
    pub adapter: Option<Adapter>,
}

impl Found {
    pub fn of(parts: Parts) -> Self {
        Self {
            own: None,
            tokenizer: parts.language_model.clone(),
            adapter: None,
            parts,
        }
    }

    /// Opens the files and checks what can be checked without reading weights.
    pub fn open(self, fields: &Fields) -> Result<OpenModel, Error> {
        let place = self.own.clone();
        let place = place.unwrap_or_else(|| self.parts.language_model.clone());
        let tower = self.parts.vision_tower.clone();
        let tower_folder = tower.as_deref().map(folder_of);
        let mut config = configuration(fields, tower_folder)?;
        let beside = beside(self.own.as_deref(), &self.tokenizer, fields);
        // A model that says its tower's sizes itself says how pictures are prepared, too.
        let within = self.parts.language_model.clone();
        let pictures = match tower_folder {
            None if fields.get("vision_config").is_some() => Some(&*within),
            other => other,
        };
        // Before the tokenizer: where a part is wanted and not given, that is what to say.
        let weights = weights(self.parts, self.adapter, &place, &config)?;
        let tokenizer = Tokenizer::from_folder(&self.tokenizer)?;
        config.decoder.vocab_size = tokenizer.vocab_size();
        Ok(OpenModel {
            weights,
            image_processor: image_processor(&config, pictures)?,
            config,
            tokenizer,
            beside,
        })
    }
}

/// All weights under their published names; `place` is what they are called in errors.
fn weights(
    parts: Parts,
    adapter: Option<Adapter>,
    place: &Path,
    config: &BunnyConfig,
) -> Result<WeightSet, Error> {
    let mut weights = WeightSet::new(place.display().to_string()).leaving_aside(unused(config));
    for learnt in parts.learnt {
        weights = weights.with(learnt);
    }
    if let Some(adapter) = adapter {
        weights = weights.with_adapter(adapter);
    }
    let integers = integers(&parts.language_model)?;
    let mut language_model = open_weights(&parts.language_model)?;
    let is_inside = holds_tower(&language_model);
    if let Some(integers) = integers {
        let (floats, packed) = integers.take_from(language_model)?;
        weights = weights.with_packed(packed);
        language_model = floats;
    }
    weights = weights.with(language_model);
    match parts.vision_tower {
        _ if is_inside => Ok(weights),
        // Behind what has learnt: of a tower that did, only the layers that are read are there.
        Some(tower) => Ok(weights.with(open_tower(&tower)?)),
        None if weights.has_any(TOWER) => Ok(weights),
        None => Err(Error::NoTower {
            folder: place.into(),
            tower: config.vision_tower.clone(),
        }),
    }
}

/// What a language model's own configuration says of integers that its files hold.
fn integers(folder: &Path) -> Result<Option<PackedConfig>, Error> {
    let file = folder.join(CONFIG);
    if !files::exists(&file) {
        return Ok(None);
    }
    let fields = Fields::read(&file)?;
    refuse_foreign_integers(&fields)?;
    let said = fields.get("quantization_config");
    let read = said.map(PackedConfig::read).transpose();
    Ok(read.map_err(|fault| fault.at(file))?)
}

/// What a checkpoint's `config.json` and its tower's folder say together.
pub(super) fn configuration(fields: &Fields, tower: Option<&Path>) -> Result<BunnyConfig, Error> {
    let tower = tower.map_or(Ok(None), VisionConfig::fields_in)?;
    Ok(BunnyConfig::from_fields(fields, tower.as_ref())?)
}

/// Whether these files hold a vision tower, as a whole Bunny's do.
pub(super) fn holds_tower(files: &TensorFiles) -> bool {
    files.names().any(|name| name.starts_with(TOWER))
}

/// How the names of tensors start that files of such a model may hold and it never reads.
pub(super) fn unused(config: &BunnyConfig) -> Vec<String> {
    let mut starts = config.vision.unused(TOWER);
    starts.extend(repeated(config));
    starts
}

/// Of [those](unused), what only says again what the model has or can compute.
pub(super) fn repeated(config: &BunnyConfig) -> Vec<String> {
    let mut starts = config.vision.computed(TOWER);
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
    let processor = match tower_folder.and_then(processor_file) {
        Some(file) => {
            let mut processor = ImageProcessor::from_preprocessor_config(&file)?;
            let (made, read) = (processor.size, config.vision.pass_size());
            if made != read {
                return Err(Error::Config(ConfigError::Field {
                    file,
                    field: "size".into(),
                    problem: format!("is {made}, but the tower's `image_size` is {read}"),
                }));
            }
            // A tower's own files know nothing of the larger sizes that it is shown pictures in.
            processor.size = config.vision.image_size();
            processor
        }
        None => config.vision.image_processor(),
    };
    Ok(processor.with_aspect(config.image_aspect_ratio))
}

pub(super) const PROJECTOR_FILES: [&str; 2] = ["mm_projector.safetensors", "mm_projector.bin"];

/// The projector's tensors, from its folder or file; files name them with varying prefixes.
pub(super) fn projector(path: &Path) -> Result<TensorFiles, Error> {
    let file = if files::is_file(path) {
        path.to_path_buf()
    } else {
        PROJECTOR_FILES
            .iter()
            .map(|file| path.join(file))
            .find(|path| files::exists(path))
            .unwrap_or_else(|| path.join(PROJECTOR_FILES[0]))
    };
    let renamed = TensorFiles::open_file(file)?.renamed(|name| {
        let rest = name
            .rsplit_once("mm_projector.")
            .map_or(name, |(_, rest)| rest);
        Some(format!("{}{rest}", Part::Projector.prefix()))
    })?;
    Ok(renamed)
}

/// A tower's own files: SigLIP as `transformers` saves it, or EVA-CLIP's single `.pt`.
fn open_tower(path: &Path) -> Result<TensorFiles, Error> {
    let files = if files::is_file(path) {
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
    let mut found = files::entries(folder)
        .ok()?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "pt"));
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

pub(super) fn folder_of(path: &Path) -> &Path {
    if files::is_file(path) {
        path.parent().unwrap_or(path)
    } else {
        path
    }
}
