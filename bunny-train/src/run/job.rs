//! A stage to be run: alone or as data-parallel ranks.

use std::{
    fs::{self, File, TryLockError},
    io::Read,
    ops::Deref,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use bunny_base::random::mix_bytes;
use bunny_core::checkpoint::Precision;
use burn::tensor::backend::AutodiffBackend;

use super::{Observer, Outcome, Stage, checkpoint, ranks::on_ranks, trainer::Trainer};
use crate::{
    error::TrainError,
    reduce::{Reduce, Reduction},
};

/// Held by the run that writes into a folder.
pub(super) const LOCK_FILE: &str = ".lock";

/// A stage of training to be run in a folder.
///
/// ```text
/// setup ── what all ranks start from ── data ──┬── rank 0: model, steps, checkpoints, results
///                                              └── rank 1: model, the same steps
/// ```
#[derive(Debug, Clone)]
pub struct Job<S> {
    /// The stage.
    pub stage: S,
    /// Where checkpoints, metrics and results go.
    pub folder: PathBuf,
    /// Go on from the last checkpoint there, if there is one.
    pub resume: bool,
    /// Set from outside to end the run before its next micro-batch, with a checkpoint. A step that is cut
    /// by that counts for nothing.
    pub stop: Arc<AtomicBool>,
}

impl<S: Stage> Job<S> {
    /// A run in `folder` from the start, which nobody stops.
    pub fn new(stage: S, folder: impl Into<PathBuf>) -> Self {
        Self {
            stage,
            folder: folder.into(),
            resume: false,
            stop: Arc::default(),
        }
    }

    /// The last checkpoint, to go on from.
    fn last_checkpoint(&self) -> Result<Option<(u64, PathBuf)>, TrainError> {
        checkpoint::last(&self.folder, self.resume)
    }

    /// What the run starts from. Nothing is read or written before the folder is this run's alone.
    ///
    /// # Errors
    /// When another run has the folder, it holds one that is not to be gone on with, or something is
    /// missing, damaged or contradictory.
    pub fn setup(&self) -> Result<Reserved<S::Setup>, TrainError> {
        let lock = self.lock()?;
        let goes_on = self.last_checkpoint()?.is_some();
        Ok(Reserved {
            setup: self.stage.setup(&self.folder, goes_on)?,
            _lock: lock,
        })
    }

    /// As [`Job::setup`], leaving nothing behind.
    ///
    /// # Errors
    /// When something is missing, damaged or contradictory.
    pub fn preview(&self) -> Result<S::Setup, TrainError> {
        let last = checkpoint::last(&self.folder, true)?;
        if self.resume && last.is_some() {
            return self.stage.setup(&self.folder, true);
        }
        let draft = tempfile::tempdir().map_err(TrainError::io(&self.folder, "create"))?;
        self.stage.setup(draft.path(), false)
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
        let devices = std::slice::from_ref(device);
        self.run_on::<B>(
            &self.setup()?,
            precision,
            devices,
            Reduction::Memory,
            observer,
        )
    }

    /// Runs the stage on several devices of this process, one thread each; on the first alone where
    /// ranks cannot share its steps.
    ///
    /// # Errors
    /// Those of the first rank that has one of its own.
    pub fn run_on<B: AutodiffBackend>(
        &self,
        setup: &Reserved<S::Setup>,
        precision: Precision,
        devices: &[B::Device],
        reduction: Reduction,
        observer: Observer<'_>,
    ) -> Result<Outcome, TrainError> {
        let devices = match S::SHARES_STEPS {
            true => devices,
            false => &devices[..devices.len().min(1)],
        };
        let training = self.stage.training();
        let data = self.stage.data(setup, &training.data_path)?;
        let eval = training.eval_data_path.as_ref();
        let eval = eval.map(|file| self.stage.data(setup, file)).transpose()?;
        let records = Records {
            data: &data,
            eval: eval.as_ref(),
            content: content_of(&training.data_path)?,
        };
        on_ranks::<B::InnerBackend>(devices, reduction, observer, |device, reduce, observer| {
            let rank = Rank {
                precision,
                device,
                reduce,
            };
            self.run_rank::<B>(setup, records, rank, observer)
        })
    }

    /// Holds the folder until it is dropped, so that no two runs write into one.
    fn lock(&self) -> Result<File, TrainError> {
        checkpoint::require_free(&self.folder)?;
        let file = self.folder.join(LOCK_FILE);
        fs::create_dir_all(&self.folder).map_err(TrainError::io(&self.folder, "create"))?;
        let lock = File::create(&file).map_err(TrainError::io(&file, "create"))?;
        match lock.try_lock() {
            // Where a file system has no locks, there is nobody to ask.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(lock),
            Err(TryLockError::WouldBlock) => Err(TrainError::InUse {
                folder: self.folder.clone(),
            }),
        }
    }

    fn run_rank<'s, B: AutodiffBackend>(
        &'s self,
        setup: &'s S::Setup,
        records: Records<'_, S::Data<'s>>,
        rank: Rank<'_, B>,
        observer: Observer<'_>,
    ) -> Result<Outcome, TrainError> {
        let last = self.last_checkpoint()?;
        let Rank {
            precision, device, ..
        } = rank;
        let goes_on = last.is_some();
        let prepared = self
            .stage
            .prepare::<B>(setup, records.data, goes_on, precision, device)?;
        Trainer::new(self, prepared, records, rank)?.run(last, observer)
    }
}

/// What a run starts from, and its folder, which is no other's until this is dropped.
#[derive(Debug)]
pub struct Reserved<T> {
    setup: T,
    _lock: File,
}

impl<T> Deref for Reserved<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.setup
    }
}

/// A hash of what a file holds: the same path may hold other records when a run goes on.
fn content_of(file: &Path) -> Result<u64, TrainError> {
    const PIECE: u64 = 1 << 20;
    let mut opened = File::open(file).map_err(TrainError::io(file, "open"))?;
    let (mut piece, mut hash) = (Vec::new(), 0);
    loop {
        piece.clear();
        let read = opened.by_ref().take(PIECE).read_to_end(&mut piece);
        if read.map_err(TrainError::io(file, "read"))? == 0 {
            return Ok(hash);
        }
        hash = mix_bytes(hash, &piece);
    }
}

/// What a run learns from, and what it is tried on.
#[derive(Debug)]
pub(super) struct Records<'a, D> {
    /// Learnt from.
    pub data: &'a D,
    /// Only looked at.
    pub eval: Option<&'a D>,
    /// A hash of the file that is learnt from.
    pub content: u64,
}

impl<D> Clone for Records<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D> Copy for Records<'_, D> {}

/// Where one rank computes, in which types, and what connects it with the others.
#[derive(Debug)]
pub(super) struct Rank<'a, B: AutodiffBackend> {
    pub precision: Precision,
    pub device: &'a B::Device,
    pub reduce: &'a dyn Reduce<B::InnerBackend>,
}
