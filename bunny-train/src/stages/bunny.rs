//! The stages of a Bunny itself: pre-training and fine-tuning.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use bunny_core::{Bunny, checkpoint::Precision, nn::Mode};
use bunny_data::{images::ImageSource, record::RecordFile};
use burn::tensor::backend::AutodiffBackend;

use super::{Places, Start, output};
use crate::{
    data::{Batch, Dataset, Layout, Steps, Tally},
    error::TrainError,
    optimizer::Optimizer,
    recipe::{StageKind, StageRecipe},
    reduce::{Alone, Reduce, Reduction},
    run::{Loss, Observer, Outcome, Run, Task, Trainer, keys_of, on_ranks},
    step::{Gradients, Pass, Slots, forward_backward},
    trainable::{Learner, prepare},
};

/// A stage to be run.
#[derive(Debug, Clone)]
pub struct Job {
    /// Which one.
    pub kind: StageKind,
    /// How.
    pub recipe: StageRecipe,
    /// The folders that the recipe's names stand for.
    pub places: Places,
    /// Where checkpoints, metrics and results go.
    pub folder: PathBuf,
    /// Go on from the last checkpoint there, if there is one.
    pub resume: bool,
    /// Set from outside to end the run after the present step, with a checkpoint.
    pub stop: Arc<AtomicBool>,
}

impl Job {
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
        self.run_rank::<B>(precision, device, &Alone, observer)
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
        on_ranks(devices, reduction, observer, |device, rank, observer| {
            self.run_rank::<B>(precision, device, rank, observer)
        })
    }

    /// Runs the stage as one rank of several; rank 0 writes what there is to write.
    ///
    /// # Errors
    /// As [`Job::run`], and when another rank stops.
    pub fn run_rank<B: AutodiffBackend>(
        &self,
        precision: Precision,
        device: &B::Device,
        reduce: &dyn Reduce,
        observer: Observer<'_>,
    ) -> Result<Outcome, TrainError> {
        let recipe = &self.recipe;
        let last = Run::last_checkpoint(&self.folder, self.resume)?;
        let start = Start::open(recipe, &self.places)?;
        let (model, learners) =
            prepare(start.load::<B>(recipe, precision, device)?, recipe.learns());
        let data = self.dataset(&start, &recipe.training.data_path)?;
        let eval = recipe.training.eval_data_path.as_ref();
        let eval = eval.map(|path| self.dataset(&start, path)).transpose()?;
        let steps = Steps::of_records(recipe, &data.records, reduce.world(), reduce.rank())?;
        let task = Lessons {
            recipe,
            pass: Pass {
                learns: recipe.learns(),
                slots: Slots::new(&learners),
                gradient_checkpointing: recipe.gradient_checkpointing,
            },
            start: &start,
            device,
        };
        let run = Run {
            kind: self.kind,
            training: &recipe.training,
            precision,
            loss_average: recipe.loss_average,
            rates: recipe.rates(),
            recipe: keys_of(recipe),
            folder: &self.folder,
            stop: self.stop.clone(),
        };
        let learner = (model, learners);
        Trainer::new(
            run,
            &task,
            learner,
            &data,
            eval.as_ref(),
            steps,
            device,
            reduce,
        )
        .follow(last, observer)
    }

    /// The records of `records`, as this stage learns them.
    ///
    /// # Errors
    /// When records or pictures cannot be opened.
    pub fn dataset<'a>(&self, start: &'a Start, records: &Path) -> Result<Dataset<'a>, TrainError> {
        let images = self.recipe.image_folder.as_ref();
        Ok(Dataset {
            records: RecordFile::open(records)?,
            images: images.map(ImageSource::open).transpose()?,
            template: start.template,
            tokenizer: &start.open.tokenizer,
            processor: start.open.image_processor.clone(),
            layout: Layout::new(&start.open.config, self.recipe.model_max_length),
            policy: self.recipe.missing_pictures,
            tally: Tally::default(),
        })
    }
}

/// What a Bunny's own stages teach: answers about pictures.
struct Lessons<'a, B: AutodiffBackend> {
    recipe: &'a StageRecipe,
    pass: Pass,
    start: &'a Start,
    device: &'a B::Device,
}

impl<'a, B: AutodiffBackend> Task<B> for Lessons<'a, B> {
    type Model = Bunny<B>;
    type Data = Dataset<'a>;

    fn learn(
        &self,
        model: &Bunny<B>,
        batch: &Batch,
        mode: &Mode,
        weight: f64,
        sums: &mut Gradients<B::InnerBackend>,
    ) -> Option<Loss<B>> {
        self.pass
            .learn(model, batch, mode, weight, sums, self.device)
    }

    fn loss(&self, model: &Bunny<B::InnerBackend>, batch: &Batch) -> Loss<B> {
        forward_backward::loss(model, batch, &Mode::INFERENCE, self.device)
    }

    fn write(
        &self,
        folder: &Path,
        model: &Bunny<B>,
        optimizer: &Optimizer<B::InnerBackend>,
        learners: &[Learner],
    ) -> Result<(), TrainError> {
        output::write(
            folder,
            model,
            optimizer,
            learners,
            self.recipe,
            &self.start.config_json,
            &self.start.open,
        )
    }
}
