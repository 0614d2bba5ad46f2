//! Where a stage starts: the parts of the model, and what its `config.json` will say.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bunny_core::{
    Bunny, BunnyConfig, ConfigError, Fields,
    checkpoint::{ModelSource, OpenModel, Parts, Precision, open_projector, open_weights},
    config::Family,
    input::{conversation::Template, image::Aspect, tokenizer::Tokenizer},
    nn::Part,
};
use bunny_weights::{
    StoredDtype, StoredTensor, TensorFiles,
    adapter::{ADAPTER_CONFIG, Adapter},
    convert::f32_bytes,
    folder::CONFIG,
};
use burn::tensor::backend::Backend;
use serde_json::{Value, json};

use crate::{
    error::TrainError,
    recipe::BunnyRecipe,
    trainable::{lora, uniform},
};

/// The folders and files that a recipe's names stand for.
#[derive(Debug, Clone, Default)]
pub struct ModelPaths {
    /// The language model, or a whole Bunny.
    pub model: PathBuf,
    /// The vision tower, where it is not the one that `model`'s own configuration names.
    pub vision_tower: Option<PathBuf>,
    /// The projector to start from.
    pub projector: Option<PathBuf>,
    /// The adapter to start from, with what learnt beside it: its projector goes before the one
    /// above.
    pub adapter: Option<PathBuf>,
}

/// What a stage makes of a model, before its weights are looked at.
#[derive(Debug)]
pub struct SetupConfig {
    /// Sizes and choices.
    pub config: BunnyConfig,
    /// Turns text to ids.
    pub tokenizer: Tokenizer,
    /// How conversations are rendered.
    pub template: Template,
    /// What the model's `config.json` will say.
    pub config_json: Value,
    /// The vision tower's folder or file, unless the model's own files hold it.
    pub vision_tower: Option<PathBuf>,
}

impl SetupConfig {
    /// What `recipe` makes of the model in the folder `model`, with the tower in `vision_tower`, else
    /// with the one that the model, a whole Bunny, names in its own configuration.
    ///
    /// # Errors
    /// When a file is missing, or parts do not fit each other.
    pub fn read(
        recipe: &BunnyRecipe,
        model: &Path,
        vision_tower: Option<&Path>,
    ) -> Result<Self, TrainError> {
        if model.join(ADAPTER_CONFIG).exists() {
            return Err(TrainError::AdapterAsModel {
                folder: model.to_path_buf(),
            });
        }
        let source = ModelSource::merged(model);
        if source.is_gguf()? {
            return Err(TrainError::GgufAsModel {
                model: model.to_path_buf(),
            });
        }
        let file = model.join(CONFIG);
        let fields = Fields::read_model(&file)?;
        let family = Family::of(&fields)?;
        let mut json: Value = fields.values().clone().into();
        describe(&mut json, family, recipe);
        let vision_tower = match vision_tower {
            Some(given) => Some(given.to_path_buf()),
            None => source.own_tower()?,
        };
        let parts = Parts {
            language_model: model.to_path_buf(),
            vision_tower: vision_tower.clone(),
            learnt: Vec::new(),
        };
        let described = Fields::parse(&file, &json.to_string())?;
        let (mut config, tokenizer) = parts.configuration(&described)?;
        let own = family.template_for(&tokenizer);
        let template = recipe.version.unwrap_or(own);
        check_tokenizer(template, tokenizer.adds_bos()?)?;
        // What its answers are going to end in, where its makers' end in something else, or in nothing.
        let end = own.end_of_text();
        if let Some(end) = end.and_then(|token| tokenizer.token_to_id(token))
            && !config.eos_token_ids.contains(&end)
        {
            json["eos_token_id"] = json!(end);
            config.eos_token_ids = vec![end];
        }
        if config.decoder.attention_dropout > 0.0 {
            let feature = "`attention_dropout` in training".into();
            return Err(ConfigError::NotSupported { file, feature }.into());
        }
        json["mm_hidden_size"] = json!(config.vision.hidden_size());
        json["vocab_size"] = json!(config.decoder.vocab_size);
        Ok(Self {
            config,
            tokenizer,
            template,
            config_json: json,
            vision_tower,
        })
    }
}

/// A model that is ready to be loaded for a stage.
#[derive(Debug)]
pub struct BunnySetup {
    /// Its files.
    pub open: OpenModel,
    /// How conversations are rendered.
    pub template: Template,
    /// The adapter to start from.
    pub adapter: Option<Adapter>,
    /// Whether the projector is drawn at random, since nothing given holds one.
    pub has_new_projector: bool,
    /// What its `config.json` says.
    pub config_json: Value,
}

impl BunnySetup {
    /// Opens what a stage starts from.
    ///
    /// # Errors
    /// When a file is missing or damaged, parts do not fit each other, or the recipe wants a projector
    /// left as it is and nothing given holds one.
    pub fn open(recipe: &BunnyRecipe, paths: &ModelPaths) -> Result<Self, TrainError> {
        let setup = SetupConfig::read(recipe, &paths.model, paths.vision_tower.as_deref())?;
        let mut adapter = paths.adapter.as_ref().map(Adapter::open).transpose()?;
        if let Some(adapter) = &adapter {
            lora::check(adapter, recipe.lora())?;
        }
        // What learnt beside an adapter belongs to it, and goes before a projector from elsewhere.
        let mut learnt = adapter.as_mut().map_or_else(Vec::new, Adapter::take_learnt);
        if let Some(file) = &paths.projector {
            learnt.push(open_projector(file)?);
        }
        let own = open_weights(&paths.model)?;
        let prefix = Part::Projector.prefix();
        let holds_projector =
            |files: &TensorFiles| files.names().any(|name| name.starts_with(prefix));
        let has_new_projector = !learnt.iter().chain([&own]).any(holds_projector);
        if has_new_projector {
            if recipe.freeze_mm_mlp_adapter {
                return Err(TrainError::NoProjector);
            }
            learnt.push(new_projector(&setup.config, recipe.training.seed)?);
        }
        let parts = Parts {
            language_model: paths.model.clone(),
            vision_tower: setup.vision_tower,
            learnt,
        };
        let described = setup.config_json.to_string();
        let mut open = parts.open(&Fields::parse(paths.model.join(CONFIG), &described)?)?;
        open.image_processor = open.image_processor.with_aspect(recipe.aspect());
        Ok(Self {
            open,
            template: setup.template,
            adapter,
            has_new_projector,
            config_json: setup.config_json,
        })
    }

    /// Loads the model onto a device, with adapters if the recipe wants them.
    ///
    /// # Errors
    /// When weights are missing or misshapen, or the adapter to start from does not fit.
    pub fn load<B: Backend>(
        &self,
        recipe: &BunnyRecipe,
        precision: Precision,
        device: &B::Device,
    ) -> Result<Bunny<B>, TrainError> {
        let mut model = Bunny::load(&self.open.config, &self.open.weights, precision, device)?;
        match (&self.adapter, recipe.lora_enable) {
            (Some(adapter), true) => lora::attach(&mut model, adapter, recipe.lora(), device)?,
            (None, true) => {
                lora::attach_new(&mut model, recipe.lora(), recipe.training.seed, device)
            }
            (_, false) => {}
        }
        Ok(model)
    }
}

/// Writes what training decides into a model's `config.json`.
fn describe(json: &mut Value, family: Family, recipe: &BunnyRecipe) {
    json["model_type"] = json!(family.model_type());
    json["architectures"] = json!([family.architecture()]);
    // As transformers says which model this one was made from.
    json["_name_or_path"] = json!(recipe.model_name_or_path);
    if let Some(tower) = &recipe.vision_tower {
        json["mm_vision_tower"] = json!(tower);
        // What an earlier tower said of itself; read anew from this one.
        if let Value::Object(fields) = json {
            fields.remove("mm_hidden_size");
        }
    }
    json["use_mm_proj"] = json!(true);
    if let Some(kind) = &recipe.mm_projector_type {
        json["mm_projector_type"] = json!(kind);
    } else if json["mm_projector_type"].is_null() {
        json["mm_projector_type"] = json!("mlp2x_gelu");
    }
    json["mm_projector_lr"] = json!(recipe.mm_projector_lr);
    json["tune_mm_mlp_adapter"] = json!(recipe.tune_mm_mlp_adapter);
    json["freeze_mm_mlp_adapter"] = json!(recipe.freeze_mm_mlp_adapter);
    json["unfreeze_vision_tower"] = json!(recipe.unfreeze_vision_tower);
    json["image_aspect_ratio"] = json!(recipe.image_aspect_ratio.map(Aspect::name));
    json["tokenizer_model_max_length"] = json!(recipe.model_max_length);
    json["tokenizer_padding_side"] = json!("right");
    // What is gone on from says it otherwise.
    let said = json.get("use_s2").cloned().unwrap_or(json!(false));
    json["use_s2"] = recipe.use_s2.map_or(said, |uses| json!(uses));
    if let Some(scales) = &recipe.s2_scales {
        json["s2_scales"] = json!(scales);
    }
    // Said of the model that is gone on from, whose tower is taken wherever it holds one.
    if let Some(said) = json.get_mut("continuous_training") {
        *said = json!(false);
    }
}

/// A template counts on a beginning of sequence, or on none.
fn check_tokenizer(template: Template, adds_bos: bool) -> Result<(), TrainError> {
    match template
        .begins_with_bos()
        .is_none_or(|begins| begins == adds_bos)
    {
        true => Ok(()),
        false => Err(TrainError::BeginningOfSequence { template, adds_bos }),
    }
}

/// A projector that has not learnt yet, drawn as torch draws its linear layers: weights and biases
/// uniform within `1/√in`.
fn new_projector(config: &BunnyConfig, seed: u64) -> Result<TensorFiles, TrainError> {
    let file: Arc<Path> = Path::new("a new projector").into();
    let specs = config.describe().into_iter();
    let mut bound = 0.0;
    let tensors = specs
        .filter(|spec| spec.part == Part::Projector)
        .map(|spec| {
            // A layer's bias comes behind its weight, and has the same bound.
            if let [_, input] = spec.shape[..] {
                bound = (input as f32).sqrt().recip();
            }
            let values = uniform(seed, &spec.published, spec.count() as usize, bound);
            StoredTensor {
                name: spec.published,
                dtype: StoredDtype::F32,
                shape: spec.shape,
                bytes: f32_bytes(&values).into(),
                file: file.clone(),
            }
        });
    Ok(TensorFiles::from_tensors(tensors)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_bunny_brings_the_tower_that_lies_in_its_folder() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/models");
        let model = models.join("stablelm-siglip");
        let recipe = BunnyRecipe::default();
        let setup = SetupConfig::read(&recipe, &model, None).unwrap();
        assert_eq!(setup.vision_tower, Some(model.join("siglip-tower")));
        let given = SetupConfig::read(&recipe, &model, Some(&model.join("siglip-tower"))).unwrap();
        assert_eq!(setup.config.vision, given.config.vision);
        let paths = ModelPaths {
            model,
            ..ModelPaths::default()
        };
        BunnySetup::open(&recipe, &paths).unwrap();
    }

    #[test]
    fn a_whole_bunny_brings_its_projectors_kind() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/models");
        let tower = models.join("phi-siglip-lora/siglip-tower");
        let kind_of = |model: &str, given: Option<&str>| {
            let recipe = BunnyRecipe {
                vision_tower: Some("siglip-tower".into()),
                mm_projector_type: given.map(str::to_owned),
                ..BunnyRecipe::default()
            };
            let setup = SetupConfig::read(&recipe, &models.join(model), Some(&tower)).unwrap();
            let name = setup.config.projector.name();
            assert_eq!(setup.config_json["mm_projector_type"], name);
            name
        };
        assert_eq!(kind_of("phi2-siglip-trimmed", None), "linear");
        assert_eq!(kind_of("stablelm-siglip", None), "mlp3x_gelu");
        assert_eq!(kind_of("phi-siglip-lora/base", None), "mlp2x_gelu");
        assert_eq!(kind_of("stablelm-siglip", Some("linear")), "linear");
    }
}
