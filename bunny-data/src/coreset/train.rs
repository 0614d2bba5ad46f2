//! Centroids for a set: a seeded sample, k-means on it, each round written down.

use std::path::{Path, PathBuf};

use super::assign::Rows;
use super::centroids::Centroids;
use super::error::{CoresetError, Result};
use super::files::{Records, Resident};
use super::kmeans;
use super::options::ClusterOptions;
use super::scan::scores_path;
use super::select::{Key, at_rank};
use crate::embeddings::{EmbeddingSet, Matrix, MatrixFile, NpyHeader};
use crate::engine::Worker;
use crate::hash::mix_all;
use crate::whole::WholeFile;

/// Keeps the draws of samples apart from others of the same seed.
const DRAW: u64 = u64::from_le_bytes(*b"training");

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
        let rounds = self.options.epochs * self.options.iterations;
        worker.progress.begin("k-means", u64::from(rounds));
        let path = |round: u32| self.folder.join(format!("round-{round:05}.npy"));
        let finished = self.folder.join("centroids.npy");
        if finished.is_file() {
            return Ok(finished);
        }
        let reached = (0..=rounds).rev().find(|round| path(*round).is_file());
        let mut round = reached.unwrap_or(0);
        let mut sample = self.sample(round / self.options.iterations, worker.memory / 4)?;
        let mut centroids = match (reached, &self.options.start_from) {
            (Some(_), _) => self.read(&path(round))?,
            (None, Some(given)) => self.read(given)?,
            (None, None) => {
                let (geometry, start) = (self.options.geometry, self.options.start);
                kmeans::start(&sample, self.clusters as usize, geometry, start, self.seed)
            }
        };
        worker.progress.advance(u64::from(round));
        while round < rounds {
            let next = kmeans::iterate(&sample, &centroids, worker.tile);
            let settled = next == centroids;
            centroids = next;
            round += 1;
            // A settled epoch skips to its end.
            let epoch_end = round.next_multiple_of(self.options.iterations);
            let to = if settled { epoch_end } else { round };
            worker.progress.advance(u64::from(to - round + 1));
            round = to;
            centroids.write(path(round))?;
            if round == epoch_end && round < rounds {
                sample = self.sample(round / self.options.iterations, worker.memory / 4)?;
            }
        }
        centroids.write(&finished)?;
        Ok(finished)
    }

    fn read(&self, path: &Path) -> Result<Centroids> {
        Centroids::read(path, self.set.dims, self.options.geometry)
    }

    /// The sample of an epoch: the usable rows with the lowest hashes, in the order of the set, as
    /// a mapped file.
    fn sample(&self, epoch: u32, resident: u64) -> Result<Sample> {
        let path = self.folder.join(format!("sample-{epoch:03}.npy"));
        if !path.is_file() {
            let rows = self.sample_rows();
            let last = at_rank(rows - 1, self.usable, |see| self.keys(epoch, see))?;
            let mut chosen = Vec::new();
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
            Err(CoresetError::format(
                path,
                "a broken work file: remove the work folder",
            ))
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
