//! The stages of a Bunny itself, `pretrain` and `finetune`: answers about pictures.

mod output;
mod setup;

use std::path::{Path, PathBuf};

use bunny_core::{
    Bunny,
    checkpoint::Precision,
    model::{ModelFlops, Workload},
    nn::{Mode, WeightFormat},
};
use bunny_data::record::RecordFile;
use burn::tensor::backend::AutodiffBackend;

use crate::{
    data::{Batch, InstructionDataset, Layout, Pictures, StepPlan},
    error::TrainError,
    optimizer::Optimizer,
    recipe::{BunnyRecipe, LossAverage, StageKind, TrainingArguments},
    run::{Loss, Prepared, Stage, Task},
    step::{ForwardBackward, Gradients, Slots, forward_backward},
    trainable::{Rates, Trainable, unfreeze_parts},
};

pub use output::PROJECTOR_WEIGHTS;
pub use setup::{BunnySetup, ModelPaths, SetupConfig};

/// `pretrain` or `finetune`.
#[derive(Debug, Clone)]
pub struct BunnyStage {
    /// Which one.
    pub kind: StageKind,
    /// How.
    pub recipe: BunnyRecipe,
    /// The folders that the recipe's names stand for.
    pub paths: ModelPaths,
}

impl BunnyStage {
    /// Tuning of the whole Bunny in the folder `model`, its tower in its files or in its folder.
    pub fn finetune(model: impl Into<PathBuf>, recipe: BunnyRecipe) -> Self {
        Self {
            kind: StageKind::Finetune,
            recipe,
            paths: ModelPaths {
                model: model.into(),
                ..ModelPaths::default()
            },
        }
    }
}

impl Stage for BunnyStage {
    type Recipe = BunnyRecipe;
    type Setup = BunnySetup;
    type Data<'s> = InstructionDataset<'s>;
    type Task<'s, B: AutodiffBackend> = InstructionTask<'s, B>;

    fn kind(&self) -> StageKind {
        self.kind
    }

    fn training(&self) -> &TrainingArguments {
        &self.recipe.training
    }

    fn recipe(&self) -> &BunnyRecipe {
        &self.recipe
    }

    fn loss_average(&self) -> LossAverage {
        self.recipe.loss_average
    }

    fn rates(&self) -> Rates {
        self.recipe.rates()
    }

    fn setup(&self, _folder: &Path, _goes_on: bool) -> Result<BunnySetup, TrainError> {
        BunnySetup::open(&self.recipe, &self.paths)
    }

    fn stored_format(&self, setup: &BunnySetup) -> WeightFormat {
        setup.open.weights.stored_format()
    }

    fn data<'s>(
        &'s self,
        setup: &'s BunnySetup,
        file: &Path,
    ) -> Result<InstructionDataset<'s>, TrainError> {
        let open = &setup.open;
        Ok(InstructionDataset {
            records: RecordFile::open(file)?,
            pictures: Pictures::open(
                self.recipe.image_folder.as_ref(),
                open.image_processor.clone(),
                self.recipe.missing_pictures,
            )?,
            template: setup.template,
            tokenizer: &open.tokenizer,
            layout: Layout::new(&open.config, self.recipe.model_max_length),
        })
    }

    fn plan(
        &self,
        data: &InstructionDataset<'_>,
        world: usize,
        rank: usize,
    ) -> Result<StepPlan, TrainError> {
        let training = &self.recipe.training;
        match self.recipe.group_by_modality_length {
            true => StepPlan::grouped(training, &data.records, world, rank),
            false => StepPlan::new(training, data.records.len(), world, rank),
        }
    }

    fn prepare<'s, B: AutodiffBackend>(
        &'s self,
        setup: &'s BunnySetup,
        _data: &InstructionDataset<'s>,
        _goes_on: bool,
        precision: Precision,
        device: &B::Device,
    ) -> Result<Prepared<B, InstructionTask<'s, B>>, TrainError> {
        let recipe = &self.recipe;
        let parts = recipe.trainable_parts();
        let packing = precision.packing;
        let packing = packing.or_else(|| setup.open.weights.stored_packing());
        if let (Some(packing), true) = (packing, parts.language) {
            return Err(TrainError::Packed {
                packing: packing.to_string(),
            });
        }
        if precision.vision_int8 && (parts.tower || parts.projector) {
            return Err(TrainError::PackedVision);
        }
        let model = setup.load::<B>(recipe, precision, device)?;
        let (model, trainables) = unfreeze_parts(model, parts);
        let task = InstructionTask {
            recipe,
            setup,
            forward_backward: ForwardBackward {
                parts,
                slots: Slots::new(&trainables),
                gradient_checkpointing: recipe.gradient_checkpointing,
            },
            flops: setup.open.config.flops(),
            device: device.clone(),
        };
        Ok(Prepared {
            task,
            model,
            trainables,
        })
    }
}

/// Answers about pictures.
#[derive(Debug)]
pub struct InstructionTask<'s, B: AutodiffBackend> {
    recipe: &'s BunnyRecipe,
    setup: &'s BunnySetup,
    forward_backward: ForwardBackward,
    flops: ModelFlops,
    device: B::Device,
}

impl<'s, B: AutodiffBackend> Task<B> for InstructionTask<'s, B> {
    type Model = Bunny<B>;
    type Data = InstructionDataset<'s>;

    fn forward_backward(
        &self,
        model: &Bunny<B>,
        batch: &Batch,
        mode: &Mode,
        weight: f64,
        gradients: &mut Gradients<B::InnerBackend>,
    ) -> Option<Loss<B>> {
        let device = &self.device;
        self.forward_backward
            .run(model, batch, mode, weight, gradients, device)
    }

    fn flops(&self, batch: &Batch) -> u64 {
        let work = Workload {
            sequences: &batch.lengths(),
            predicted: batch.answers.len(),
            pictures: batch.pictures.len(),
            adapter_rank: match self.recipe.lora_enable {
                true => self.recipe.lora_r,
                false => 0,
            },
        };
        let learning = self.forward_backward.parts.learning();
        self.flops.forward(&work) + self.flops.backward(&work, learning, false)
    }

    fn loss(&self, model: &Bunny<B::InnerBackend>, batch: &Batch) -> Loss<B> {
        forward_backward::loss(model, batch, &Mode::INFERENCE, &self.device)
    }

    fn write(
        &self,
        folder: &Path,
        model: &Bunny<B>,
        optimizer: &Optimizer<B::InnerBackend>,
        trainables: &[Trainable],
    ) -> Result<(), TrainError> {
        output::write(
            folder,
            model,
            optimizer,
            trainables,
            self.recipe,
            &self.setup.config_json,
            &self.setup.open,
        )
    }
}
