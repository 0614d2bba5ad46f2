//! Records to batches, on worker threads ahead of the step.

use std::{
    sync::{
        Arc,
        mpsc::{self, Receiver},
    },
    thread::Scope,
};

use bunny_core::input::{
    conversation::Template,
    image::{DecodeOptions, ImageError, ImageProcessor, Pixels, decode},
    tokenizer::Tokenizer,
};
use bunny_data::{images::ImageSource, record::RecordFile};
use serde::{Deserialize, Serialize};

use super::{Batch, Layout, LeftOut, Sample, Tally};
use crate::error::TrainError;

/// What becomes of a record whose picture is missing or broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PicturePolicy {
    /// The run stops, naming it.
    #[default]
    Error,
    /// The record is left out, and counted.
    Skip,
}

/// Records, and how they become batches.
#[derive(Debug)]
pub struct Dataset<'a> {
    /// The records.
    pub records: RecordFile,
    /// Their pictures; `None` where no record may have one.
    pub images: Option<ImageSource>,
    /// How conversations are rendered.
    pub template: Template,
    /// Text to ids.
    pub tokenizer: &'a Tokenizer,
    /// Pictures to pixels.
    pub processor: ImageProcessor,
    /// How samples become rows.
    pub layout: Layout,
    /// What becomes of records without their pictures.
    pub policy: PicturePolicy,
    /// Records that nothing was learnt from.
    pub tally: Tally,
}

/// Records as they are learnt, a batch at a time.
pub trait Source: Sync + std::fmt::Debug {
    /// Some of them, ready for the model.
    type Batch: Lesson;

    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// These records as a batch.
    ///
    /// # Errors
    /// When one cannot be had.
    fn batch(&self, records: &[usize]) -> Result<Self::Batch, TrainError>;

    /// The records that nothing could be learnt from so far.
    fn left_out(&self) -> LeftOut {
        LeftOut::default()
    }
}

/// What is asked of a batch of any kind.
pub trait Lesson: Send + std::fmt::Debug {
    /// Names of its samples.
    fn samples(&self) -> &[String];

    /// Its positions, padding left out.
    fn tokens(&self) -> usize;

    /// How many things its loss is the mean of.
    fn answers(&self) -> usize;
}

impl Source for Dataset<'_> {
    type Batch = Batch;

    fn len(&self) -> usize {
        self.records.len()
    }

    fn batch(&self, records: &[usize]) -> Result<Batch, TrainError> {
        let mut samples = Vec::with_capacity(records.len());
        let mut kept = Vec::with_capacity(records.len());
        for &index in records {
            let sample = self.sample(index)?;
            match self.pictures(&sample) {
                Ok(pictures) => {
                    samples.push((sample, pictures));
                    kept.push(index);
                }
                Err(error) if self.policy == PicturePolicy::Skip => {
                    self.tally.without_picture(index, &error);
                }
                Err(error) => return Err(error),
            }
        }
        let batch = Batch::collate(samples, self.layout);
        for row in batch.unlearnt() {
            self.tally.without_answer(kept[row], &batch.samples[row]);
        }
        Ok(batch)
    }

    fn left_out(&self) -> LeftOut {
        self.tally.so_far()
    }
}

impl Lesson for Batch {
    fn samples(&self) -> &[String] {
        &self.samples
    }

    fn tokens(&self) -> usize {
        self.tokens
    }

    fn answers(&self) -> usize {
        self.answers.len()
    }
}

impl Dataset<'_> {
    /// A record as it is learnt.
    ///
    /// # Errors
    /// When the record cannot be read or learnt from.
    pub fn sample(&self, index: usize) -> Result<Sample, TrainError> {
        let record = self.records.get(index)?;
        Sample::new(&record, self.template, self.tokenizer).map_err(|source| TrainError::Sample {
            file: self.records.path().to_path_buf(),
            index,
            id: record.id,
            source,
        })
    }

    fn pictures(&self, sample: &Sample) -> Result<Vec<Pixels>, TrainError> {
        let wrong = |name: &str, problem| TrainError::Picture {
            file: self.records.path().to_path_buf(),
            id: sample.id.clone(),
            name: name.to_owned(),
            problem,
        };
        let pictures = sample.pictures.iter().map(|name| {
            let images = self
                .images
                .as_ref()
                .ok_or_else(|| wrong(name, PictureProblem::NoFolder))?;
            let bytes = images
                .read(name)
                .map_err(|error| wrong(name, error.into()))?;
            let picture = decode(&bytes, DecodeOptions::default())
                .map_err(|error| wrong(name, error.into()))?;
            Ok(self.processor.process(&picture))
        });
        pictures.collect()
    }
}

/// Why a picture cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureProblem {
    /// Nobody said where pictures are.
    #[error("no image_folder is given")]
    NoFolder,
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] bunny_data::DataError),
    /// It cannot be decoded.
    #[error(transparent)]
    Decode(#[from] ImageError),
}

/// Batches in order, made by worker threads ahead of time.
#[derive(Debug)]
pub struct Feed<'a, S: Source> {
    supply: Supply<'a, S>,
    next: usize,
}

#[derive(Debug)]
enum Supply<'a, S: Source> {
    /// Made when asked for.
    Direct {
        source: &'a S,
        plan: Arc<dyn Plan + 'a>,
    },
    /// Worker w makes batches w, w + workers, ...
    Workers(Vec<Receiver<Result<S::Batch, TrainError>>>),
}

/// Which records each batch of a run holds.
pub trait Plan: Send + Sync + std::fmt::Debug {
    /// How many batches there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The records of one.
    fn records(&self, batch: usize) -> Vec<usize>;
}

/// Batches that each worker keeps ready.
const READY: usize = 2;

impl<'a, S: Source> Feed<'a, S> {
    /// Feeds the batches of `plan` from `first` on, made by `workers` threads; with none, each is
    /// made when it is asked for.
    pub fn new<'scope>(
        scope: &'scope Scope<'scope, 'a>,
        source: &'a S,
        plan: Arc<dyn Plan + 'a>,
        first: usize,
        workers: usize,
    ) -> Self {
        if workers == 0 {
            return Self {
                supply: Supply::Direct { source, plan },
                next: first,
            };
        }
        let receivers = (0..workers).map(|worker| {
            let (sender, receiver) = mpsc::sync_channel(READY);
            let plan = plan.clone();
            scope.spawn(move || {
                for batch in (first + worker..plan.len()).step_by(workers) {
                    let made = source.batch(&plan.records(batch));
                    let failed = made.is_err();
                    // Nobody listens any more when the run has stopped.
                    if sender.send(made).is_err() || failed {
                        return;
                    }
                }
            });
            receiver
        });
        Self {
            supply: Supply::Workers(receivers.collect()),
            next: 0,
        }
    }

    /// The next batch.
    ///
    /// # Errors
    /// Those of making it.
    pub fn next_batch(&mut self) -> Result<S::Batch, TrainError> {
        let at = self.next;
        self.next += 1;
        match &self.supply {
            Supply::Direct { source, plan } => source.batch(&plan.records(at)),
            Supply::Workers(receivers) => receivers[at % receivers.len()]
                .recv()
                .map_err(|_| TrainError::Worker)?,
        }
    }
}
