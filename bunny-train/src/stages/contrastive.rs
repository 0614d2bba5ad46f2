//! Stage `contrastive`: a vision tower from nothing, out of pictures and captions.
//!
//! Both towers of a SigLIP learn to tell the pictures and captions of a batch that belong together.
//! What is left behind is a SigLIP as transformers saves one; a Bunny takes the vision tower from
//! it, without its last layer and head, which only served the comparison with captions.

mod cost;
mod loss;
mod model;

use std::path::Path;

use bunny_core::{
    checkpoint::Precision,
    config::{SiglipConfig, VisionConfig},
    input::{image::ImageProcessor, tokenizer::Tokenizer},
    model::{pair::SiglipPair, tower::stack_pixels},
    nn::Mode,
};
use bunny_data::record::RecordFile;
use bunny_weights::{
    ModelFolder,
    folder::{CONFIG, PREPROCESSOR_CONFIG, TOKENIZER_FILES},
    writer::MAX_SHARD_SIZE,
};
use burn::tensor::{Tensor, backend::AutodiffBackend, backend::Backend};
use serde_json::{Value, json};

use crate::{
    data::{PairBatch, Pairs, Pictures},
    error::TrainError,
    optimizer::{Masters, Optimizer},
    recipe::{ContrastiveRecipe, StageKind, TrainingArguments},
    run::{Loss, Prepared, Stage, Task},
    step::{Gradients, Slots, collect},
    trainable::{Trainable, parameters_of, unfreeze, warm_start},
};

pub use cost::pair_flops;
pub use loss::sigmoid_loss;
use model::random_pair;
pub use model::{describe_pair, new_pair, pair_loss};

/// Stage `contrastive`.
#[derive(Debug, Clone)]
pub struct ContrastiveStage {
    /// How.
    pub recipe: ContrastiveRecipe,
}

/// What captions are read with, and how large the towers will be.
#[derive(Debug)]
pub struct ContrastiveSetup {
    /// Captions to ids.
    pub tokenizer: Tokenizer,
    /// Pictures to pixels.
    pub processor: ImageProcessor,
    /// The vision tower.
    pub vision: SiglipConfig,
}

impl ContrastiveStage {
    fn tokenizer_folder(&self) -> &Path {
        self.recipe.tokenizer.as_deref().unwrap_or(Path::new(""))
    }

    /// The `config.json` of both towers.
    fn config_json(&self, setup: &ContrastiveSetup) -> Value {
        let mut text = serde_json::to_value(&self.recipe.text).expect("sizes are numbers");
        let end = setup.tokenizer.special_tokens().eos;
        for (field, value) in [
            ("model_type", json!("siglip_text_model")),
            ("vocab_size", json!(setup.tokenizer.vocab_size())),
            ("projection_size", json!(setup.vision.hidden_size)),
            ("hidden_act", json!("gelu_pytorch_tanh")),
            ("layer_norm_eps", json!(setup.vision.layer_norm_eps)),
            ("attention_dropout", json!(0.0)),
            ("pad_token_id", json!(end)),
            ("bos_token_id", json!(end)),
            ("eos_token_id", json!(end)),
        ] {
            text[field] = value;
        }
        json!({
            "model_type": "siglip",
            "architectures": ["SiglipModel"],
            "vision_config": VisionConfig::Siglip(setup.vision.clone()).to_json(),
            "text_config": text,
            "torch_dtype": "float32",
        })
    }
}

impl Stage for ContrastiveStage {
    type Recipe = ContrastiveRecipe;
    type Setup = ContrastiveSetup;
    type Data<'s> = Pairs<'s>;
    type Task<'s, B: AutodiffBackend> = ContrastiveTask<'s, B>;

    /// A pair is told from all others of its batch.
    const SHARES_STEPS: bool = false;

    fn kind(&self) -> StageKind {
        StageKind::Contrastive
    }

    fn recipe(&self) -> &ContrastiveRecipe {
        &self.recipe
    }

    fn training(&self) -> &TrainingArguments {
        &self.recipe.training
    }

    fn setup(&self, _folder: &Path, _goes_on: bool) -> Result<ContrastiveSetup, TrainError> {
        let vision = self.recipe.vision.siglip_config()?;
        let processor = ImageProcessor::siglip(vision.image_size);
        Ok(ContrastiveSetup {
            tokenizer: Tokenizer::from_folder(self.tokenizer_folder())?,
            processor: processor.with_aspect(self.recipe.aspect()),
            vision,
        })
    }

    fn data<'s>(
        &'s self,
        setup: &'s ContrastiveSetup,
        file: &Path,
    ) -> Result<Pairs<'s>, TrainError> {
        Ok(Pairs {
            records: RecordFile::open(file)?,
            pictures: Pictures::open(
                self.recipe.image_folder.as_ref(),
                setup.processor.clone(),
                self.recipe.missing_pictures,
            )?,
            tokenizer: &setup.tokenizer,
            places: self.recipe.text.max_position_embeddings,
        })
    }

    fn prepare<'s, B: AutodiffBackend>(
        &'s self,
        setup: &'s ContrastiveSetup,
        data: &Pairs<'s>,
        goes_on: bool,
        precision: Precision,
        device: &B::Device,
    ) -> Result<Prepared<B, ContrastiveTask<'s, B>>, TrainError> {
        let vocab_size = setup.tokenizer.vocab_size();
        let mut model =
            random_pair::<B>(&self.recipe, &setup.vision, vocab_size, precision, device);
        if !goes_on {
            let pictures = stack_pixels(&data.sample(warm_start::PICTURES)?, device);
            model.tower = warm_start::warm_start(model.tower, pictures);
        }
        let specs = describe_pair(&self.recipe, &setup.vision, vocab_size);
        let parameters = parameters_of(&model, &specs);
        let (model, trainables) = unfreeze(model, parameters, precision);
        let task = ContrastiveTask {
            stage: self,
            setup,
            precision,
            slots: Slots::new(&trainables),
            device: device.clone(),
        };
        Ok(Prepared {
            task,
            model,
            trainables,
        })
    }
}

/// Which picture belongs to which caption.
#[derive(Debug)]
pub struct ContrastiveTask<'s, B: AutodiffBackend> {
    stage: &'s ContrastiveStage,
    setup: &'s ContrastiveSetup,
    precision: Precision,
    slots: Slots,
    device: B::Device,
}

impl<B: AutodiffBackend> ContrastiveTask<'_, B> {
    fn loss_of<A: Backend>(
        &self,
        model: &SiglipPair<A>,
        batch: &PairBatch,
        device: &A::Device,
    ) -> Tensor<A, 1> {
        let pixels = stack_pixels::<A>(&batch.pixels, device).cast(self.precision.compute);
        pair_loss(model, pixels, &batch.ids)
    }
}

impl<'s, B: AutodiffBackend> Task<B> for ContrastiveTask<'s, B> {
    type Model = SiglipPair<B>;
    type Data = Pairs<'s>;

    fn forward_backward(
        &self,
        model: &SiglipPair<B>,
        batch: &PairBatch,
        _mode: &Mode,
        weight: f64,
        gradients: &mut Gradients<B::InnerBackend>,
    ) -> Option<Loss<B>> {
        if batch.samples.is_empty() {
            return None;
        }
        let loss = self.loss_of(model, batch, &self.device);
        let mut own = loss.backward();
        collect(model, &mut own, weight, &self.slots, gradients);
        Some(loss.inner())
    }

    fn flops(&self, batch: &PairBatch) -> u64 {
        let (recipe, vision) = (&self.stage.recipe, &self.setup.vision);
        pair_flops(recipe, vision, batch.samples.len())
    }

    fn loss(&self, model: &SiglipPair<B::InnerBackend>, batch: &PairBatch) -> Loss<B> {
        self.loss_of(model, batch, &self.device)
    }

    fn write(
        &self,
        folder: &Path,
        _model: &SiglipPair<B>,
        optimizer: &Optimizer<B::InnerBackend>,
        trainables: &[Trainable],
    ) -> Result<(), TrainError> {
        let masters = Masters::new(trainables, optimizer);
        ModelFolder::new()
            .with_files_of(self.stage.tokenizer_folder(), TOKENIZER_FILES)
            .with_json(CONFIG, self.stage.config_json(self.setup))
            .with_json(
                PREPROCESSOR_CONFIG,
                self.setup.processor.preprocessor_config(),
            )
            .write(folder, &masters.plan(), MAX_SHARD_SIZE, |planned| {
                Ok::<_, TrainError>(masters.bytes(planned))
            })?;
        Ok(())
    }
}
