//! Centroids for a set: a seeded sample, k-means on it, each round written down.

use std::path::{Path, PathBuf};

use super::scan::scores_path;
use crate::coreset::centroids::Centroids;
use crate::coreset::files::{Records, Resident, remove_file};
use crate::coreset::options::ClusterOptions;
use crate::coreset::search::lloyd;
use crate::coreset::search::nearest::Rows;
use crate::coreset::search::ranks::{Key, at_rank};
use crate::coreset::worker::Worker;
use crate::embeddings::{EmbeddingSet, Matrix, MatrixFile, NpyHeader};
use crate::error::{DataError, Result, WorkFault};
use crate::hash::mix_all;
use crate::whole::WholeFile;

/// Keeps the draws of samples apart from others of the same seed.
const DRAW: u64 = u64::from_le_bytes(*b"training");

/// What the names of rounds start with, and those of samples.
const ROUND: &str = "round-";
const SAMPLE: &str = "sample-";

/// The rows that centroids are trained on, mapped.
struct Sample {
    matrix: Matrix,
    resident: Resident,
}

impl Rows for Sample {
    fn len(&self) -> usize {
        self.matrix.rows()
    }

    fn dims(&self) -> usize {
        self.matrix.width()
    }

    fn load(&self, rows: std::ops::Range<usize>, out: &mut [f32]) {
        let bytes = std::mem::size_of_val(self.matrix.bytes(rows.clone()));
        self.resident
            .count(bytes, || self.matrix.release(0..self.matrix.rows()));
        self.matrix.load(rows, out);
    }
}

/// Rows read here and there before their pages are let go: each may touch two of them.
const SAMPLED_PAGES: u64 = 4096;

/// What training takes.
#[derive(Debug)]
pub(crate) struct Training<'a> {
    pub(crate) set: &'a EmbeddingSet,
    /// Usable rows of the set.
    pub(crate) usable: u64,
    pub(crate) options: &'a ClusterOptions,
    pub(crate) clusters: u64,
    pub(crate) seed: u64,
    /// Where the scores are, which tell what rows are usable.
    pub(crate) scores: PathBuf,
    pub(crate) folder: PathBuf,
}

impl Training<'_> {
    /// Rows of a sample.
    pub(crate) fn sample_rows(&self) -> u64 {
        self.options
            .rows_per_centroid
            .saturating_mul(self.clusters)
            .min(self.usable)
    }

    /// Trains, or goes on where training was interrupted; the path of the centroids.
    pub(crate) fn run(&self, worker: &Worker<'_>) -> Result<PathBuf> {
        let rounds = self.options.rounds()?;
        worker.progress.begin("k-means", u64::from(rounds));
        let finished = self.folder.join("centroids.npy");
        if finished.is_file() {
            return Ok(finished);
        }
        let reached = self.reached()?;
        let mut round = reached.unwrap_or(0);
        let mut centroids = match (reached, &self.options.start_from) {
            (Some(round), _) => self.read(&self.round_path(round))?,
            (None, Some(given)) => self.read(given)?,
            (None, None) => {
                let sample = self.sample(0, worker.memory / 4)?;
                let (geometry, start) = (self.options.geometry, self.options.start);
                lloyd::start(&sample, self.clusters as usize, geometry, start, self.seed)
            }
        };
        worker.progress.advance(u64::from(round));
        while round < rounds {
            (round, centroids) = self.epoch(round, centroids, worker)?;
        }
        centroids.write(&finished)?;
        Ok(finished)
    }

    /// The rounds of one epoch, from `round` on: the round after them, and its centroids.
    fn epoch(
        &self,
        mut round: u32,
        mut centroids: Centroids,
        worker: &Worker<'_>,
    ) -> Result<(u32, Centroids)> {
        let epoch = round / self.options.iterations;
        let sample = self.sample(epoch, worker.memory / 4)?;
        let end = (epoch + 1) * self.options.iterations;
        while round < end {
            let next = lloyd::iterate(&sample, &centroids, worker.tile);
            // A settled epoch skips to its end.
            let to = if next == centroids { end } else { round + 1 };
            centroids = next;
            worker.progress.advance(u64::from(to - round));
            round = to;
            let path = self.round_path(round);
            centroids.write(&path)?;
            self.remove_others(ROUND, &path)?;
        }
        Ok((round, centroids))
    }

    fn round_path(&self, round: u32) -> PathBuf {
        self.folder.join(format!("{ROUND}{round:05}.npy"))
    }

    /// The last round that was written down.
    fn reached(&self) -> Result<Option<u32>> {
        let names = self.names()?;
        let round = |name: &String| name.strip_prefix(ROUND)?.strip_suffix(".npy")?.parse().ok();
        Ok(names.iter().filter_map(round).max())
    }

    /// Removes the files of this kind but one: the disk is counted for one of each, beside the one
    /// that is being written.
    fn remove_others(&self, kind: &str, kept: &Path) -> Result<()> {
        for name in self.names()?.iter().filter(|name| name.starts_with(kind)) {
            let path = self.folder.join(name);
            if path != kept {
                remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// The names of the files in the folder; those that are not UTF-8 are none of this stage's.
    fn names(&self) -> Result<Vec<String>> {
        let io = || DataError::io(&self.folder, "read");
        let entries = std::fs::read_dir(&self.folder).map_err(io())?;
        entries
            .filter_map(|entry| match entry {
                Ok(entry) => entry.file_name().into_string().ok().map(Ok),
                Err(error) => Some(Err(io()(error))),
            })
            .collect()
    }

    fn read(&self, path: &Path) -> Result<Centroids> {
        Centroids::read(path, self.set.dims, self.options.geometry)
    }

    /// The sample of an epoch: the usable rows with the lowest hashes, in the order of the set, as
    /// a mapped file.
    fn sample(&self, epoch: u32, resident: u64) -> Result<Sample> {
        let path = self.folder.join(format!("{SAMPLE}{epoch:03}.npy"));
        // What an earlier sample taught is in the last round: it makes room for this one.
        self.remove_others(SAMPLE, &path)?;
        if !path.is_file() {
            let rows = self.sample_rows();
            let last = at_rank(rows - 1, self.usable, |see| self.keys(epoch, see))?;
            let mut chosen = Vec::with_capacity(rows as usize);
            self.keys(epoch, &mut |key| {
                if key <= last {
                    chosen.push(key.1);
                }
            })?;
            let mut whole = WholeFile::create_alone(&path)?;
            whole.put(&NpyHeader::write(self.set.dtype, rows, self.set.dims))?;
            let (mut mapped, mut read): (Option<(usize, Matrix)>, u64) = (None, 0);
            for row in chosen {
                let (shard, row) = self.set.locate(row);
                if mapped.as_ref().is_none_or(|(other, _)| *other != shard) {
                    mapped = Some((shard, self.set.shards[shard].image.map()?));
                }
                if let Some((_, matrix)) = &mapped {
                    let row = row as usize..row as usize + 1;
                    whole.put(matrix.bytes(row.clone()))?;
                    read += 1;
                    if read % SAMPLED_PAGES == 0 {
                        matrix.release(0..row.end);
                    }
                }
            }
            whole.finish()?;
        }
        let file = MatrixFile::npy(&path)?;
        let matrix = file.map()?;
        if (file.rows, file.dims, file.dtype) == (self.sample_rows(), self.set.dims, self.set.dtype)
        {
            Ok(Sample {
                matrix,
                resident: Resident::new(resident),
            })
        } else {
            Err(DataError::work(path, WorkFault::Broken))
        }
    }

    /// The hash and number of every usable row.
    fn keys(&self, epoch: u32, see: &mut dyn FnMut(Key)) -> Result<()> {
        let mut row = 0_u64;
        for part in 0..self.set.parts().len() {
            let scores: Records<f64> = Records::open(&scores_path(&self.scores, part))?;
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
