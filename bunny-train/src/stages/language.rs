//! Stage `language`: a tokenizer and a language model from nothing, out of texts.
//!
//! Texts are packed into rows, every token is foretold from those before it in its text, and all
//! weights learn. What is left behind is a Phi as transformers saves one, with its tokenizer.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use bunny_base::write_atomic;
use bunny_core::{
    checkpoint::Precision,
    config::{DecoderConfig, Family},
    input::tokenizer::Tokenizer,
    model::decoder::Decoder,
    nn::{Builder, Mask, Mode, Positions},
};
use bunny_weights::{
    StoredDtype,
    writer::{PlannedTensor, copy_side_files, write_file},
};
use burn::tensor::{Tensor, backend::AutodiffBackend, backend::Backend};
use serde_json::{Value, json};

use super::{
    output::Masters,
    tokenizer::{self, TOKENIZER_FILES},
};
use crate::{
    data::{Rows, Source, Steps, TextBatch, Texts},
    error::TrainError,
    optimizer::{Optimizer, Rates},
    recipe::{LanguageRecipe, LossAverage, StageKind},
    reduce::{Reduce, Reduction},
    run::{Loss, Observer, Outcome, Run, Task, Trainer, keys_of, on_ranks},
    step::{Gradients, Pass, Slots, Way, collect, forward_backward::decoder_loss},
    trainable::{Learner, Learns, decoder_parameters, redraw, thaw},
};

/// Stage `language`, to be run.
#[derive(Debug, Clone)]
pub struct LanguageJob {
    /// How.
    pub recipe: LanguageRecipe,
    /// Where checkpoints, metrics and results go.
    pub folder: PathBuf,
    /// Go on from the last checkpoint there, if there is one.
    pub resume: bool,
    /// Set from outside to end the run after the present step, with a checkpoint.
    pub stop: Arc<AtomicBool>,
}

/// What a language model is going to learn from, and how large it will be.
#[derive(Debug)]
pub struct LanguageStart {
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Where the tokenizer's files are.
    pub tokenizer_folder: PathBuf,
    /// Packed texts.
    pub rows: Rows,
    /// Its sizes.
    pub decoder: DecoderConfig,
}

impl LanguageJob {
    /// What the stage would start from, without leaving anything behind.
    ///
    /// # Errors
    /// When texts cannot be read, or the tokenizer not be made.
    pub fn preview(&self) -> Result<LanguageStart, TrainError> {
        let last = Run::last_checkpoint(&self.folder, true)?;
        let draft = tempfile::tempdir().map_err(TrainError::io(&self.folder, "create"))?;
        self.open(draft.path(), last.filter(|_| self.resume).is_some())
    }

    /// Reads or trains the tokenizer, and packs the texts. A tokenizer that is trained goes to
    /// `folder`; a run that goes on has its own in its folder already, which its weights belong to.
    fn open(&self, folder: &Path, goes_on: bool) -> Result<LanguageStart, TrainError> {
        let recipe = &self.recipe;
        let texts = Texts::open(&recipe.training.data_path)?;
        let tokenizer_folder = match &recipe.tokenizer {
            Some(given) => given.clone(),
            None if goes_on => self.folder.clone(),
            None => {
                tokenizer::train(texts.all()?.into_iter(), recipe.vocab_size, folder)?;
                folder.to_path_buf()
            }
        };
        let tokenizer =
            Tokenizer::from_folder(&tokenizer_folder).map_err(bunny_core::Error::from)?;
        let rows = texts.pack(&tokenizer, recipe.model_max_length)?;
        let decoder = recipe
            .model
            .decoder_config(tokenizer.vocab_size())
            .map_err(bunny_core::Error::from)?;
        Ok(LanguageStart {
            tokenizer,
            tokenizer_folder,
            rows,
            decoder,
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
        self.run_on::<B>(
            precision,
            std::slice::from_ref(device),
            Reduction::Memory,
            observer,
        )
    }

    /// Runs the stage on several devices of this process, one thread each.
    ///
    /// # Errors
    /// Those of the first rank that has one of its own.
    pub fn run_on<B: AutodiffBackend>(
        &self,
        precision: Precision,
        devices: &[B::Device],
        reduction: Reduction,
        observer: Observer<'_>,
    ) -> Result<Outcome, TrainError> {
        // What all ranks start from is made once.
        let last = Run::last_checkpoint(&self.folder, self.resume)?;
        fs::create_dir_all(&self.folder).map_err(TrainError::io(&self.folder, "create"))?;
        let start = self.open(&self.folder, last.is_some())?;
        on_ranks(devices, reduction, observer, |device, rank, observer| {
            self.run_rank::<B>(&start, precision, device, rank, observer)
        })
    }

    fn run_rank<B: AutodiffBackend>(
        &self,
        start: &LanguageStart,
        precision: Precision,
        device: &B::Device,
        reduce: &dyn Reduce,
        observer: Observer<'_>,
    ) -> Result<Outcome, TrainError> {
        let recipe = &self.recipe;
        let training = &recipe.training;
        let last = Run::last_checkpoint(&self.folder, self.resume)?;
        let eval = training.eval_data_path.as_ref().map(|path| {
            let texts = Texts::open(path)?;
            texts.pack(&start.tokenizer, recipe.model_max_length)
        });
        let eval = eval.transpose()?;
        let (model, learners) = self.new_model::<B>(&start.decoder, precision, device);
        let steps = Steps::new(training, start.rows.len(), reduce.world(), reduce.rank())?;
        let task = Foretelling {
            recipe,
            pass: Pass {
                learns: Learns {
                    language: true,
                    ..Learns::default()
                },
                slots: Slots::new(&learners),
                gradient_checkpointing: recipe.gradient_checkpointing,
            },
            start,
        };
        let run = Run {
            kind: StageKind::Language,
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
            &start.rows,
            eval.as_ref(),
            steps,
            device,
            reduce,
        )
        .follow(last, observer)
    }

    fn new_model<B: AutodiffBackend>(
        &self,
        config: &DecoderConfig,
        precision: Precision,
        device: &B::Device,
    ) -> (Decoder<B>, Vec<Learner>) {
        let seed = self.recipe.training.seed;
        let names = Family::Phi.names();
        let drawn = Builder::random(seed, names, precision, device, |builder| {
            Decoder::new(config, builder)
        });
        let deviation = self.recipe.model.initializer_range as f32;
        let model = redraw(drawn, |_| deviation);
        let parameters = decoder_parameters(&model, names);
        thaw(model, parameters, precision)
    }
}

/// Every token from those before it.
struct Foretelling<'a> {
    recipe: &'a LanguageRecipe,
    pass: Pass,
    start: &'a LanguageStart,
}

/// What the decoder is given of a batch: embeddings, positions and mask.
fn input<B: Backend>(decoder: &Decoder<B>, batch: &TextBatch) -> (Tensor<B, 3>, Positions, Mask) {
    let words = decoder.model.embed(&batch.ids); // [rows * width, hidden]
    let hidden = words.dims()[1];
    let embeds = words.reshape([batch.segments.len(), batch.width, hidden]);
    let positions = Positions::within_segments(&batch.segments);
    let ids = batch.segments.clone();
    (embeds, positions, Mask::Segments { ids })
}

impl<B: AutodiffBackend> Task<B> for Foretelling<'_> {
    type Model = Decoder<B>;
    type Data = Rows;

    fn learn(
        &self,
        model: &Decoder<B>,
        batch: &TextBatch,
        mode: &Mode,
        weight: f64,
        sums: &mut Gradients<B::InnerBackend>,
    ) -> Option<Loss<B>> {
        if batch.answers.is_empty() {
            return None;
        }
        let (embeds, positions, mask) = input(model, batch);
        let way = Way {
            embeds,
            positions: &positions,
            mask,
            answers: &batch.answers,
            weight,
            layers_learn: true,
            below_learns: true,
        };
        let (mean, gradients) = self.pass.decode(model, way, mode, sums);
        if let Some(mut gradients) = gradients {
            collect(model, &mut gradients, weight, &self.pass.slots, sums);
        }
        Some(mean)
    }

    fn loss(&self, model: &Decoder<B::InnerBackend>, batch: &TextBatch) -> Loss<B> {
        let (embeds, positions, mask) = input(model, batch);
        decoder_loss(
            model,
            embeds,
            &positions,
            mask,
            &batch.answers,
            &Mode::INFERENCE,
        )
    }

    fn write(
        &self,
        folder: &Path,
        _model: &Decoder<B>,
        optimizer: &Optimizer<B::InnerBackend>,
        learners: &[Learner],
    ) -> Result<(), TrainError> {
        let decoder = &self.start.decoder;
        let masters = Masters::new(learners, optimizer);
        let mut plan = masters.plan();
        // A Phi has a bias on its head that a Bunny has not: zeros, for those who ask for it.
        let bias = PlannedTensor {
            name: "lm_head.bias".into(),
            dtype: StoredDtype::F32,
            shape: vec![decoder.vocab_size],
        };
        plan.push(bias.clone());
        write_file(folder.join("model.safetensors"), &plan, |planned| {
            Ok::<_, TrainError>(match planned.name == bias.name {
                true => vec![0; 4 * decoder.vocab_size],
                false => masters.bytes(planned),
            })
        })?;
        let end = self.start.tokenizer.special_tokens().eos;
        let mut config = self.recipe.model.config_json(decoder.vocab_size);
        config["bos_token_id"] = json!(end);
        config["eos_token_id"] = json!(end);
        let generation: Value = json!({"bos_token_id": end, "eos_token_id": end});
        for (name, json) in [
            ("config.json", config),
            ("generation_config.json", generation),
        ] {
            write_atomic(folder.join(name), |file| writeln!(file, "{json:#}"))?;
        }
        if folder != self.start.tokenizer_folder {
            copy_side_files(&self.start.tokenizer_folder, folder, &TOKENIZER_FILES)?;
        }
        Ok(())
    }
}
