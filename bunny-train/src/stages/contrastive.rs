//! Stage `contrastive`: a vision tower from nothing, out of pictures and captions.
//!
//! Both towers of a SigLIP learn to tell the pictures and captions of a batch that belong together.
//! What is left behind is a SigLIP as transformers saves one; a Bunny takes the vision tower from
//! it, without its last layer and head, which only served the comparison with captions.

mod loss;
mod model;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use bunny_base::write_atomic;
use bunny_core::{
    checkpoint::{Precision, tower_json},
    config::{SiglipConfig, VisionConfig},
    input::{image::ImageProcessor, tokenizer::Tokenizer},
    nn::Mode,
};
use bunny_data::{images::ImageSource, record::RecordFile};
use bunny_weights::writer::copy_side_files;
use burn::tensor::{Tensor, backend::AutodiffBackend, backend::Backend};
use serde_json::{Value, json};

use super::{output::Masters, tokenizer::TOKENIZER_FILES};
use crate::{
    data::{PairBatch, Pairs, Source, Steps, Tally},
    error::TrainError,
    optimizer::{Optimizer, Rates},
    recipe::{ContrastiveRecipe, LossAverage, StageKind},
    reduce::Alone,
    run::{Loss, Observer, Outcome, Run, Task, Trainer, keys_of},
    step::{Gradients, Slots, collect, forward_backward::stacked},
    trainable::{Learner, thaw, warm_start},
};

pub use loss::sigmoid_loss;
pub use model::{
    PoolingAttention, PoolingHead, SiglipPair, Table, TextEmbeddings, TextEncoder, TextTower,
};

/// Stage `contrastive`, to be run.
#[derive(Debug, Clone)]
pub struct ContrastiveJob {
    /// How.
    pub recipe: ContrastiveRecipe,
    /// Where checkpoints, metrics and results go.
    pub folder: PathBuf,
    /// Go on from the last checkpoint there, if there is one.
    pub resume: bool,
    /// Set from outside to end the run after the present step, with a checkpoint.
    pub stop: Arc<AtomicBool>,
}

/// What captions are read with, and how large the towers will be.
#[derive(Debug)]
pub struct ContrastiveStart {
    /// Captions to ids.
    pub tokenizer: Tokenizer,
    /// Pictures to pixels.
    pub processor: ImageProcessor,
    /// The vision tower.
    pub vision: SiglipConfig,
}

impl ContrastiveJob {
    fn tokenizer_folder(&self) -> &Path {
        self.recipe.tokenizer.as_deref().unwrap_or(Path::new(""))
    }

    /// Opens what the stage starts from.
    ///
    /// # Errors
    /// When there is no tokenizer, or sizes do not fit each other.
    pub fn open(&self) -> Result<ContrastiveStart, TrainError> {
        let recipe = &self.recipe;
        let vision = recipe
            .vision
            .siglip_config()
            .map_err(bunny_core::Error::from)?;
        let tokenizer = Tokenizer::from_folder(self.tokenizer_folder());
        Ok(ContrastiveStart {
            tokenizer: tokenizer.map_err(bunny_core::Error::from)?,
            processor: ImageProcessor::siglip(vision.image_size).with_aspect(recipe.aspect()),
            vision,
        })
    }

    /// The pairs of `records`.
    ///
    /// # Errors
    /// When records or pictures cannot be opened.
    pub fn pairs<'a>(
        &self,
        start: &'a ContrastiveStart,
        records: &Path,
    ) -> Result<Pairs<'a>, TrainError> {
        let images = self.recipe.image_folder.as_ref();
        Ok(Pairs {
            records: RecordFile::open(records)?,
            images: images.map(ImageSource::open).transpose()?,
            processor: start.processor.clone(),
            tokenizer: &start.tokenizer,
            places: self.recipe.text.max_position_embeddings,
            policy: self.recipe.missing_pictures,
            tally: Tally::default(),
        })
    }

    /// Runs the stage on one device.
    ///
    /// # Errors
    /// When something is missing, damaged or contradictory, or the loss is no number any more.
    pub fn run<B: AutodiffBackend>(
        &self,
        precision: Precision,
        device: &B::Device,
        observer: Observer<'_>,
    ) -> Result<Outcome, TrainError> {
        let recipe = &self.recipe;
        let training = &recipe.training;
        let last = Run::last_checkpoint(&self.folder, self.resume)?;
        fs::create_dir_all(&self.folder).map_err(TrainError::io(&self.folder, "create"))?;
        let start = self.open()?;
        let pairs = self.pairs(&start, &training.data_path)?;
        let eval = training.eval_data_path.as_ref();
        let eval = eval.map(|path| self.pairs(&start, path)).transpose()?;
        let vocab_size = start.tokenizer.vocab_size();
        let mut model =
            SiglipPair::<B>::random(recipe, &start.vision, vocab_size, precision, device);
        if last.is_none() {
            let pictures = stacked(&pairs.sample(warm_start::PICTURES)?, device);
            model.tower = warm_start::prepare(model.tower, pictures);
        }
        let parameters = model.parameters();
        let (model, learners) = thaw(model, parameters, precision);
        let steps = Steps::new(training, pairs.len(), 1, 0)?;
        let task = Matching {
            job: self,
            start: &start,
            precision,
            slots: Slots::new(&learners),
            device,
        };
        let run = Run {
            kind: StageKind::Contrastive,
            training,
            precision,
            loss_average: LossAverage::Step,
            rates: Rates::uniform(training.learning_rate),
            recipe: keys_of(recipe),
            folder: &self.folder,
            stop: self.stop.clone(),
        };
        let learner = (model, learners);
        Trainer::new(
            run,
            &task,
            learner,
            &pairs,
            eval.as_ref(),
            steps,
            device,
            &Alone,
        )
        .follow(last, observer)
    }

    /// The `config.json` of both towers.
    fn config_json(&self, start: &ContrastiveStart) -> Value {
        let mut text = serde_json::to_value(&self.recipe.text).unwrap_or_default();
        let end = start.tokenizer.special_tokens().eos;
        for (field, value) in [
            ("model_type", json!("siglip_text_model")),
            ("vocab_size", json!(start.tokenizer.vocab_size())),
            ("projection_size", json!(start.vision.hidden_size)),
            ("hidden_act", json!("gelu_pytorch_tanh")),
            ("layer_norm_eps", json!(start.vision.layer_norm_eps)),
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
            "vision_config": tower_json(&VisionConfig::Siglip(start.vision.clone())),
            "text_config": text,
            "torch_dtype": "float32",
        })
    }
}

/// Which picture belongs to which caption.
struct Matching<'a, B: AutodiffBackend> {
    job: &'a ContrastiveJob,
    start: &'a ContrastiveStart,
    precision: Precision,
    slots: Slots,
    device: &'a B::Device,
}

impl<B: AutodiffBackend> Matching<'_, B> {
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

impl<'a, B: AutodiffBackend> Task<B> for Matching<'a, B> {
    type Model = SiglipPair<B>;
    type Data = Pairs<'a>;

    fn learn(
        &self,
        model: &SiglipPair<B>,
        batch: &PairBatch,
        _mode: &Mode,
        weight: f64,
        sums: &mut Gradients<B::InnerBackend>,
    ) -> Option<Loss<B>> {
        if batch.samples.is_empty() {
            return None;
        }
        let loss = self.loss_of(model, batch, self.device);
        let mut gradients = loss.backward();
        collect(model, &mut gradients, weight, &self.slots, sums);
        Some(loss.inner())
    }

    fn loss(&self, model: &SiglipPair<B::InnerBackend>, batch: &PairBatch) -> Loss<B> {
        self.loss_of(model, batch, self.device)
    }

    fn write(
        &self,
        folder: &Path,
        _model: &SiglipPair<B>,
        optimizer: &Optimizer<B::InnerBackend>,
        learners: &[Learner],
    ) -> Result<(), TrainError> {
        Masters::new(learners, optimizer).write(&folder.join("model.safetensors"))?;
        for (name, json) in [
            ("config.json", self.job.config_json(self.start)),
            (
                "preprocessor_config.json",
                self.start.processor.preprocessor_config(),
            ),
        ] {
            write_atomic(folder.join(name), |file| writeln!(file, "{json:#}"))?;
        }
        copy_side_files(self.job.tokenizer_folder(), folder, &TOKENIZER_FILES)?;
        Ok(())
    }
}
