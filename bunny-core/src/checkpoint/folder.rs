//! What lies beside a model's weights, and what it has to say of the model.

use std::path::{Component, Path, PathBuf};

use bunny_base::files;
use bunny_weights::{
    CheckpointError, ModelFolder, StoredDtype,
    folder::{CONFIG, GENERATION_CONFIG, PREPROCESSOR_CONFIG, PROCESSOR_CONFIG, TOKENIZER_FILES},
};
use burn::tensor::DType;

use crate::{Error, Fields, config::BunnyConfig, input::image::ImageProcessor, nn::held_as};

/// What lies beside a model that `fields` describe: its own files from its folder `own`, and those of
/// the tokenizer. A base's own configuration is not its model's.
pub(super) fn beside(own: Option<&Path>, tokenizer: &Path, fields: &Fields) -> ModelFolder {
    let mut folder = ModelFolder::new().with_files_of(tokenizer, TOKENIZER_FILES);
    if let Some(own) = own {
        folder = folder.with_files_of(own, [GENERATION_CONFIG, PREPROCESSOR_CONFIG]);
    }
    folder.with_json(CONFIG, fields.values().clone().into())
}

/// The file in a model's or a tower's folder that says how its pictures are prepared.
pub(super) fn processor_file(folder: &Path) -> Option<PathBuf> {
    let named = [PREPROCESSOR_CONFIG, PROCESSOR_CONFIG].map(|file| folder.join(file));
    named.into_iter().find(|file| files::exists(file))
}

/// All that lies beside the weights of a whole model in its folder, as it is there; a folder of its
/// tower's within it, too.
///
/// # Errors
/// When its configuration cannot be read.
pub fn files_beside(model: &Path) -> Result<ModelFolder, Error> {
    let own = [
        CONFIG,
        GENERATION_CONFIG,
        PREPROCESSOR_CONFIG,
        PROCESSOR_CONFIG,
    ];
    let names = || own.into_iter().chain(TOKENIZER_FILES);
    let folder = ModelFolder::new().with_files_of(model, names());
    let fields = Fields::read(model.join(CONFIG))?;
    let tower = fields.string("mm_vision_tower")?.map(Path::new);
    let is_within = |path: &&Path| {
        let mut parts = path.components();
        parts.all(|part| matches!(part, Component::Normal(_)))
    };
    Ok(match tower.filter(is_within) {
        Some(tower) => folder.with_files_of(model, names().map(|name| tower.join(name))),
        None => folder,
    })
}

/// The same with all that is to be said of a model of `config` whose weights are stored as `dtype`.
/// Unless the name of a published tower says it all, the tower has a folder of its own.
pub(super) fn described(
    beside: &ModelFolder,
    config: &BunnyConfig,
    image_processor: &ImageProcessor,
    dtype: StoredDtype,
) -> ModelFolder {
    let (mut folder, mut config) = (beside.clone(), config.clone());
    let tower = &config.vision;
    if !tower.is_published() {
        let name = tower.folder_name();
        let file = |file: &str| Path::new(name).join(file);
        // Its files are the tower's own, whatever sizes it is shown pictures in.
        let own = ImageProcessor {
            size: tower.pass_size(),
            ..image_processor.clone()
        };
        folder = folder
            .with_json(file(CONFIG), tower.to_json())
            .with_json(file(PREPROCESSOR_CONFIG), own.preprocessor_config());
        config.vision_tower = name.into();
    }
    if !folder.contains(GENERATION_CONFIG) {
        folder = folder.with_json(GENERATION_CONFIG, config.generation_json());
    }
    let said = beside.json(CONFIG).and_then(|json| json.as_object());
    let mut json = config.to_json(dtype, said);
    if let Some(json) = json.as_object_mut() {
        // Of floats there is nothing to say.
        json.shift_remove("quantization_config");
    }
    folder.with_json(CONFIG, json)
}

/// The numbers of a model that is going to be written to `folder` in `dtype`.
pub(super) fn float_to_write(folder: &Path, dtype: StoredDtype) -> Result<DType, CheckpointError> {
    held_as(dtype).ok_or_else(|| CheckpointError::NotAFloat {
        folder: folder.into(),
        dtype: dtype.name(),
    })
}
