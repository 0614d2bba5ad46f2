//! The loop: batches through the model, gradients together, a step, a line, now and then a
//! checkpoint.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use bunny_core::{Bunny, checkpoint::Precision, nn::Mode};
use bunny_data::{images::ImageSource, record::RecordFile};
use burn::{
    module::AutodiffModule,
    tensor::{ElementConversion, backend::AutodiffBackend},
};
use serde_json::Value;

use crate::{
    checkpoint::{self, RunState},
    clip::{clip, global_norm},
    error::TrainError,
    evaluate::evaluate,
    feed::{Dataset, Feed},
    gradients::{Gradients, Slots},
    metrics::{MetricsFile, StepMetrics, resident_memory},
    optimizer::{AdamW, AdamWConfig, Rates},
    output,
    pass::Pass,
    recipe::{LossAverage, StageKind, StageRecipe},
    reduce::{Alone, Reduce},
    schedule::Schedule,
    stage::{Learner, prepare},
    start::{Places, Start},
    steps::Steps,
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

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Steps taken, those before a resumption included.
    pub steps: u64,
    /// Steps there are.
    pub total: u64,
    /// The loss of the last step taken now.
    pub last_loss: Option<f64>,
    /// Records left out for their pictures.
    pub skipped: u64,
}

impl Outcome {
    /// Whether all steps were taken.
    pub fn is_complete(&self) -> bool {
        self.steps == self.total
    }
}

/// Called after every step with its metrics and the number of steps; a place for a progress bar.
pub type Observer<'a> = &'a mut (dyn FnMut(&StepMetrics, u64) + Send);

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
        observer: Observer<'_>,
    ) -> Result<Outcome, TrainError> {
        let mut ranks = crate::reduce::InProcess::group(devices.len()).into_iter();
        let mut devices = devices.iter();
        let (Some(first), Some(device)) = (ranks.next(), devices.next()) else {
            return self.run::<B>(precision, &B::Device::default(), observer);
        };
        thread::scope(|scope| {
            let others: Vec<_> = ranks
                .zip(devices)
                .map(|(rank, device)| {
                    scope
                        .spawn(move || self.run_rank::<B>(precision, device, &rank, &mut |_, _| {}))
                })
                .collect();
            let mut outcome = self.run_rank::<B>(precision, device, &first, observer);
            // A rank that failed makes the others abort: theirs is not the error to tell.
            drop(first);
            for other in others {
                let ended = other.join().unwrap_or(Err(TrainError::Worker));
                if let Err(error) = ended
                    && (outcome.is_ok() || matches!(outcome, Err(TrainError::Reduce(_))))
                {
                    outcome = Err(error);
                }
            }
            outcome
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
        let last = checkpoint::list(&self.folder)?.pop();
        if last.is_some() && !self.resume {
            let folder = self.folder.clone();
            return Err(TrainError::Occupied { folder });
        }
        let start = Start::open(recipe, &self.places)?;
        let (model, learners) =
            prepare(start.load::<B>(recipe, precision, device)?, recipe.learns());
        let dataset = self.dataset(&start, &recipe.data_path)?;
        let steps = Steps::new(recipe, &dataset.records, reduce.world(), reduce.rank())?;
        let slots = Slots::new(&learners);
        let config = AdamWConfig {
            beta1: recipe.adam_beta1,
            beta2: recipe.adam_beta2,
            epsilon: recipe.adam_epsilon,
            weight_decay: recipe.weight_decay,
        };
        let optimizer = AdamW::new(config, &model, &slots);
        let mut trainer = Trainer {
            job: self,
            model: Some(model),
            optimizer,
            schedule: Schedule::new(recipe.lr_scheduler_type, steps.total(), recipe.warmup_ratio),
            counts: learners.iter().map(Learner::count).collect(),
            learners,
            pass: Pass {
                learns: recipe.learns(),
                slots,
                gradient_checkpointing: recipe.gradient_checkpointing,
            },
            steps,
            dataset: &dataset,
            eval: recipe
                .eval_data_path
                .as_ref()
                .map(|path| self.dataset(&start, path))
                .transpose()?,
            config_json: &start.config_json,
            tokenizer_folder: &start.open.tokenizer_folder,
            device,
            reduce,
            last_checkpoint: None,
        };
        let first = trainer.resume(last)?;
        trainer.run(first, observer)
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
            layout: crate::batch::Layout {
                tokens_per_picture: start.open.config.vision.tokens(),
                max_length: self.recipe.model_max_length,
            },
            policy: self.recipe.missing_pictures,
            skipped: AtomicU64::new(0),
        })
    }
}

/// A stage that is running.
struct Trainer<'a, B: AutodiffBackend> {
    job: &'a Job,
    /// Always there between steps: a step takes it, to put new weights into it without a copy.
    model: Option<Bunny<B>>,
    optimizer: AdamW<B::InnerBackend>,
    learners: Vec<Learner>,
    /// Numbers of each learner.
    counts: Vec<usize>,
    schedule: Schedule,
    pass: Pass,
    steps: Steps,
    dataset: &'a Dataset<'a>,
    eval: Option<Dataset<'a>>,
    config_json: &'a Value,
    tokenizer_folder: &'a Path,
    device: &'a B::Device,
    reduce: &'a dyn Reduce,
    last_checkpoint: Option<PathBuf>,
}

/// What the micro-batches of a step add up to, over all ranks in the end.
struct Sums<B: AutodiffBackend> {
    gradients: Gradients<B::InnerBackend>,
    /// What the sums are to be divided by: answers, or micro-batches.
    weight: f64,
    loss: f64,
    answers: f64,
    tokens: f64,
    samples: f64,
}

impl<B: AutodiffBackend> Trainer<'_, B> {
    /// Puts the state of the last checkpoint back, and gives the steps taken.
    fn resume(&mut self, last: Option<(u64, PathBuf)>) -> Result<u64, TrainError> {
        let Some((_, path)) = last else { return Ok(0) };
        let step = checkpoint::read(
            &path,
            self.job.kind,
            &self.job.recipe,
            self.steps.world(),
            &mut self.optimizer,
            &self.learners,
            self.device,
        )?;
        self.update_model();
        self.last_checkpoint = Some(path);
        Ok(step)
    }

    fn model(&self) -> &Bunny<B> {
        self.model
            .as_ref()
            .expect("the model is only taken within a step")
    }

    fn update_model(&mut self) {
        let model = self.model.take();
        self.model = model.map(|model| self.optimizer.update(model, &self.pass.slots));
    }

    fn is_main(&self) -> bool {
        self.reduce.rank() == 0
    }

    fn run(&mut self, first: u64, observer: Observer<'_>) -> Result<Outcome, TrainError> {
        let total = self.steps.total();
        let recipe = &self.job.recipe;
        let mut metrics = None;
        if self.is_main() {
            checkpoint::clean(&self.job.folder)?;
            metrics = Some(MetricsFile::open(&self.job.folder, first)?);
        }
        let mut outcome = Outcome {
            steps: first,
            total,
            last_loss: None,
            skipped: 0,
        };
        thread::scope(|scope| -> Result<(), TrainError> {
            let plan = Arc::new(self.steps.clone());
            let from = first as usize * self.steps.accumulation();
            let workers = recipe.dataloader_num_workers;
            let mut feed = Feed::new(scope, self.dataset, plan, from, workers);
            for step in first..total {
                let mut line = self.step(step, &mut feed)?;
                outcome.steps = step + 1;
                outcome.last_loss = Some(line.loss);
                let stop = self.agree_to_stop()?;
                let at_end = outcome.steps == total;
                if let Some(eval) = &self.eval
                    && self.is_main()
                    && (at_end
                        || recipe
                            .eval_steps
                            .is_some_and(|n| outcome.steps.is_multiple_of(n)))
                {
                    let model = self.model().valid();
                    line.eval_loss = evaluate(&model, eval, recipe, self.device)?;
                }
                if let Some(metrics) = &mut metrics {
                    metrics.push(&line)?;
                    observer(&line, total);
                }
                if at_end || stop || outcome.steps.is_multiple_of(recipe.save_steps) {
                    self.save(outcome.steps)?;
                }
                if stop {
                    break;
                }
            }
            Ok(())
        })?;
        outcome.skipped = self.dataset.skipped.load(Ordering::Relaxed);
        if outcome.is_complete() && self.is_main() {
            self.write_outputs(&self.job.folder)?;
        }
        Ok(outcome)
    }

    /// One step: micro-batches, their sum over all ranks, clipping, AdamW.
    fn step(&mut self, step: u64, feed: &mut Feed<'_>) -> Result<StepMetrics, TrainError> {
        let recipe = &self.job.recipe;
        let began = Instant::now();
        let mut data_wait = 0.0;
        let mut ids = Vec::new();
        let mut sums = Sums::<B> {
            gradients: Gradients::new(self.learners.len()),
            weight: 0.0,
            loss: 0.0,
            answers: 0.0,
            tokens: 0.0,
            samples: 0.0,
        };
        for at in 0..self.steps.accumulation() {
            let waited = Instant::now();
            let batch = feed.next_batch()?;
            data_wait += waited.elapsed().as_secs_f64();
            for id in batch.unlearnt() {
                tracing::warn!("sample `{id}` is cut before its first answer: nothing is learnt");
            }
            ids.extend(batch.samples.iter().cloned());
            sums.samples += batch.samples.len() as f64;
            sums.tokens += batch.tokens as f64;
            sums.answers += batch.answers.len() as f64;
            let weight = match recipe.loss_average {
                LossAverage::Step => batch.answers.len() as f64,
                LossAverage::MicroBatch => 1.0,
            };
            // Micro-batches count through all ranks, so that dropouts do not depend on how many
            // ranks share a step.
            let mode = Mode {
                training: true,
                seed: recipe.seed,
                step,
                micro: self.steps.micro(at),
                rank: 0,
            };
            let model = self
                .model
                .as_ref()
                .expect("the model is only taken within a step");
            let gradients = &mut sums.gradients;
            let loss = self
                .pass
                .learn(model, &batch, &mode, weight, gradients, self.device);
            if let Some(loss) = loss {
                sums.weight += weight;
                sums.loss += weight * loss.into_scalar().elem::<f64>();
            }
        }
        let Sums {
            gradients,
            weight,
            loss,
            answers,
            tokens,
            samples,
        } = self.reduced(sums)?;
        let divisor = if weight > 0.0 { weight } else { 1.0 };
        let (gradients, loss) = (gradients.scaled(1.0 / divisor), loss / divisor);
        let grad_norm = global_norm(&gradients);
        for (what, value) in [("loss", loss), ("grad_norm", grad_norm)] {
            if !value.is_finite() {
                return Err(TrainError::NotFinite {
                    step: step + 1,
                    what,
                    value,
                    samples: ids,
                    checkpoint: self.last_checkpoint.clone(),
                });
            }
        }
        let factor = self.schedule.factor(step);
        let rates = Rates {
            language: factor * recipe.learning_rate,
            projector: factor * recipe.mm_projector_lr.unwrap_or(recipe.learning_rate),
        };
        let max_norm = (recipe.max_grad_norm > 0.0).then_some(recipe.max_grad_norm);
        let gradients = clip(gradients, grad_norm, max_norm);
        self.optimizer.step(&gradients, rates, &self.learners);
        self.update_model();
        let seconds = began.elapsed().as_secs_f64();
        Ok(StepMetrics {
            stage: self.job.kind,
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
            memory: resident_memory(),
            eval_loss: None,
        })
    }

    /// The sums of all ranks. Gradients travel in one bucket, behind the few numbers that go with
    /// them and a mark for each that is there.
    fn reduced(&self, sums: Sums<B>) -> Result<Sums<B>, TrainError> {
        if self.reduce.world() == 1 {
            return Ok(sums);
        }
        let (numbers, present) = sums.gradients.to_bucket(&self.counts);
        let small = [
            sums.weight,
            sums.loss,
            sums.answers,
            sums.tokens,
            sums.samples,
        ];
        let mut bucket: Vec<f32> = small.iter().map(|value| *value as f32).collect();
        bucket.extend(present.iter().map(|present| f32::from(u8::from(*present))));
        bucket.extend(numbers);
        self.reduce.sum(&mut bucket)?;
        let (small_sums, rest) = bucket.split_at(small.len());
        let (present, numbers) = rest.split_at(self.counts.len());
        let present: Vec<bool> = present.iter().map(|marks| *marks > 0.0).collect();
        let [weight, loss, answers, tokens, samples] =
            std::array::from_fn(|at| f64::from(small_sums[at]));
        Ok(Sums {
            gradients: Gradients::from_bucket(numbers, &present, &self.counts, self.device),
            weight,
            loss,
            answers,
            tokens,
            samples,
        })
    }

    /// Whether any rank was told to stop.
    fn agree_to_stop(&self) -> Result<bool, TrainError> {
        let told = self.job.stop.load(Ordering::Relaxed);
        let mut bucket = vec![f32::from(u8::from(told))];
        self.reduce.sum(&mut bucket)?;
        Ok(bucket[0] > 0.0)
    }

    fn save(&mut self, step: u64) -> Result<(), TrainError> {
        if !self.is_main() {
            return Ok(());
        }
        let states = self.learners.iter().zip(self.optimizer.states());
        let updates = states.filter_map(|(learner, state)| {
            let moments = state.moments.as_ref()?;
            Some((learner.key(), moments.updates))
        });
        let state = RunState {
            format_version: checkpoint::FORMAT_VERSION,
            stage: self.job.kind,
            step,
            world: self.steps.world(),
            recipe: self.job.recipe.clone(),
            updates: updates.collect(),
        };
        let place = checkpoint::write(
            &self.job.folder,
            &state,
            &self.optimizer,
            &self.learners,
            self.job.recipe.save_total_limit,
            |draft| self.write_outputs(draft),
        )?;
        self.last_checkpoint = Some(place);
        Ok(())
    }

    fn write_outputs(&self, folder: &Path) -> Result<(), TrainError> {
        output::write(
            folder,
            self.model(),
            &self.optimizer,
            &self.learners,
            &self.job.recipe,
            self.config_json,
            self.tokenizer_folder,
        )
    }
}
