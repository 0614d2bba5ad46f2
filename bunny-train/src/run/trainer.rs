//! The loop of every stage: batches through the model, gradients together, a step, a line, now and
//! then a checkpoint.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use bunny_core::{
    checkpoint::Precision,
    nn::{Mode, kernel::device_memory},
};
use burn::{
    module::AutodiffModule,
    tensor::{ElementConversion, Tensor, backend::AutodiffBackend},
};
use serde_json::{Map, Value};

use super::{
    checkpoint::{self, RunState},
    events::EventFile,
    metrics::{MetricsFile, StepMetrics, resident_memory},
};
use crate::{
    data::{Feed, LeftOut, Lesson, Source, Steps},
    error::TrainError,
    optimizer::{AdamWConfig, Optimizer, Rates},
    recipe::{LossAverage, Reporter, StageKind, TrainingArguments},
    reduce::Reduce,
    step::{Gradients, Schedule, Slots, Sums, clip_factor, global_norm},
    trainable::Learner,
};

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Steps taken, those before a resumption included.
    pub steps: u64,
    /// Steps there are.
    pub total: u64,
    /// The loss of the last step taken now.
    pub last_loss: Option<f64>,
    /// Records that nothing was learnt from, over all ranks.
    pub left_out: LeftOut,
    /// Records of the evaluation split that its loss leaves out.
    pub eval_left_out: LeftOut,
}

impl Outcome {
    /// Whether all steps were taken.
    pub fn is_complete(&self) -> bool {
        self.steps == self.total
    }
}

/// Called after every step with its metrics and the number of steps; a place for a progress bar.
pub type Observer<'a> = &'a mut (dyn FnMut(&StepMetrics, u64) + Send);

/// The loss of a batch, `[1]`, on the backend without gradients.
pub type Loss<B> = Tensor<<B as AutodiffBackend>::InnerBackend, 1>;

/// What a stage teaches to which kind of model.
pub trait Task<B: AutodiffBackend> {
    /// The model.
    type Model: AutodiffModule<B>;
    /// What it learns from.
    type Data: Source;

    /// The mean loss of a batch; its gradients are added to `sums`, `weight` times. `None` when
    /// there is nothing to learn in it.
    fn learn(
        &self,
        model: &Self::Model,
        batch: &<Self::Data as Source>::Batch,
        mode: &Mode,
        weight: f64,
        sums: &mut Gradients<B::InnerBackend>,
    ) -> Option<Loss<B>>;

    /// The mean loss of a batch, without gradients; the batch has something to learn.
    fn loss(
        &self,
        model: &<Self::Model as AutodiffModule<B>>::InnerModule,
        batch: &<Self::Data as Source>::Batch,
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
        learners: &[Learner],
    ) -> Result<(), TrainError>;
}

/// Where a run is, and how it is followed.
#[derive(Debug, Clone)]
pub struct Run<'a> {
    /// The stage.
    pub kind: StageKind,
    /// Data and steps.
    pub training: &'a TrainingArguments,
    /// The types in which the model computes.
    pub precision: Precision,
    /// What a step's loss is the mean of.
    pub loss_average: LossAverage,
    /// The highest learning rate of each part of the model.
    pub rates: Rates,
    /// All of the stage's keys, which may not change while the run is stopped.
    pub recipe: Map<String, Value>,
    /// Where checkpoints, metrics and results go.
    pub folder: &'a Path,
    /// Set from outside to end the run after the present step, with a checkpoint.
    pub stop: Arc<AtomicBool>,
}

impl Run<'_> {
    /// The last checkpoint to go on from.
    ///
    /// # Errors
    /// When there is one, and `resume` is not wanted.
    pub fn last_checkpoint(
        folder: &Path,
        resume: bool,
    ) -> Result<Option<(u64, PathBuf)>, TrainError> {
        let last = checkpoint::list(folder)?.pop();
        if last.is_some() && !resume {
            let folder = folder.to_path_buf();
            return Err(TrainError::Occupied { folder });
        }
        Ok(last)
    }
}

/// A stage that is running.
pub(crate) struct Trainer<'a, B: AutodiffBackend, T: Task<B>> {
    run: Run<'a>,
    task: &'a T,
    /// Always there between steps: a step takes it, to put new weights into it without a copy.
    model: Option<T::Model>,
    optimizer: Optimizer<B::InnerBackend>,
    learners: Vec<Learner>,
    slots: Slots,
    /// Numbers of each learner.
    counts: Vec<usize>,
    schedule: Schedule,
    steps: Steps,
    data: &'a T::Data,
    eval: Option<&'a T::Data>,
    device: &'a B::Device,
    reduce: &'a dyn Reduce,
    last_checkpoint: Option<PathBuf>,
}

impl<'a, B: AutodiffBackend, T: Task<B>> Trainer<'a, B, T> {
    /// A run over `data` that has taken no step yet.
    #[allow(clippy::too_many_arguments, reason = "the parts of a run, each once")]
    pub fn new(
        run: Run<'a>,
        task: &'a T,
        (model, learners): (T::Model, Vec<Learner>),
        data: &'a T::Data,
        eval: Option<&'a T::Data>,
        steps: Steps,
        device: &'a B::Device,
        reduce: &'a dyn Reduce,
    ) -> Self {
        let training = run.training;
        let slots = Slots::new(&learners);
        let config = AdamWConfig {
            beta1: training.adam_beta1,
            beta2: training.adam_beta2,
            epsilon: training.adam_epsilon,
            weight_decay: training.weight_decay,
        };
        let (kind, warmup) = (training.lr_scheduler_type, training.warmup_ratio);
        Self {
            optimizer: Optimizer::new(training.optim, config, run.precision, &model, &learners),
            schedule: Schedule::new(kind, steps.total(), warmup),
            counts: learners.iter().map(Learner::count).collect(),
            run,
            task,
            model: Some(model),
            learners,
            slots,
            steps,
            data,
            eval,
            device,
            reduce,
            last_checkpoint: None,
        }
    }

    /// Takes all steps, from the last checkpoint on if there is one, and leaves the results.
    ///
    /// # Errors
    /// When the checkpoint is not of this run, a record cannot be had, a file not be written, or
    /// the loss is no number any more. Of an evaluation that fails, the steps before are kept.
    pub fn follow(
        mut self,
        last: Option<(u64, PathBuf)>,
        observer: Observer<'_>,
    ) -> Result<Outcome, TrainError> {
        let first = self.resume(last)?;
        let total = self.steps.total();
        let training = self.run.training;
        let (mut metrics, mut events) = (None, None);
        if self.is_main() {
            checkpoint::clean(self.run.folder, training.save_total_limit)?;
            metrics = Some(MetricsFile::open(self.run.folder, first)?);
            if training.report_to.contains(&Reporter::Tensorboard) {
                events = Some(EventFile::create(self.run.folder, first)?);
            }
        }
        let mut outcome = Outcome {
            steps: first,
            total,
            ..Outcome::default()
        };
        thread::scope(|scope| -> Result<(), TrainError> {
            let plan = Arc::new(self.steps.clone());
            let from = first as usize * self.steps.accumulation();
            let workers = training.dataloader_num_workers;
            let mut feed = Feed::new(scope, self.data, plan, from, workers);
            for step in first..total {
                let mut line = self.step(step, &mut feed)?;
                outcome.steps = step + 1;
                outcome.last_loss = Some(line.loss);
                let at_end = outcome.steps == total;
                let is_due = |every: Option<u64>| {
                    at_end || every.is_some_and(|every| outcome.steps.is_multiple_of(every))
                };
                // A record that cannot be had must not cost the steps taken: they are kept first.
                let mut evaluated = Ok(());
                if self.is_main() && is_due(training.eval_steps) {
                    evaluated = self.evaluate().map(|loss| line.eval_loss = loss);
                }
                if let Some(metrics) = &mut metrics {
                    metrics.push(&line)?;
                    observer(&line, total);
                }
                if let Some(events) = &mut events {
                    events.push(&line)?;
                }
                let stop = self.agree_to_stop()?;
                if stop || evaluated.is_err() || is_due(Some(training.save_steps)) {
                    self.save(outcome.steps)?;
                }
                evaluated?;
                if stop {
                    break;
                }
            }
            Ok(())
        })?;
        outcome.left_out = self.data.left_out();
        outcome.eval_left_out = self.eval.map(Source::left_out).unwrap_or_default();
        if outcome.is_complete() && self.is_main() {
            self.write_outputs(self.run.folder)?;
        }
        Ok(outcome)
    }

    /// Puts the state of the last checkpoint back, and gives the steps taken.
    fn resume(&mut self, last: Option<(u64, PathBuf)>) -> Result<u64, TrainError> {
        let Some((_, path)) = last else { return Ok(0) };
        let step = checkpoint::read(
            &path,
            &self.state(0),
            &mut self.optimizer,
            &self.learners,
            self.device,
        )?;
        self.update_model();
        self.last_checkpoint = Some(path);
        Ok(step)
    }

    fn model(&self) -> &T::Model {
        self.model
            .as_ref()
            .expect("the model is only taken within a step")
    }

    fn update_model(&mut self) {
        let model = self.model.take();
        self.model = model.map(|model| self.optimizer.update(model, &self.slots));
    }

    fn is_main(&self) -> bool {
        self.reduce.rank() == 0
    }

    /// One step: micro-batches, their sum over all ranks, clipping, the optimizer.
    fn step(&mut self, step: u64, feed: &mut Feed<'_, T::Data>) -> Result<StepMetrics, TrainError> {
        let training = self.run.training;
        let began = Instant::now();
        let mut data_wait = 0.0;
        let mut ids = Vec::new();
        let mut sums = Sums::<B::InnerBackend>::new(self.learners.len());
        for at in 0..self.steps.accumulation() {
            let waited = Instant::now();
            let batch = feed.next_batch()?;
            data_wait += waited.elapsed().as_secs_f64();
            ids.extend(batch.samples().iter().cloned());
            sums.samples += batch.samples().len() as f64;
            sums.tokens += batch.tokens() as f64;
            sums.answers += batch.answers() as f64;
            let weight = match self.run.loss_average {
                LossAverage::Step => batch.answers() as f64,
                LossAverage::MicroBatch => 1.0,
            };
            // Micro-batches count through all ranks, so that dropouts do not depend on how many
            // ranks share a step.
            let mode = Mode {
                training: true,
                seed: training.seed,
                step,
                micro: self.steps.micro(at),
                rank: 0,
            };
            let gradients = &mut sums.gradients;
            let loss = self
                .task
                .learn(self.model(), &batch, &mode, weight, gradients);
            if let Some(loss) = loss {
                sums.weight += weight;
                sums.loss += weight * loss.into_scalar().elem::<f64>();
            }
        }
        // Before the sum over ranks, which would have every rank blame samples of its own.
        self.check_finite(step, "loss", sums.loss, &ids)?;
        let Sums {
            gradients,
            weight,
            loss,
            answers,
            tokens,
            samples,
        } = sums.over_ranks(self.reduce, &self.counts, self.device)?;
        let divisor = if weight > 0.0 { weight } else { 1.0 };
        let loss = loss / divisor;
        let grad_norm = global_norm(&gradients) / divisor;
        self.check_finite(step, "grad_norm", grad_norm, &ids)?;
        let factor = self.schedule.factor(step);
        let rates = self.run.rates.scaled(factor);
        let max_norm = (training.max_grad_norm > 0.0).then_some(training.max_grad_norm);
        // The mean and the clipping are one factor, which the optimizer takes along.
        let scale = clip_factor(grad_norm, max_norm) / divisor;
        self.optimizer
            .step(gradients, scale, rates, &self.learners, self.reduce)?;
        self.update_model();
        let seconds = began.elapsed().as_secs_f64();
        Ok(StepMetrics {
            stage: self.run.kind,
            step: step + 1,
            epoch: (step + 1) as f64 / self.steps.per_epoch() as f64,
            loss,
            learning_rate: rates.language,
            projector_learning_rate: rates.projector,
            grad_norm,
            tokens: tokens as u64,
            answer_tokens: answers as u64,
            samples_per_second: samples / seconds,
            tokens_per_second: tokens / seconds,
            data_wait,
            seconds,
            memory: device_memory::<B::InnerBackend>(self.device).or_else(resident_memory),
            eval_loss: None,
        })
    }

    fn check_finite(
        &self,
        step: u64,
        what: &'static str,
        value: f64,
        samples: &[String],
    ) -> Result<(), TrainError> {
        if value.is_finite() {
            return Ok(());
        }
        Err(TrainError::NotFinite {
            step: step + 1,
            what,
            value,
            samples: samples.to_vec(),
            checkpoint: self.last_checkpoint.clone(),
        })
    }

    /// The mean loss of the records that are not learnt from; `None` when there are none.
    fn evaluate(&self) -> Result<Option<f64>, TrainError> {
        let Some(data) = self.eval else {
            return Ok(None);
        };
        let model = self.model().valid();
        let (mut sum, mut answers) = (0.0, 0);
        let records: Vec<usize> = (0..data.len()).collect();
        for records in records.chunks(self.run.training.per_device_train_batch_size) {
            let batch = data.batch(records)?;
            if batch.answers() > 0 {
                let loss = self.task.loss(&model, &batch);
                sum += batch.answers() as f64 * loss.into_scalar().elem::<f64>();
                answers += batch.answers();
            }
        }
        Ok((answers > 0).then(|| sum / answers as f64))
    }

    /// Whether any rank was told to stop.
    fn agree_to_stop(&self) -> Result<bool, TrainError> {
        let told = self.run.stop.load(Ordering::Relaxed);
        let mut bucket = vec![f32::from(u8::from(told))];
        self.reduce.sum(&mut bucket)?;
        Ok(bucket[0] > 0.0)
    }

    /// What a checkpoint at `step` says of this run.
    fn state(&self, step: u64) -> RunState {
        let states = self.learners.iter().zip(self.optimizer.states());
        let updates = states.filter_map(|(learner, state)| {
            let moments = state.moments.as_ref()?;
            Some((learner.key(), moments.updates))
        });
        RunState {
            format_version: checkpoint::FORMAT_VERSION,
            stage: self.run.kind,
            step,
            world: self.steps.world(),
            records: Some(self.data.len()),
            precision: Some(self.run.precision.to_string()),
            recipe: self.run.recipe.clone(),
            updates: updates.collect(),
        }
    }

    fn save(&mut self, step: u64) -> Result<(), TrainError> {
        if !self.is_main() {
            return Ok(());
        }
        let place = checkpoint::write(
            self.run.folder,
            &self.state(step),
            &self.optimizer,
            &self.learners,
            self.run.training.save_total_limit,
            |draft| self.write_outputs(draft),
        )?;
        self.last_checkpoint = Some(place);
        Ok(())
    }

    fn write_outputs(&self, folder: &Path) -> Result<(), TrainError> {
        self.task
            .write(folder, self.model(), &self.optimizer, &self.learners)
    }
}

/// A stage's keys as they are kept with its checkpoints.
pub(crate) fn keys_of(recipe: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(recipe) {
        Ok(Value::Object(keys)) => keys,
        _ => Map::new(),
    }
}
