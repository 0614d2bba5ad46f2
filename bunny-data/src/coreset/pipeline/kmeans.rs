//! Centroids for a set: a seeded sample, and k-means on it, each round written down. The rows are
//! labelled in parts; their means are made here.

use crate::coreset::arrays::Records;
use crate::coreset::centroids::Centroids;
use crate::coreset::engine::{AnyTask, Engine, drive, merged};
use crate::coreset::manifest::fingerprint;
use crate::coreset::options::ClusterOptions;
use crate::coreset::search::lloyd;
use crate::coreset::search::ranks::{Key, at_rank};
use crate::coreset::stages::Stage;
use crate::coreset::stages::kmeans::{Label, Sample};
use crate::coreset::stages::scan::scores_key;
use crate::coreset::worker::Worker;
use crate::embeddings::{EmbeddingSet, Matrix, MatrixFile, NpyHeader};
use crate::error::{DataError, Result, WorkFault};
use crate::store::{self, Store};
use bunny_base::random::mix_all;

/// Keeps the draws of samples apart from others of the same seed.
const DRAW: u64 = u64::from_le_bytes(*b"training");

/// What the names of files start with: of the centroids that training starts from, of those of a
/// round, of the labels that a round is made from, and of samples.
const START: &str = "start";
const ROUND: &str = "round-";
const LABELS: &str = "label-";
const SAMPLE: &str = "sample-";

/// Rows read here and there before their pages are let go: each may touch two of them.
const SAMPLED_PAGES: u64 = 4096;

/// What training takes.
pub(super) struct Training<'a> {
    pub(super) engine: &'a dyn Engine,
    pub(super) store: &'a dyn Store,
    pub(super) set: &'a EmbeddingSet,
    /// Usable rows of the set.
    pub(super) usable: u64,
    pub(super) options: &'a ClusterOptions,
    pub(super) clusters: u64,
    pub(super) seed: u64,
    /// The folder of the scores, which tell what rows are usable.
    pub(super) scores: &'a str,
    pub(super) stage: Stage,
}

impl Training<'_> {
    /// Trains, or goes on where training was interrupted; the key of the centroids.
    pub(super) fn run(&self) -> Result<String> {
        let rounds = self.options.rounds()?;
        drive(self.engine, |worker| {
            worker.progress.begin("k-means", u64::from(rounds));
        });
        let finished = format!("{}/centroids.npy", self.stage.folder);
        if self.store.exists(&finished)? {
            return Ok(finished);
        }
        let mut round = match self.reached()? {
            Some(round) => round,
            None => {
                drive(self.engine, |worker| self.start(worker))?;
                0
            }
        };
        drive(self.engine, |worker| {
            worker.progress.advance(u64::from(round));
        });
        while round < rounds {
            round = self.epoch(round)?;
        }
        self.load(round)?.save(self.store, &finished)?;
        Ok(finished)
    }

    /// The centroids that training starts from.
    fn start(&self, worker: &Worker<'_>) -> Result<()> {
        let (geometry, start) = (self.options.geometry, self.options.start);
        let centroids = match &self.options.start_from {
            Some(given) => Centroids::read(given, self.set.dims, geometry)?,
            None => {
                let sample = self.open(&self.sample(0)?, worker)?;
                lloyd::start(&sample, self.clusters as usize, geometry, start, self.seed)
            }
        };
        centroids.save(self.store, &self.round_key(0))
    }

    /// The rounds of one epoch, from `round` on: the round after them.
    fn epoch(&self, mut round: u32) -> Result<u32> {
        let epoch = round / self.options.iterations;
        let (sample, rows) = drive(self.engine, |worker| {
            let sample = self.sample(epoch)?;
            // Once: the rows may have to be brought here.
            let rows = self.open(&sample, worker)?;
            Ok::<_, DataError>((sample, rows))
        })?;
        let end = (epoch + 1) * self.options.iterations;
        while round < end {
            let label = Label {
                sample: sample.clone(),
                part_rows: self.set.part_rows,
                centroids: self.round_key(round),
                geometry: self.options.geometry,
                stage: Stage {
                    name: format!("{LABELS}{round:05}"),
                    fingerprint: fingerprint(&(&self.stage.fingerprint, round))?,
                    ..self.stage.clone()
                },
            };
            let task = AnyTask::Label(label.clone());
            let labelled = merged(self.engine, &task, self.store, |sum, rows| *sum += rows)?;
            if labelled != Some(sample.rows) {
                let path = self.store.path(&self.stage.folder);
                return Err(DataError::work(path, WorkFault::RowsLost));
            }
            round = drive(self.engine, |worker| {
                self.round(round, end, &label, &rows, worker)
            })?;
        }
        Ok(round)
    }

    /// The round after `round`, once its rows are labelled.
    fn round(
        &self,
        round: u32,
        end: u32,
        label: &Label,
        rows: &Sample,
        worker: &Worker<'_>,
    ) -> Result<u32> {
        let centroids = self.load(round)?;
        let next = lloyd::means(rows, &centroids, label.read(self.store)?);
        // A settled epoch skips to its end.
        let to = if next == centroids { end } else { round + 1 };
        worker.progress.advance(u64::from(to - round));
        next.save(self.store, &self.round_key(to))?;
        for kind in [START, ROUND, LABELS] {
            self.remove_others(kind, &self.round_key(to))?;
        }
        Ok(to)
    }

    fn round_key(&self, round: u32) -> String {
        match round {
            0 => format!("{}/{START}.npy", self.stage.folder),
            _ => format!("{}/{ROUND}{round:05}.npy", self.stage.folder),
        }
    }

    /// The last round that was written down.
    fn reached(&self) -> Result<Option<u32>> {
        let names = self.names()?;
        let round = |name: &String| name.strip_prefix(ROUND)?.strip_suffix(".npy")?.parse().ok();
        let last = names.iter().filter_map(round).max();
        match last.is_none() && self.store.exists(&self.round_key(0))? {
            true => Ok(Some(0)),
            false => Ok(last),
        }
    }

    /// Removes the files of this kind but one: the disk is counted for one of each, beside the one
    /// that is being written.
    fn remove_others(&self, kind: &str, kept: &str) -> Result<()> {
        for name in self.names()?.iter().filter(|name| name.starts_with(kind)) {
            let key = format!("{}/{name}", self.stage.folder);
            if key != kept {
                self.store.remove(&key)?;
            }
        }
        Ok(())
    }

    /// The names of the files in the folder; those that are not UTF-8 are none of this stage's.
    fn names(&self) -> Result<Vec<String>> {
        let entries = self.store.entries(&self.stage.folder)?;
        let names = entries.into_iter().map(|entry| entry.name.into_string());
        Ok(names.filter_map(|name| name.ok()).collect())
    }

    fn load(&self, round: u32) -> Result<Centroids> {
        let key = self.round_key(round);
        Centroids::load(self.store, &key, self.set.dims, self.options.geometry)
    }

    /// All rows of a sample.
    fn open(&self, sample: &MatrixFile, worker: &Worker<'_>) -> Result<Sample> {
        let rows = 0..sample.rows as usize;
        Sample::open(self.store, sample, rows, worker.memory / 4)
    }

    /// Rows of a sample.
    fn sample_rows(&self) -> u64 {
        self.options
            .rows_per_centroid
            .saturating_mul(self.clusters)
            .min(self.usable)
    }

    /// The sample of an epoch: the usable rows with the lowest hashes, in the order of the set, in a
    /// file.
    fn sample(&self, epoch: u32) -> Result<MatrixFile> {
        let key = format!("{}/{SAMPLE}{epoch:03}.npy", self.stage.folder);
        // What an earlier sample taught is in the last round: it makes room for this one.
        self.remove_others(SAMPLE, &key)?;
        if !self.store.exists(&key)? {
            self.draw(epoch, &key)?;
        }
        let file = MatrixFile::npy(self.store, &key)?;
        match (file.rows, file.dims, file.dtype) {
            found if found == (self.sample_rows(), self.set.dims, self.set.dtype) => Ok(file),
            _ => Err(DataError::work(self.store.path(&key), WorkFault::Broken)),
        }
    }

    fn draw(&self, epoch: u32, key: &str) -> Result<()> {
        let rows = self.sample_rows();
        let last = at_rank(rows - 1, self.usable, |see| self.keys(epoch, see))?;
        let mut chosen = Vec::with_capacity(rows as usize);
        self.keys(epoch, &mut |key| {
            if key <= last {
                chosen.push(key.1);
            }
        })?;
        store::fill(self.store, key, |file| {
            file.put(&NpyHeader::write(self.set.dtype, rows, self.set.dims))?;
            let (mut mapped, mut read): (Option<(usize, Matrix)>, u64) = (None, 0);
            for row in chosen {
                let (shard, row) = self.set.locate(row);
                if mapped.as_ref().is_none_or(|(other, _)| *other != shard) {
                    mapped = Some((shard, self.set.shards[shard].image.map(self.store)?));
                }
                if let Some((_, matrix)) = &mapped {
                    let row = row as usize..row as usize + 1;
                    file.put(matrix.bytes(row.clone()))?;
                    read += 1;
                    if read % SAMPLED_PAGES == 0 {
                        matrix.release(0..row.end);
                    }
                }
            }
            Ok(())
        })
    }

    /// The hash and number of every usable row.
    fn keys(&self, epoch: u32, see: &mut dyn FnMut(Key)) -> Result<()> {
        let mut row = 0_u64;
        for part in 0..self.set.parts().len() {
            let scores: Records<f64> = Records::open(self.store, &scores_key(self.scores, part))?;
            for score in scores.iter() {
                if !score.is_nan() {
                    see((mix_all(&[self.seed, DRAW, u64::from(epoch), row]), row));
                }
                row += 1;
            }
            scores.release(0..scores.len());
        }
        Ok(())
    }
}
