//! The second reading of a set: every row goes to its nearest centroid, and to that cluster's
//! bucket, in one pass.

use std::ops::Range;

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
use crate::embeddings::{EmbeddingSet, LONGEST, Matrix, Shard};
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

    fn stage(&self) -> &Stage {
        &self.stage
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
        let key = run_key(&self.stage.folder, part);
        let directory = store::fill(store, &key, |out| {
            let mut run = RunWriter::new(out, self.set.row_bytes());
            let mut seen = 0;
            for pieces in chunks(&self.set.shards[self.set.parts()[part].clone()]) {
                let mut chunk = Chunk::open(store, pieces, seen)?;
                self.label(&mut chunk, &searcher, &scores, &mut found, worker);
                seen += chunk.labels.len();
                self.sort(&chunk, &scores, &mut run, worker.memory as usize / 4)?;
            }
            Ok(run.finish())
        })?;
        directory.write(store, &self.stage.folder, part)?;
        Ok(found)
    }
}

/// Rows of a chunk, at most: the same on every machine, since a run is to be the same bytes whoever
/// writes it. Most parts are one chunk.
const CHUNK: usize = 1 << 21;

/// The label of a row that is left out.
const LEFT_OUT: u32 = u32::MAX;

/// Some rows of a shard.
struct Piece<'a> {
    shard: &'a Shard,
    rows: Range<usize>,
}

/// The rows of shards, in chunks.
fn chunks(shards: &[Shard]) -> Vec<Vec<Piece<'_>>> {
    let mut chunks = vec![Vec::new()];
    let mut room = CHUNK;
    for shard in shards {
        let (mut start, end) = (0, shard.rows() as usize);
        while start < end {
            if room == 0 {
                chunks.push(Vec::new());
                room = CHUNK;
            }
            let rows = start..end.min(start + room);
            (start, room) = (rows.end, room - rows.len());
            if let Some(chunk) = chunks.last_mut() {
                chunk.push(Piece { shard, rows });
            }
        }
    }
    chunks
}

/// The rows of a chunk, mapped.
struct Chunk<'a> {
    pieces: Vec<(Piece<'a>, Matrix)>,
    /// The number of its first row in the part.
    first: usize,
    labels: Vec<u32>,
}

impl<'a> Chunk<'a> {
    fn open(store: &dyn Store, pieces: Vec<Piece<'a>>, first: usize) -> Result<Self> {
        let map = |piece: Piece<'a>| {
            let image = piece.shard.image.map_rows(store, piece.rows.clone())?;
            Ok((piece, image))
        };
        Ok(Self {
            pieces: pieces.into_iter().map(map).collect::<Result<_>>()?,
            first,
            labels: Vec::new(),
        })
    }

    /// Calls `each(i, row of the set, bytes)` for the rows whose labels are chosen, in order, where
    /// `i` counts the rows of the chunk; pages are let go after so many bytes.
    fn for_each(
        &self,
        memory: usize,
        chosen: impl Fn(u32) -> bool,
        mut each: impl FnMut(usize, u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut index = 0;
        for (piece, image) in &self.pieces {
            let step = (memory / image.bytes(0..1).len()).max(1024);
            for start in piece.rows.clone().step_by(step) {
                let rows = start..piece.rows.end.min(start + step);
                for row in rows.clone() {
                    if chosen(self.labels[index]) {
                        let number = piece.shard.first_row + row as u64;
                        each(index, number, image.bytes(row..row + 1))?;
                    }
                    index += 1;
                }
                image.release(rows);
            }
        }
        Ok(())
    }
}

impl Assign {
    /// Labels the rows of a chunk.
    fn label(
        &self,
        chunk: &mut Chunk<'_>,
        searcher: &Searcher,
        scores: &[f64],
        found: &mut Assigned,
        worker: &Worker<'_>,
    ) {
        // An eighth of the memory for the mapped rows.
        let step = (worker.memory / 8 / self.set.row_bytes() as u64).clamp(1024, 1 << 18);
        for (piece, image) in &chunk.pieces {
            for start in piece.rows.clone().step_by(step as usize) {
                let rows = start..piece.rows.end.min(start + step as usize);
                let first_row = piece.shard.first_row;
                let labels = self.labels(searcher, image, rows.clone(), first_row, worker);
                for (label, agreement) in labels {
                    let row = chunk.first + chunk.labels.len();
                    if scores[row].is_nan() {
                        chunk.labels.push(LEFT_OUT);
                        continue;
                    }
                    chunk.labels.push(label);
                    found.rows += 1;
                    if let Some(agrees) = agreement {
                        found.checked += 1;
                        found.agreeing += u64::from(agrees);
                    }
                }
                image.release(rows);
            }
        }
    }

    /// Writes the rows of a chunk bucket by bucket. As many buckets as `memory` holds are gathered in
    /// one reading of the chunk.
    fn sort(
        &self,
        chunk: &Chunk<'_>,
        scores: &[f64],
        run: &mut RunWriter<'_>,
        memory: usize,
    ) -> Result<()> {
        let buckets = self.buckets.count as usize;
        let of = |label: u32| (label != LEFT_OUT).then(|| self.buckets.of(label));
        let mut counts = vec![0; buckets];
        for bucket in chunk.labels.iter().filter_map(|label| of(*label)) {
            counts[bucket] += 1;
        }
        let row_bytes = self.set.row_bytes();
        let bytes = |bucket: usize| counts[bucket] * (row_bytes + size_of::<Tag>());
        let mut start = 0;
        while start < buckets {
            let (mut end, mut held) = (start + 1, bytes(start));
            while end < buckets && held + bytes(end) <= memory {
                held += bytes(end);
                end += 1;
            }
            let group = start..end;
            let here = |label| of(label).is_some_and(|bucket| group.contains(&bucket));
            // A bucket of its own that is larger than the memory is not held.
            let holds = held <= memory;
            let mut tags: Vec<Vec<Tag>> = Vec::with_capacity(group.len());
            let mut rows: Vec<Vec<u8>> = Vec::with_capacity(group.len());
            for count in &counts[group.clone()] {
                tags.push(Vec::with_capacity(*count));
                rows.push(Vec::with_capacity(if holds {
                    count * row_bytes
                } else {
                    0
                }));
            }
            chunk.for_each(memory / 2, here, |index, row, bytes| {
                let cluster = chunk.labels[index];
                let place = self.buckets.of(cluster) - start;
                tags[place].push(Tag {
                    row,
                    score: scores[chunk.first + index],
                    cluster,
                    padding: 0,
                });
                if holds {
                    rows[place].extend_from_slice(bytes);
                }
                Ok(())
            })?;
            for (tags, rows) in tags.iter().zip(&rows) {
                run.segment(tags, |put| match holds {
                    true => put(rows),
                    false => chunk.for_each(memory / 2, here, |_, _, bytes| put(bytes)),
                })?;
            }
            start = end;
        }
        Ok(())
    }

    /// The centroid of each row, and for some whether the exact search agrees. Rows that are left
    /// out get one too, which means nothing.
    fn labels(
        &self,
        searcher: &Searcher,
        image: &Matrix,
        rows: Range<usize>,
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
