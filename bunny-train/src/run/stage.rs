//! What tells one stage of training from another.

use std::path::Path;

use bunny_core::{checkpoint::Precision, nn::Mode};
use burn::{
    module::AutodiffModule,
    tensor::{DType, Tensor, backend::AutodiffBackend},
};
use serde::Serialize;

use crate::{
    data::{Dataset, StepPlan},
    error::TrainError,
    optimizer::Optimizer,
    recipe::{LossAverage, StageKind, TrainingArguments},
    step::Gradients,
    trainable::{Rates, Trainable},
};

/// A stage of training: what it starts from, what it learns from, and what is taught to which model.
///
/// [`Job`](super::Job) runs any of them.
pub trait Stage: std::fmt::Debug + Sync {
    /// Its keys.
    type Recipe: Serialize;
    /// What all ranks start from: sizes, tokenizer, files.
    type Setup: Sync;
    /// What is learnt from.
    type Data<'s>: Dataset
    where
        Self: 's;
    /// What is taught.
    type Task<'s, B: AutodiffBackend>: Task<B, Data = Self::Data<'s>>
    where
        Self: 's;

    /// Whether several ranks can share a step.
    const SHARES_STEPS: bool = true;

    /// Which stage it is.
    fn kind(&self) -> StageKind;

    /// All of its keys, which may not change while a run is stopped.
    fn recipe(&self) -> &Self::Recipe;

    /// Data, rates and steps, which are among them.
    fn training(&self) -> &TrainingArguments;

    /// What a step's loss is the mean of.
    fn loss_average(&self) -> LossAverage {
        LossAverage::Step
    }

    /// The highest learning rate of each part of the model.
    fn rates(&self) -> Rates {
        Rates::uniform(self.training().learning_rate)
    }

    /// Opens, or makes in `folder`, what the stage starts from. A run that `goes_on` has left in
    /// `folder` what it made.
    ///
    /// # Errors
    /// When something is missing, damaged or contradictory.
    fn setup(&self, folder: &Path, goes_on: bool) -> Result<Self::Setup, TrainError>;

    /// The type of the weights that it starts from.
    fn stored_type(&self, _setup: &Self::Setup) -> DType {
        DType::F32
    }

    /// The records of `file`, as this stage learns them.
    ///
    /// # Errors
    /// When records or pictures cannot be opened.
    fn data<'s>(
        &'s self,
        setup: &'s Self::Setup,
        file: &Path,
    ) -> Result<Self::Data<'s>, TrainError>;

    /// Which records each step holds, as rank `rank` of `world` sees them.
    ///
    /// # Errors
    /// When there are none, or records have to be measured and one cannot be read.
    fn plan(
        &self,
        data: &Self::Data<'_>,
        world: usize,
        rank: usize,
    ) -> Result<StepPlan, TrainError> {
        StepPlan::new(self.training(), data.len(), world, rank)
    }

    /// The model on a device, what learns of it, and what it is taught. The weights of a run that
    /// `goes_on` are put in afterwards.
    ///
    /// # Errors
    /// When weights are missing or misshapen, or a picture cannot be had.
    fn prepare<'s, B: AutodiffBackend>(
        &'s self,
        setup: &'s Self::Setup,
        data: &Self::Data<'s>,
        goes_on: bool,
        precision: Precision,
        device: &B::Device,
    ) -> Result<Prepared<B, Self::Task<'s, B>>, TrainError>;
}

/// A model that is ready to learn.
#[derive(Debug)]
pub struct Prepared<B: AutodiffBackend, T: Task<B>> {
    /// What it is taught.
    pub task: T,
    /// The model.
    pub model: T::Model,
    /// What learns of it.
    pub trainables: Vec<Trainable>,
}

/// The loss of a batch, `[1]`, on the backend without gradients.
pub type Loss<B> = Tensor<<B as AutodiffBackend>::InnerBackend, 1>;

/// What is taught to which kind of model.
pub trait Task<B: AutodiffBackend> {
    /// The model.
    type Model: AutodiffModule<B>;
    /// What it learns from.
    type Data: Dataset;

    /// The mean loss of a batch; its gradients are added to `gradients`, `weight` times. `None` when
    /// there is nothing to learn in it.
    fn forward_backward(
        &self,
        model: &Self::Model,
        batch: &<Self::Data as Dataset>::Batch,
        mode: &Mode,
        weight: f64,
        gradients: &mut Gradients<B::InnerBackend>,
    ) -> Option<Loss<B>>;

    /// Operations of a batch's forward pass and of its way back, by the model's own count.
    fn flops(&self, batch: &<Self::Data as Dataset>::Batch) -> u64;

    /// The mean loss of a batch, without gradients; the batch has something to learn.
    fn loss(
        &self,
        model: &<Self::Model as AutodiffModule<B>>::InnerModule,
        batch: &<Self::Data as Dataset>::Batch,
    ) -> Loss<B>;

    /// Writes what has been learnt.
    ///
    /// # Errors
    /// When a file cannot be written.
    fn write(
        &self,
        folder: &Path,
        model: &Self::Model,
        optimizer: &Optimizer<B::InnerBackend>,
        trainables: &[Trainable],
    ) -> Result<(), TrainError>;
}
