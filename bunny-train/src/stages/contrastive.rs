//! Stage `contrastive`: a vision tower from nothing, out of pictures and captions.
//!
//! Both towers of a SigLIP learn to tell the pictures and captions of a batch that belong together.
//! What is left behind is a SigLIP as transformers saves one; a Bunny takes the vision tower from
//! it, without its last layer and head, which only served the comparison with captions.

mod loss;
mod model;

use std::path::Path;

use bunny_base::write_atomic;
use bunny_core::{
    checkpoint::{Precision, tower_json},
    config::{SiglipConfig, VisionConfig},
    input::{image::ImageProcessor, tokenizer::Tokenizer},
    nn::Mode,
};
use bunny_data::record::RecordFile;
use bunny_weights::writer::copy_side_files;
use burn::tensor::{Tensor, backend::AutodiffBackend, backend::Backend};
use serde_json::{Value, json};

use super::tokenizer::TOKENIZER_FILES;
use crate::{
    data::{PairBatch, Pairs, Pictures},
    error::TrainError,
    optimizer::{Masters, Optimizer},
    recipe::{ContrastiveRecipe, StageKind, TrainingArguments},
    run::{Loss, Prepared, Stage, Task},
    step::{Gradients, Slots, collect, forward_backward::stacked},
    trainable::{Trainable, unfreeze, warm_start},
};

pub use loss::sigmoid_loss;
pub use model::{
    PoolingAttention, PoolingHead, SiglipPair, Table, TextEmbeddings, TextEncoder, TextTower,
};

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
            "vision_config": tower_json(&VisionConfig::Siglip(setup.vision.clone())),
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
            SiglipPair::<B>::random(&self.recipe, &setup.vision, vocab_size, precision, device);
        if !goes_on {
            let pictures = stacked(&data.sample(warm_start::PICTURES)?, device);
            model.tower = warm_start::warm_start(model.tower, pictures);
        }
        let parameters = model.parameters();
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
        let pixels = stacked::<A>(&batch.pixels, device).cast(self.precision.compute);
        model.loss(pixels, &batch.ids)
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
        recipe.flops(vision, batch.samples.len())
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
        let file = folder.join("model.safetensors");
        Masters::new(trainables, optimizer).write(&file)?;
        for (name, json) in [
            ("config.json", self.stage.config_json(self.setup)),
            (
                "preprocessor_config.json",
                self.setup.processor.preprocessor_config(),
            ),
        ] {
            write_atomic(folder.join(name), |file| writeln!(file, "{json:#}"))?;
        }
        copy_side_files(self.stage.tokenizer_folder(), folder, &TOKENIZER_FILES)?;
        Ok(())
    }
}
