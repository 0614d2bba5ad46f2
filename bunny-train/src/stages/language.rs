//! Stage `language`: a tokenizer and a language model from nothing, out of texts.
//!
//! Texts are packed into rows, every token is predicted from those before it in its text, and all
//! weights learn. What is left behind is a Phi as transformers saves one, with its tokenizer.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bunny_core::{
    checkpoint::Precision,
    config::{DecoderConfig, Family},
    input::tokenizer::Tokenizer,
    model::{ModelFlops, Workload, decoder::Decoder},
    nn::{Builder, Mask, Mode, Positions},
};
use bunny_weights::{
    ModelFolder, StoredDtype,
    folder::{CONFIG, GENERATION_CONFIG, TOKENIZER_FILES},
    writer::{MAX_SHARD_SIZE, PlannedTensor},
};
use burn::tensor::{Tensor, backend::AutodiffBackend, backend::Backend};
use serde_json::json;

use super::tokenizer;
use crate::{
    data::{PackedTexts, TextBatch, Texts},
    error::TrainError,
    optimizer::{Masters, Optimizer},
    recipe::{LanguageRecipe, StageKind, TrainingArguments},
    run::{Loss, Prepared, Stage, Task},
    step::{
        DecoderInput, ForwardBackward, Gradients, Slots, collect, forward_backward::decoder_loss,
    },
    trainable::{Trainable, TrainableParts, parameters_of, reinitialize, unfreeze},
};

/// Stage `language`.
#[derive(Debug, Clone)]
pub struct LanguageStage {
    /// How.
    pub recipe: LanguageRecipe,
}

/// What a language model's texts are read with, and how large it will be.
#[derive(Debug)]
pub struct LanguageSetup {
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Where the tokenizer's files are.
    pub tokenizer_folder: PathBuf,
    /// Its sizes.
    pub decoder: DecoderConfig,
}

impl Stage for LanguageStage {
    type Recipe = LanguageRecipe;
    type Setup = LanguageSetup;
    type Data<'s> = PackedTexts;
    type Task<'s, B: AutodiffBackend> = NextTokenTask<'s>;

    fn kind(&self) -> StageKind {
        StageKind::Language
    }

    fn recipe(&self) -> &LanguageRecipe {
        &self.recipe
    }

    fn training(&self) -> &TrainingArguments {
        &self.recipe.training
    }

    /// Reads or trains the tokenizer. One that is trained goes to `folder`; a run that goes on has its
    /// own there already, which its weights belong to.
    fn setup(&self, folder: &Path, goes_on: bool) -> Result<LanguageSetup, TrainError> {
        let recipe = &self.recipe;
        let tokenizer_folder = match &recipe.tokenizer {
            Some(given) => given.clone(),
            None => {
                if !goes_on {
                    fs::create_dir_all(folder).map_err(TrainError::io(folder, "create"))?;
                    let texts = Texts::open(&recipe.training.data_path)?.all()?;
                    tokenizer::train(texts.into_iter(), recipe.vocab_size, folder)?;
                }
                folder.to_path_buf()
            }
        };
        let tokenizer = Tokenizer::from_folder(&tokenizer_folder)?;
        let decoder = recipe.model.decoder_config(tokenizer.vocab_size())?;
        Ok(LanguageSetup {
            tokenizer,
            tokenizer_folder,
            decoder,
        })
    }

    fn data<'s>(
        &'s self,
        setup: &'s LanguageSetup,
        file: &Path,
    ) -> Result<PackedTexts, TrainError> {
        Texts::open(file)?.pack(&setup.tokenizer, self.recipe.model_max_length)
    }

    fn prepare<'s, B: AutodiffBackend>(
        &'s self,
        setup: &'s LanguageSetup,
        _data: &PackedTexts,
        _goes_on: bool,
        precision: Precision,
        device: &B::Device,
    ) -> Result<Prepared<B, NextTokenTask<'s>>, TrainError> {
        let recipe = &self.recipe;
        let names = Family::PHI.names();
        let seed = recipe.training.seed;
        let drawn = Builder::random(seed, names, precision, device, |builder| {
            Decoder::new(&setup.decoder, builder)
        });
        let deviation = recipe.model.initializer_range as f32;
        let model = reinitialize(drawn, |_| deviation);
        let parameters = parameters_of(&model, &setup.decoder.describe(names));
        let (model, trainables) = unfreeze(model, parameters, precision);
        let task = NextTokenTask {
            recipe,
            setup,
            forward_backward: ForwardBackward {
                parts: TrainableParts {
                    language: true,
                    ..TrainableParts::default()
                },
                slots: Slots::new(&trainables),
                gradient_checkpointing: recipe.gradient_checkpointing,
            },
            flops: setup.decoder.flops(),
        };
        Ok(Prepared {
            task,
            model,
            trainables,
        })
    }
}

/// Every token from those before it.
#[derive(Debug)]
pub struct NextTokenTask<'s> {
    recipe: &'s LanguageRecipe,
    setup: &'s LanguageSetup,
    forward_backward: ForwardBackward,
    flops: ModelFlops,
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

impl<B: AutodiffBackend> Task<B> for NextTokenTask<'_> {
    type Model = Decoder<B>;
    type Data = PackedTexts;

    fn forward_backward(
        &self,
        model: &Decoder<B>,
        batch: &TextBatch,
        mode: &Mode,
        weight: f64,
        gradients: &mut Gradients<B::InnerBackend>,
    ) -> Option<Loss<B>> {
        if batch.answers.is_empty() {
            return None;
        }
        let (embeds, positions, mask) = input(model, batch);
        let input = DecoderInput {
            embeds,
            positions: &positions,
            mask,
            answers: &batch.answers,
            weight,
            layers_learn: true,
            below_learns: true,
        };
        let (mean, rest) = self.forward_backward.decode(model, input, mode, gradients);
        if let Some(mut rest) = rest {
            let slots = &self.forward_backward.slots;
            collect(model, &mut rest, weight, slots, gradients);
        }
        Some(mean)
    }

    fn flops(&self, batch: &TextBatch) -> u64 {
        let work = Workload {
            sequences: &batch.lengths,
            predicted: batch.answers.len(),
            ..Workload::default()
        };
        let learning = self.forward_backward.parts.learning();
        self.flops.forward(&work) + self.flops.backward(&work, learning, false)
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
        trainables: &[Trainable],
    ) -> Result<(), TrainError> {
        let LanguageSetup {
            tokenizer,
            tokenizer_folder,
            decoder,
        } = self.setup;
        let masters = Masters::new(trainables, optimizer);
        let mut plan = masters.plan();
        // A Phi has a bias on its head that a Bunny has not: zeros, for those who ask for it.
        let bias = PlannedTensor {
            name: "lm_head.bias".into(),
            dtype: StoredDtype::F32,
            shape: vec![decoder.vocab_size],
        };
        plan.push(bias.clone());
        let end = tokenizer.special_tokens().eos;
        let mut config = Family::PHI.language_model_json(decoder, self.recipe.model.to_json());
        config["torch_dtype"] = json!(StoredDtype::F32.torch_name());
        config["bos_token_id"] = json!(end);
        config["eos_token_id"] = json!(end);
        let generation = json!({"bos_token_id": end, "eos_token_id": end});
        ModelFolder::new()
            .with_files_of(tokenizer_folder, TOKENIZER_FILES)
            .with_json(CONFIG, config)
            .with_json(GENERATION_CONFIG, generation)
            .write(folder, &plan, MAX_SHARD_SIZE, |planned| {
                Ok::<_, TrainError>(match planned.name == bias.name {
                    true => vec![0; 4 * decoder.vocab_size],
                    false => masters.bytes(planned),
                })
            })?;
        Ok(())
    }
}
