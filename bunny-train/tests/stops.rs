//! A run that is told to stop in the middle of a step: the step counts for nothing, and what goes on from there
//! ends as one that was never stopped, to the bit.
#![recursion_limit = "256"]

mod common;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bunny_core::{checkpoint::Precision, nn::Mode};
use bunny_train::{
    TrainError,
    data::{Dataset, PackedTexts, TextBatch},
    optimizer::Optimizer,
    recipe::{LanguageRecipe, PhiSizes, StageKind, TrainingArguments},
    reduce::Reduction,
    run::{Job, Loss, Outcome, Prepared, Stage, Task, checkpoint, metrics},
    stages::{LanguageSetup, LanguageStage},
    step::Gradients,
    trainable::Trainable,
};
use burn::{backend::Autodiff, module::AutodiffModule, tensor::backend::AutodiffBackend};
use burn_flex::Flex;
use common::results;

type B = Autodiff<Flex>;

/// Micro-batches of a step, on each rank.
const ACCUMULATION: usize = 6;
const STEPS: u64 = 4;

/// Stage `language`, told to stop when its `last`-th batch is made.
#[derive(Debug)]
struct Interrupted {
    inner: LanguageStage,
    made: AtomicUsize,
    last: usize,
    stop: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Watched<'s> {
    texts: PackedTexts,
    by: &'s Interrupted,
}

impl Dataset for Watched<'_> {
    type Batch = TextBatch;

    fn len(&self) -> usize {
        self.texts.len()
    }

    fn batch(&self, records: &[usize]) -> Result<TextBatch, TrainError> {
        let made = 1 + self.by.made.fetch_add(1, Ordering::Relaxed);
        self.by
            .stop
            .fetch_or(made == self.by.last, Ordering::Relaxed);
        self.texts.batch(records)
    }
}

impl Stage for Interrupted {
    type Recipe = LanguageRecipe;
    type Setup = LanguageSetup;
    type Data<'s> = Watched<'s>;
    type Task<'s, A: AutodiffBackend> = Inner<'s, A>;

    fn kind(&self) -> StageKind {
        self.inner.kind()
    }

    fn recipe(&self) -> &LanguageRecipe {
        self.inner.recipe()
    }

    fn training(&self) -> &TrainingArguments {
        self.inner.training()
    }

    fn setup(&self, folder: &Path, goes_on: bool) -> Result<LanguageSetup, TrainError> {
        self.inner.setup(folder, goes_on)
    }

    fn data<'s>(
        &'s self,
        setup: &'s LanguageSetup,
        file: &Path,
    ) -> Result<Watched<'s>, TrainError> {
        let texts = self.inner.data(setup, file)?;
        Ok(Watched { texts, by: self })
    }

    fn prepare<'s, A: AutodiffBackend>(
        &'s self,
        setup: &'s LanguageSetup,
        data: &Watched<'s>,
        goes_on: bool,
        precision: Precision,
        device: &A::Device,
    ) -> Result<Prepared<A, Inner<'s, A>>, TrainError> {
        let prepared = self
            .inner
            .prepare::<A>(setup, &data.texts, goes_on, precision, device)?;
        Ok(Prepared {
            task: Inner(prepared.task),
            model: prepared.model,
            trainables: prepared.trainables,
        })
    }
}

/// The task of the stage within.
#[derive(Debug)]
struct Inner<'s, A: AutodiffBackend>(<LanguageStage as Stage>::Task<'s, A>);

type Model<'s, A> = <<LanguageStage as Stage>::Task<'s, A> as Task<A>>::Model;

impl<'s, A: AutodiffBackend> Task<A> for Inner<'s, A> {
    type Model = Model<'s, A>;
    type Data = Watched<'s>;

    fn forward_backward(
        &self,
        model: &Self::Model,
        batch: &TextBatch,
        mode: &Mode,
        weight: f64,
        gradients: &mut Gradients<A::InnerBackend>,
    ) -> Option<Loss<A>> {
        self.0
            .forward_backward(model, batch, mode, weight, gradients)
    }

    fn flops(&self, batch: &TextBatch) -> u64 {
        Task::<A>::flops(&self.0, batch)
    }

    fn loss(
        &self,
        model: &<Self::Model as AutodiffModule<A>>::InnerModule,
        batch: &TextBatch,
    ) -> Loss<A> {
        Task::<A>::loss(&self.0, model, batch)
    }

    fn write(
        &self,
        folder: &Path,
        model: &Self::Model,
        optimizer: &Optimizer<A::InnerBackend>,
        trainables: &[Trainable],
    ) -> Result<(), TrainError> {
        Task::<A>::write(&self.0, folder, model, optimizer, trainables)
    }
}

fn recipe(texts: &Path) -> LanguageRecipe {
    LanguageRecipe {
        model: PhiSizes {
            hidden_size: 16,
            intermediate_size: 32,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            resid_pdrop: 0.1,
            ..PhiSizes::default()
        },
        vocab_size: 300,
        model_max_length: 16,
        training: TrainingArguments {
            data_path: texts.to_path_buf(),
            num_train_epochs: 100.0,
            max_steps: Some(STEPS),
            per_device_train_batch_size: 2,
            gradient_accumulation_steps: ACCUMULATION,
            // Batches are made when they are asked for.
            dataloader_num_workers: 0,
            ..TrainingArguments::default()
        },
        ..LanguageRecipe::default()
    }
}

/// Runs the stage, told to stop when the `last`-th batch is made from now on.
fn run(folder: &Path, texts: &Path, ranks: usize, last: usize) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    let stage = Interrupted {
        inner: LanguageStage {
            recipe: recipe(texts),
        },
        made: AtomicUsize::new(0),
        last,
        stop: stop.clone(),
    };
    let mut job = Job::new(stage, folder);
    (job.resume, job.stop) = (true, stop);
    let setup = job.setup().unwrap();
    let devices = vec![Default::default(); ranks];
    job.run_on::<B>(
        &setup,
        Precision::F32,
        &devices,
        Reduction::Memory,
        &mut |_, _| {},
    )
    .unwrap()
}

#[test]
fn a_step_that_is_cut_counts_for_nothing_and_the_run_goes_on_to_the_same_bytes() {
    let data = tempfile::tempdir().unwrap();
    let texts = data.path().join("texts.jsonl");
    let lines =
        (0..60).map(|at| format!("{{\"text\": \"A red circle and {at} green squares.\"}}\n"));
    std::fs::write(&texts, lines.collect::<String>()).unwrap();
    for ranks in [1, 2] {
        let [straight, cut] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        assert!(run(straight.path(), &texts, ranks, usize::MAX).is_complete());
        let a_step = ranks * ACCUMULATION;
        let steps = |folder: &Path| -> Vec<u64> {
            let checkpoints = checkpoint::list(folder).unwrap();
            checkpoints.into_iter().map(|(step, _)| step).collect()
        };
        // In its first step: there is nothing to keep.
        assert_eq!(run(cut.path(), &texts, ranks, 2).steps, 0);
        assert!(steps(cut.path()).is_empty());
        // In the middle of the third, then in that step again: there is a checkpoint already.
        for last in [2 * a_step + 3, 3] {
            let outcome = run(cut.path(), &texts, ranks, last);
            assert_eq!((outcome.steps, outcome.is_complete()), (2, false));
            assert_eq!(steps(cut.path()), [2_u64]);
            let file = cut.path().join(metrics::METRICS_FILE);
            assert_eq!(metrics::read(&file).unwrap().len(), 2);
        }
        assert!(run(cut.path(), &texts, ranks, usize::MAX).is_complete());
        assert!(
            results(straight.path()) == results(cut.path()),
            "on {ranks} ranks"
        );
    }
}
