//! The second reading of a set: every row goes to its nearest centroid, and to that cluster's
//! bucket, in one pass.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::scan::scores_key;
use super::{Stage, Task};
use crate::coreset::arrays::Records;
use crate::coreset::bucket::{Buckets, RunWriter, Tag, run_key};
use crate::coreset::centroids::Centroids;
use crate::coreset::numeric::dot;
use crate::coreset::options::{Geometry, Search};
use crate::coreset::search::nearest::{Nearest, Workspace};
use crate::coreset::search::two_level::TwoLevel;
use crate::coreset::worker::Worker;
use crate::embeddings::{EmbeddingSet, LONGEST, Matrix};
use crate::error::Result;
use crate::store::{self, Store};
use bunny_base::random::mix_all;

/// One row in so many shows how often the approximate search agrees with the exact one; of small
/// sets more, for about [`CHECKED_AT_LEAST`] in all.
const CHECKED: u64 = 256;
const CHECKED_AT_LEAST: u64 = 4096;

/// Writes the run of a part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Assign {
    pub(crate) set: EmbeddingSet,
    pub(crate) centroids: String,
    pub(crate) geometry: Geometry,
    pub(crate) search: Search,
    pub(crate) buckets: Buckets,
    /// The folder of the scores.
    pub(crate) scores: String,
    pub(crate) stage: Stage,
}

/// What dividing a part found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// Rows that went to a bucket.
    pub rows: u64,
    /// Rows whose approximate centroid was held against the exact one.
    pub checked: u64,
    /// Those for which they agree.
    pub agreeing: u64,
}

impl Assigned {
    /// Adds what another part found.
    pub fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        self.checked += other.checked;
        self.agreeing += other.agreeing;
    }
}

/// How the nearest centroid is found.
enum Searcher {
    Exact(Nearest),
    TwoLevel(Box<TwoLevel>),
}

impl Task for Assign {
    const NAME: &'static str = "assign";
    type Output = Assigned;

    fn parts(&self) -> usize {
        self.set.parts().len()
    }

    fn stage(&self) -> Option<&Stage> {
        Some(&self.stage)
    }

    fn run(&self, part: usize, worker: &Worker<'_>, store: &dyn Store) -> Result<Assigned> {
        let centroids = Centroids::load(store, &self.centroids, self.set.dims, self.geometry)?;
        let searcher = match self.search {
            Search::Exact => Searcher::Exact(Nearest::new(&centroids, worker.tile)),
            Search::TwoLevel { probes } => {
                let search = TwoLevel::new(&centroids, probes as usize, worker.tile);
                Searcher::TwoLevel(Box::new(search))
            }
        };
        drop(centroids);
        let scores: Records<f64> = Records::open(store, &scores_key(&self.scores, part))?;
        let mut found = Assigned::default();
        let mut seen = 0;
        store::fill(store, &run_key(&self.stage.folder, part), |out| {
            let mut run = RunWriter::new(out, self.buckets, self.set.row_bytes());
            // An eighth of the memory for the mapped rows of a chunk.
            let chunk = (worker.memory / 8 / self.set.row_bytes() as u64).clamp(1024, 1 << 18);
            for shard in &self.set.shards[self.set.parts()[part].clone()] {
                let image = shard.image.map(store)?;
                for start in (0..image.rows()).step_by(chunk as usize) {
                    let end = image.rows().min(start + chunk as usize);
                    let labels =
                        self.labels(&searcher, &image, start..end, shard.first_row, worker);
                    let mut rows = Vec::with_capacity(end - start);
                    let mut tags = Vec::with_capacity(end - start);
                    for (i, (label, agreement)) in labels.into_iter().enumerate() {
                        let score = scores[seen + i];
                        if score.is_nan() {
                            continue;
                        }
                        if let Some(agrees) = agreement {
                            found.checked += 1;
                            found.agreeing += u64::from(agrees);
                        }
                        rows.push(start + i);
                        tags.push(Tag {
                            row: shard.first_row + (start + i) as u64,
                            score,
                            cluster: label,
                            padding: 0,
                        });
                    }
                    run.chunk(&tags, |i| image.bytes(rows[i]..rows[i] + 1))?;
                    found.rows += tags.len() as u64;
                    image.release(start..end);
                    seen += end - start;
                }
            }
            run.finish()
        })?;
        Ok(found)
    }
}

impl Assign {
    /// The centroid of each row, and for some whether the exact search agrees. Rows that are left
    /// out get one too, which means nothing.
    fn labels(
        &self,
        searcher: &Searcher,
        image: &Matrix,
        rows: std::ops::Range<usize>,
        first_row: u64,
        worker: &Worker<'_>,
    ) -> Vec<(u32, Option<bool>)> {
        let dims = self.set.dims;
        let checked = (self.set.rows() / CHECKED_AT_LEAST).clamp(1, CHECKED);
        // The approximate search wants many rows at once, to share a group of centroids.
        let block = match searcher {
            Searcher::Exact(_) => worker.tile.rows,
            Searcher::TwoLevel(_) => 4096.max(worker.tile.rows),
        };
        rows.clone()
            .into_par_iter()
            .step_by(block)
            .map_init(
                || (Workspace::default(), Vec::new()),
                |(work, values), start| {
                    let here = start..rows.end.min(start + block);
                    values.resize(here.len() * dims, 0.0);
                    image.load(here.clone(), values);
                    clear_unusable(values, dims);
                    let mut labels = vec![0; here.len()];
                    let agreement = match searcher {
                        Searcher::Exact(nearest) => {
                            nearest.assign(values, &mut labels, work);
                            vec![None; here.len()]
                        }
                        Searcher::TwoLevel(two) => {
                            two.assign(values, &mut labels, work);
                            let mut exact = [0];
                            here.clone()
                                .zip(values.chunks(dims))
                                .zip(&labels)
                                .map(|((row, values), label)| {
                                    let row = first_row + row as u64;
                                    mix_all(&[row]).is_multiple_of(checked).then(|| {
                                        two.exact().assign(values, &mut exact, work);
                                        exact[0] == *label
                                    })
                                })
                                .collect()
                        }
                    };
                    worker.progress.advance(here.len() as u64);
                    labels.into_iter().zip(agreement).collect::<Vec<_>>()
                },
            )
            .flatten_iter()
            .collect()
    }
}

/// Zeroes rows that hold NaN or infinity or are out of range: they were found before and are left
/// out, but must not disturb the rows beside them.
fn clear_unusable(values: &mut [f32], dims: usize) {
    for row in values.chunks_mut(dims) {
        let length = dot(row, row).sqrt();
        if length.is_nan() || length > LONGEST {
            row.fill(0.0);
        }
    }
}
