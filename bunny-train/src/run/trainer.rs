//! The loop of every stage: batches through the model, gradients together, a step, a line, now and
//! then a checkpoint.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    thread,
    time::Instant,
};

use bunny_core::nn::Mode;
use burn::{
    module::AutodiffModule,
    tensor::{ElementConversion, backend::AutodiffBackend},
};
use serde_json::{Map, Value};

use super::{
    BestEvaluation, Job, Prepared, Stage, Task,
    checkpoint::{self, Retention, RunState},
    events::EventFile,
    job::{Rank, Records},
    memory,
    metrics::{MetricsFile, StepMetrics},
};
use crate::{
    data::{BatchInfo, DataLoader, Dataset, LeftOut, StepPlan},
    error::TrainError,
    optimizer::{AdamWConfig, Optimizer},
    recipe::{LossAverage, Reporter, TrainingArguments},
    step::{Schedule, Slots, StepSums, clip_factor, global_norm},
    trainable::{Rates, Trainable},
};

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Steps taken, those before a resumption included.
    pub steps: u64,
    /// Steps there are.
    pub total: u64,
    /// Whether evaluations that brought nothing better have ended it before its last step.
    pub stopped_early: bool,
    /// The best evaluation; its weights are the results where the recipe wants them.
    pub best: Option<BestEvaluation>,
    /// The loss of the last step taken now.
    pub last_loss: Option<f64>,
    /// Records that nothing was learnt from, over all ranks.
    pub left_out: LeftOut,
    /// Records of the evaluation split that its loss leaves out.
    pub eval_left_out: LeftOut,
}

impl Outcome {
    /// Whether all steps were taken that were to be taken.
    pub fn is_complete(&self) -> bool {
        self.steps == self.total || self.stopped_early
    }
}

/// Called after every step with its metrics and the number of steps; a place for a progress bar.
pub type Observer<'a> = &'a mut (dyn FnMut(&StepMetrics, u64) + Send);

/// The model of a stage.
type Model<'s, B, S> = <<S as Stage>::Task<'s, B> as Task<B>>::Model;

/// A stage that is running, as one rank sees it.
pub(super) struct Trainer<'r, 's, B: AutodiffBackend, S: Stage> {
    job: &'s Job<S>,
    task: S::Task<'s, B>,
    /// Always there between steps: a step takes it, to put new weights into it without a copy.
    model: Option<Model<'s, B, S>>,
    optimizer: Optimizer<B::InnerBackend>,
    trainables: Vec<Trainable>,
    slots: Slots,
    /// Numbers of each trainable.
    counts: Vec<usize>,
    /// All of the stage's keys.
    keys: Map<String, Value>,
    rates: Rates,
    schedule: Schedule,
    plan: StepPlan,
    records: Records<'r, S::Data<'s>>,
    rank: Rank<'r, B>,
    last_checkpoint: Option<PathBuf>,
    /// Known to the main rank alone while steps are taken.
    best: Option<BestEvaluation>,
}

impl<'r, 's, B: AutodiffBackend, S: Stage> Trainer<'r, 's, B, S> {
    /// A run that has taken no step yet.
    ///
    /// # Errors
    /// When there are no records, or the stage's keys cannot be written down.
    pub fn new(
        job: &'s Job<S>,
        prepared: Prepared<B, S::Task<'s, B>>,
        records: Records<'r, S::Data<'s>>,
        rank: Rank<'r, B>,
    ) -> Result<Self, TrainError> {
        let Prepared {
            task,
            model,
            trainables,
        } = prepared;
        let training = job.stage.training();
        let config = AdamWConfig {
            beta1: training.adam_beta1,
            beta2: training.adam_beta2,
            epsilon: training.adam_epsilon,
            weight_decay: training.weight_decay,
        };
        let (world, at) = (rank.reduce.world(), rank.reduce.rank());
        let plan = job.stage.plan(records.data, world, at)?;
        let (kind, warmup) = (training.lr_scheduler_type, training.warmup_ratio);
        Ok(Self {
            optimizer: Optimizer::new(training.optim, config, rank.precision, &model, &trainables),
            slots: Slots::new(&trainables),
            counts: trainables.iter().map(Trainable::count).collect(),
            keys: checkpoint::keys_of(job.stage.recipe())?,
            rates: job.stage.rates(),
            schedule: Schedule::new(kind, plan.total(), warmup),
            job,
            task,
            model: Some(model),
            trainables,
            plan,
            records,
            rank,
            last_checkpoint: None,
            best: None,
        })
    }

    fn training(&self) -> &'s TrainingArguments {
        self.job.stage.training()
    }

    /// Takes all steps, from the last checkpoint on if there is one, and leaves the results.
    ///
    /// # Errors
    /// When the checkpoint is not of this run, a record cannot be had, a file not be written, or
    /// the loss is no number any more. Of an evaluation that fails, the steps before are kept.
    pub fn run(
        mut self,
        last: Option<(u64, PathBuf)>,
        observer: Observer<'_>,
    ) -> Result<Outcome, TrainError> {
        let first = self.resume(last)?;
        let total = self.plan.total();
        let training = self.training();
        let folder = &self.job.folder;
        let (mut metrics, mut events) = (None, None);
        if self.is_main() {
            checkpoint::clean(folder, self.retention())?;
            metrics = Some(MetricsFile::open(folder, first)?);
            if training.report_to.contains(&Reporter::Tensorboard) {
                events = Some(EventFile::create(folder, first)?);
            }
        }
        let mut has_learnt = false;
        let mut outcome = Outcome {
            steps: first,
            total,
            stopped_early: self.is_out_of_patience(),
            ..Outcome::default()
        };
        // A run that has stopped early goes on with more patience alone.
        let end = if outcome.stopped_early { first } else { total };
        thread::scope(|scope| -> Result<(), TrainError> {
            let plan = Arc::new(self.plan.clone());
            let from = first as usize * self.plan.accumulation();
            let workers = training.dataloader_num_workers;
            let mut loader = DataLoader::new(scope, self.records.data, plan, from, workers);
            for step in first..end {
                let Some(mut line) = self.step(step, &mut loader)? else {
                    self.keep(step)?;
                    break;
                };
                outcome.steps = step + 1;
                has_learnt |= line.answer_tokens > 0;
                outcome.last_loss = Some(line.loss);
                let at_end = outcome.steps == total;
                let is_due = |every: Option<u64>| {
                    at_end || every.is_some_and(|every| outcome.steps.is_multiple_of(every))
                };
                // A record that cannot be had must not cost the steps taken: they are kept first.
                let mut evaluated = Ok(());
                let mut is_best = false;
                if self.is_main() && is_due(training.eval_steps) {
                    evaluated = self.evaluate().map(|loss| line.eval_loss = loss);
                }
                if let Some(loss) = line.eval_loss {
                    let best = BestEvaluation::after(self.best, outcome.steps, loss);
                    is_best = best.step == outcome.steps;
                    self.best = Some(best);
                }
                if let Some(metrics) = &mut metrics {
                    metrics.push(&line)?;
                    observer(&line, total);
                }
                if let Some(events) = &mut events {
                    events.push(&line)?;
                }
                let (is_told, is_early) = self.agree_to_stop()?;
                outcome.stopped_early = is_early;
                let stop = is_told || is_early;
                let keeps_best = is_best && training.load_best_model_at_end;
                if stop || keeps_best || evaluated.is_err() || is_due(Some(training.save_steps)) {
                    self.save(outcome.steps)?;
                }
                evaluated?;
                if stop {
                    break;
                }
            }
            Ok(())
        })?;
        let Records { data, eval, .. } = self.records;
        outcome.left_out = data.left_out();
        outcome.eval_left_out = eval.map(Dataset::left_out).unwrap_or_default();
        if outcome.steps > first && !has_learnt {
            return Err(TrainError::NothingLearnt {
                file: training.data_path.clone(),
                without_picture: outcome.left_out.without_picture.len(),
                without_answer: outcome.left_out.without_answer.len(),
            });
        }
        outcome.best = self.best;
        if outcome.is_complete() && self.is_main() {
            if let Some(best) = self.retention().best.filter(|best| *best != outcome.steps) {
                self.read(checkpoint::place(folder, best))?;
            }
            self.write_outputs(folder)?;
        }
        Ok(outcome)
    }

    /// Puts the state of the last checkpoint back, and gives the steps taken.
    fn resume(&mut self, last: Option<(u64, PathBuf)>) -> Result<u64, TrainError> {
        let Some((_, path)) = last else { return Ok(0) };
        let state = self.read(path)?;
        let is_here = |best: &BestEvaluation| {
            !self.training().load_best_model_at_end
                || checkpoint::place(&self.job.folder, best.step).exists()
        };
        // Losses of other records are no measure for these.
        let is_measure = state.recipe.get("eval_data_path") == self.keys.get("eval_data_path");
        self.best = state.best.filter(|best| is_measure && is_here(best));
        Ok(state.step)
    }

    /// Puts the weights and the optimizer of a checkpoint in the place of the present ones.
    fn read(&mut self, path: PathBuf) -> Result<RunState, TrainError> {
        let state = checkpoint::read(
            &path,
            &self.state(0),
            &mut self.optimizer,
            &self.trainables,
            self.rank.device,
        )?;
        self.update_model();
        self.last_checkpoint = Some(path);
        Ok(state)
    }

    fn model(&self) -> &Model<'s, B, S> {
        self.model
            .as_ref()
            .expect("the model is only taken within a step")
    }

    fn update_model(&mut self) {
        let model = self.model.take();
        self.model = model.map(|model| self.optimizer.update(model, &self.slots));
    }

    fn is_main(&self) -> bool {
        self.rank.reduce.rank() == 0
    }

    /// One step: micro-batches, their sum over all ranks, clipping, the optimizer. `None` where a rank was
    /// told to stop before its last micro-batch: nothing has changed then.
    fn step(
        &mut self,
        step: u64,
        loader: &mut DataLoader<'_, S::Data<'s>>,
    ) -> Result<Option<StepMetrics>, TrainError> {
        let training = self.training();
        let began = Instant::now();
        let mut data_wait = 0.0;
        let mut ids = Vec::new();
        let mut sums = StepSums::<B::InnerBackend>::new(self.trainables.len());
        for at in 0..self.plan.accumulation() {
            if self.job.stop.load(Ordering::Relaxed) {
                sums.is_cut = true;
                break;
            }
            let waited = Instant::now();
            let batch = loader.next_batch()?;
            data_wait += waited.elapsed().as_secs_f64();
            ids.extend(batch.samples().iter().cloned());
            sums.samples += batch.samples().len() as f64;
            sums.tokens += batch.tokens() as f64;
            sums.answers += batch.answers() as f64;
            let weight = match self.job.stage.loss_average() {
                LossAverage::Step => batch.answers() as f64,
                LossAverage::MicroBatch => 1.0,
            };
            // Micro-batches count through all ranks, so that dropouts do not depend on how many
            // ranks share a step.
            let mode = Mode {
                training: true,
                seed: training.seed,
                step,
                micro: self.plan.micro(at),
                rank: 0,
                ..Mode::default()
            };
            let (model, gradients) = (self.model(), &mut sums.gradients);
            let loss = self
                .task
                .forward_backward(model, &batch, &mode, weight, gradients);
            if let Some(loss) = loss {
                sums.weight += weight;
                sums.flops += self.task.flops(&batch) as f64;
                sums.loss += weight * loss.into_scalar().elem::<f64>();
            }
        }
        // Before the sum over ranks, which would have every rank blame samples of its own.
        self.check_finite(step, "loss", sums.loss, &ids)?;
        let Rank { device, reduce, .. } = self.rank;
        let StepSums {
            gradients,
            weight,
            loss,
            answers,
            tokens,
            samples,
            flops,
            is_cut,
        } = sums.over_ranks(reduce, &self.counts, device)?;
        if is_cut {
            return Ok(None);
        }
        let divisor = if weight > 0.0 { weight } else { 1.0 };
        let loss = loss / divisor;
        let grad_norm = global_norm(&gradients) / divisor;
        self.check_finite(step, "grad_norm", grad_norm, &ids)?;
        let factor = self.schedule.factor(step);
        let rates = self.rates.scaled(factor);
        let max_norm = (training.max_grad_norm > 0.0).then_some(training.max_grad_norm);
        // The mean and the clipping are one factor, which the optimizer takes along.
        let scale = clip_factor(grad_norm, max_norm) / divisor;
        self.optimizer
            .step(gradients, scale, rates, &self.trainables, reduce)?;
        self.update_model();
        let seconds = began.elapsed().as_secs_f64();
        Ok(Some(StepMetrics {
            stage: self.job.stage.kind(),
            step: step + 1,
            epoch: (step + 1) as f64 / self.plan.per_epoch() as f64,
            loss,
            learning_rate: rates.language,
            projector_learning_rate: rates.projector,
            grad_norm,
            tokens: tokens as u64,
            answer_tokens: answers as u64,
            samples_per_second: samples / seconds,
            tokens_per_second: tokens / seconds,
            tflops_per_second: Some(flops / seconds / 1e12),
            data_wait,
            seconds,
            memory: memory::held::<B::InnerBackend>(device),
            eval_loss: None,
        }))
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
        let Some(data) = self.records.eval else {
            return Ok(None);
        };
        let model = self.model().valid();
        let (mut sum, mut answers) = (0.0, 0);
        let records: Vec<usize> = (0..data.len()).collect();
        for records in records.chunks(self.training().per_device_train_batch_size) {
            let batch = data.batch(records)?;
            if batch.answers() > 0 {
                let loss = self.task.loss(&model, &batch);
                sum += batch.answers() as f64 * loss.into_scalar().elem::<f64>();
                answers += batch.answers();
            }
        }
        Ok((answers > 0).then(|| sum / answers as f64))
    }

    /// Whether any rank was told to stop, and whether one has lost its patience.
    fn agree_to_stop(&self) -> Result<(bool, bool), TrainError> {
        let flags = [
            self.job.stop.load(Ordering::Relaxed),
            self.is_out_of_patience(),
        ];
        let mut sums = flags.map(|flag| f64::from(u8::from(flag)));
        self.rank.reduce.sum(&mut [], &mut sums)?;
        let [is_told, is_early] = sums.map(|sum| sum > 0.0);
        Ok((is_told, is_early))
    }

    /// Whether as many evaluations as the recipe waits for were no better than the best.
    fn is_out_of_patience(&self) -> bool {
        let patience = self.training().early_stopping_patience;
        patience.is_some_and(|patience| self.best.is_some_and(|best| best.later >= patience))
    }

    /// The checkpoints that stay.
    fn retention(&self) -> Retention {
        let training = self.training();
        let best = self.best.filter(|_| training.load_best_model_at_end);
        Retention {
            last: training.save_total_limit,
            best: best.map(|best| best.step),
        }
    }

    /// What a checkpoint at `step` says of this run.
    fn state(&self, step: u64) -> RunState {
        let states = self.trainables.iter().zip(self.optimizer.states());
        let updates = states.filter_map(|(trainable, state)| {
            let moments = state.moments.as_ref()?;
            Some((trainable.key(), moments.updates))
        });
        RunState {
            format_version: checkpoint::FORMAT_VERSION,
            stage: self.job.stage.kind(),
            step,
            world: self.plan.world(),
            records: Some(self.records.data.len()),
            content: Some(format!("{:016x}", self.records.content)),
            precision: Some(self.rank.precision.to_string()),
            recipe: self.keys.clone(),
            updates: updates.collect(),
            best: self.best,
        }
    }

    /// Saves the steps taken, unless they have been, or there are none.
    fn keep(&mut self, steps: u64) -> Result<(), TrainError> {
        let place = checkpoint::place(&self.job.folder, steps);
        match steps == 0 || self.last_checkpoint.as_ref() == Some(&place) {
            true => Ok(()),
            false => self.save(steps),
        }
    }

    fn save(&mut self, step: u64) -> Result<(), TrainError> {
        if !self.is_main() {
            return Ok(());
        }
        let place = checkpoint::write(
            &self.job.folder,
            &self.state(step),
            &self.optimizer,
            &self.trainables,
            self.retention(),
            |draft| self.write_outputs(draft),
        )?;
        self.last_checkpoint = Some(place);
        Ok(())
    }

    fn write_outputs(&self, folder: &Path) -> Result<(), TrainError> {
        self.task
            .write(folder, self.model(), &self.optimizer, &self.trainables)
    }
}
