//! The model that this crate carries: a small Bunny that knows a small world of drawn shapes.
//!
//! It is made from nothing by this project's own commands, and loaded by the same code as the large
//! ones. What it knows, how it was made and how well it does is told in its [model card](CARD).

use std::path::{Path, PathBuf};

use bunny_weights::{
    CheckpointError, ModelFolder, TensorFiles,
    folder::{self, GENERATION_CONFIG, TOKENIZER_FILES},
};
use bytes::Bytes;

use super::{
    OpenModel, WeightSet,
    assemble::{image_processor, unused},
};
use crate::{BunnyConfig, Error, Fields, input::tokenizer::Tokenizer};

/// Where its files are called to be, in errors.
const PLACE: &str = "the built-in model";

macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!("../../builtin/", $name)) as &[u8]
    };
}

macro_rules! text {
    ($name:literal) => {
        include_str!(concat!("../../builtin/", $name))
    };
}

/// What it cannot do, for people who meet it.
pub const LIMITS: &str = "\
The built-in model knows its small world alone: drawn shapes, numbers and short words. Whatever
else it is shown, it will take for these. To talk about photographs, take a published model:
--model BAAI/Bunny-v1_0-3B (6.4 GB, downloaded once).";

/// Its model card: what it knows, how it was made, how well it does.
pub const CARD: &str = text!("README.md");

const CONFIG: &str = text!("config.json");
const TOWER_CONFIG: &str = text!("siglip-tower/config.json");
const TOKENIZER: &str = text!("tokenizer.json");
const TOKENIZER_CONFIG: &str = text!("tokenizer_config.json");
// Statics: of a constant, every use keeps a copy of its own in the program.
static WEIGHTS: &[u8] = file!("model.safetensors");

/// Its files and their names.
static FILES: [(&str, &[u8]); 8] = [
    ("README.md", CARD.as_bytes()),
    ("config.json", CONFIG.as_bytes()),
    ("generation_config.json", file!("generation_config.json")),
    ("model.safetensors", WEIGHTS),
    ("siglip-tower/config.json", TOWER_CONFIG.as_bytes()),
    ("special_tokens_map.json", file!("special_tokens_map.json")),
    ("tokenizer.json", TOKENIZER.as_bytes()),
    ("tokenizer_config.json", TOKENIZER_CONFIG.as_bytes()),
];

/// Opens the built-in model where it is, in the program; no file is touched.
///
/// Its weights are stored in f16.
///
/// # Errors
/// None but those of a damaged program.
pub fn open() -> Result<OpenModel, Error> {
    let named = |name: &str| Path::new(PLACE).join(name);
    let tower = Fields::parse(named("siglip-tower/config.json"), TOWER_CONFIG)?;
    let fields = Fields::parse(named("config.json"), CONFIG)?;
    let mut config = BunnyConfig::from_fields(&fields, Some(&tower))?;
    let tokenizer = Tokenizer::from_json(TOKENIZER, Some(TOKENIZER_CONFIG))?;
    config.decoder.vocab_size = tokenizer.vocab_size();
    let files = TensorFiles::from_bytes(named("model.safetensors"), Bytes::from_static(WEIGHTS))?;
    let beside = FILES
        .iter()
        .fold(ModelFolder::new(), |folder, (name, bytes)| {
            let is_beside = TOKENIZER_FILES.contains(name) || *name == GENERATION_CONFIG;
            match is_beside {
                true => folder.with_bytes(name, *bytes),
                false => folder,
            }
        });
    Ok(OpenModel {
        weights: WeightSet::new(PLACE)
            .leaving_aside(unused(&config))
            .with(files),
        image_processor: image_processor(&config, None)?,
        config,
        tokenizer,
        beside: beside.with_json(folder::CONFIG, fields.values().clone().into()),
    })
}

/// Writes the built-in model to a folder, as a checkpoint in the published layout: to train from,
/// or to read with other programs. Gives the files written.
///
/// # Errors
/// When a file cannot be written.
pub fn write(folder: impl AsRef<Path>) -> Result<Vec<PathBuf>, Error> {
    let mut written = Vec::with_capacity(FILES.len());
    for (name, bytes) in &FILES {
        let path = folder.as_ref().join(name);
        bunny_base::write_atomic(&path, |file| file.write_all(bytes))
            .map_err(CheckpointError::from)?;
        written.push(path);
    }
    Ok(written)
}
