//! The first look at every number of a set: rows that cannot be used, and the similarity of each
//! image and its caption.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Stage, Task};
use crate::coreset::arrays::write_records;
use crate::coreset::histogram::Cosines;
use crate::coreset::numeric::dot;
use crate::coreset::options::{Invalid, Similarity};
use crate::coreset::worker::Worker;
use crate::embeddings::{EmbeddingSet, LONGEST, Matrix, SHORTEST, columns};
use crate::error::{DataError, Result, RowFault, SetFault, Unusable};
use crate::fast_hash::fast_hash;
use crate::store::{EMBEDDINGS, Store};
use bunny_base::random::mix_all;

/// Rows looked at by one thread at a time.
const BLOCK: usize = 1024;

/// Reads every row of a part, and writes the score of each: NaN for a row that is left out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scan {
    pub(crate) set: EmbeddingSet,
    pub(crate) invalid: Invalid,
    pub(crate) similarity: Similarity,
    pub(crate) needs_scores: bool,
    pub(crate) stage: Stage,
}

/// What a part's scan found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scanned {
    /// Rows of the part.
    pub rows: u64,
    /// Rows left out because they cannot be used.
    pub dropped: u64,
    /// The first few of them, with what is wrong: by path in a report, by key before.
    pub faults: Vec<String>,
    /// A hash of all image and text rows and of the metadata's scores.
    pub content: u64,
    /// The scores of the other rows.
    pub scores: Cosines,
    /// The sum of the scores of some images with their own captions, in millionths.
    pub own: i64,
    /// The same with the captions of the rows after them: about equal to `own` where images and
    /// captions are out of step.
    pub shifted: i64,
}

impl Scanned {
    /// Adds what another part's scan found.
    pub fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        self.dropped += other.dropped;
        self.faults.extend(other.faults);
        self.faults.truncate(FAULTS);
        self.content = mix_all(&[self.content, other.content]);
        self.scores.merge(&other.scores);
        self.own += other.own;
        self.shifted += other.shifted;
    }
}

/// Faults that are kept for the report.
const FAULTS: usize = 20;

/// What is found in a block of rows.
struct Block {
    scores: Vec<f64>,
    /// The first few rows that cannot be used, and why.
    faults: Vec<(usize, Unusable)>,
    hash: u64,
    own: i64,
    shifted: i64,
}

/// A score in millionths: sums of them are exact, in files too.
fn millionths(score: f64) -> i64 {
    (1e6 * score).round() as i64
}

/// The key of a part's scores: one float64 a row.
pub(crate) fn scores_key(folder: &str, part: usize) -> String {
    format!("{folder}/scores-{part:05}.f64")
}

impl Task for Scan {
    const NAME: &'static str = "scan";
    type Output = Scanned;

    fn parts(&self) -> usize {
        self.set.parts().len()
    }

    fn stage(&self) -> &Stage {
        &self.stage
    }

    fn run(&self, part: usize, worker: &Worker<'_>, store: &dyn Store) -> Result<Scanned> {
        let mut found = Scanned::default();
        let mut scores = Vec::new();
        for shard in &self.set.shards[self.set.parts()[part].clone()] {
            let image = shard.image.map(store)?;
            let text = match &shard.text {
                Some(text) if self.set.score_column.is_none() => {
                    Some((text.map(store)?, &text.key))
                }
                _ => None,
            };
            let given = match (&self.set.score_column, &shard.metadata) {
                (Some(column), Some(key)) => {
                    let mut given = Vec::with_capacity(shard.rows() as usize);
                    columns::for_each_batch(
                        store.open_partly(key)?,
                        &[column],
                        |_, batch, path| {
                            given.extend(columns::scores(path, batch, column)?);
                            Ok(())
                        },
                    )?;
                    Some((given, key))
                }
                _ => None,
            };
            if self.needs_scores && text.is_none() && given.is_none() {
                return Err(DataError::set(store.path(EMBEDDINGS), SetFault::NoTexts));
            }
            let blocks = self.blocks(
                &image,
                text.as_ref().map(|(text, _)| text),
                given.as_ref().map(|(given, _)| &given[..]),
                worker,
            );
            for (index, block) in blocks.into_iter().enumerate() {
                found.content = mix_all(&[found.content, block.hash]);
                found.own += block.own;
                found.shifted += block.shifted;
                let first = index * BLOCK;
                for (row, what) in block.faults {
                    let key = match (what, &text, &given) {
                        (Unusable::TextNotFinite | Unusable::TextLength, Some((_, key)), _) => key,
                        (Unusable::Score, _, Some((_, key))) => key,
                        _ => &shard.image.key,
                    };
                    if self.invalid == Invalid::Error {
                        let fault = RowFault::Unusable(what);
                        let row = (first + row) as u64;
                        return Err(DataError::row(store.path(key), row, fault));
                    }
                    if found.faults.len() < FAULTS {
                        let fault = format!("{key}: row {}: {what}", first + row);
                        found.faults.push(fault);
                    }
                }
                for score in &block.scores {
                    if score.is_nan() {
                        found.dropped += 1;
                    } else {
                        found.scores.add(*score);
                    }
                }
                scores.extend(block.scores);
            }
        }
        found.rows = scores.len() as u64;
        write_records(store, &scores_key(&self.stage.folder, part), &scores)?;
        Ok(found)
    }
}

impl Scan {
    fn blocks(
        &self,
        image: &Matrix,
        text: Option<&Matrix>,
        given: Option<&[f64]>,
        worker: &Worker<'_>,
    ) -> Vec<Block> {
        let dims = self.set.dims;
        (0..image.rows().div_ceil(BLOCK))
            .into_par_iter()
            .map_init(
                || (vec![0.0; BLOCK * dims], vec![0.0; BLOCK * dims]),
                |(images, texts), index| {
                    let range = index * BLOCK..image.rows().min((index + 1) * BLOCK);
                    let rows = range.len();
                    let images = &mut images[..rows * dims];
                    image.load(range.clone(), images);
                    let mut hash = fast_hash(image.bytes(range.clone()));
                    if let Some(text) = text {
                        text.load(range.clone(), &mut texts[..rows * dims]);
                        hash = mix_all(&[hash, fast_hash(text.bytes(range.clone()))]);
                    }
                    if let Some(given) = given {
                        hash = mix_all(&[
                            hash,
                            fast_hash(bytemuck::cast_slice(&given[range.clone()])),
                        ]);
                    }
                    let mut block = Block {
                        scores: Vec::with_capacity(rows),
                        faults: Vec::new(),
                        hash,
                        own: 0,
                        shifted: 0,
                    };
                    for row in 0..rows {
                        let place = row * dims..(row + 1) * dims;
                        let other = text.map(|_| &texts[place.clone()]);
                        let given = given.map(|given| given[range.start + row]);
                        match self.score(&images[place.clone()], other, given) {
                            Ok(score) => block.scores.push(score),
                            Err(what) => {
                                if block.faults.len() < FAULTS {
                                    block.faults.push((row, what));
                                }
                                block.scores.push(f64::NAN);
                            }
                        }
                        // A sixteenth of the rows tells whether captions are out of step.
                        if row % 16 == 0 && row + 1 < rows && text.is_some() {
                            let next = &texts[place.end..place.end + dims];
                            if let Ok(shifted) = self.score(&images[place], Some(next), None)
                                && !block.scores[row].is_nan()
                            {
                                block.own += millionths(block.scores[row]);
                                block.shifted += millionths(shifted);
                            }
                        }
                    }
                    image.release(range.clone());
                    if let Some(text) = text {
                        text.release(range.clone());
                    }
                    worker.progress.advance(rows as u64);
                    block
                },
            )
            .collect()
    }

    /// The similarity of an image and its caption, or what is wrong with them. Sets without
    /// captions score 0 throughout.
    fn score(
        &self,
        image: &[f32],
        text: Option<&[f32]>,
        given: Option<f64>,
    ) -> Result<f64, Unusable> {
        let image_norm = length(image, Unusable::ImageNotFinite, Unusable::ImageLength)?;
        let score = match (given, text) {
            (Some(given), _) => given,
            (None, Some(text)) => {
                let text_norm = length(text, Unusable::TextNotFinite, Unusable::TextLength)?;
                match self.similarity {
                    Similarity::Cosine => dot(image, text) / (image_norm * text_norm),
                    Similarity::Dot => dot(image, text),
                }
            }
            (None, None) => 0.0,
        };
        if score.is_finite() {
            Ok(score)
        } else {
            Err(Unusable::Score)
        }
    }
}

/// The length of a usable row.
fn length(row: &[f32], not_finite: Unusable, no_length: Unusable) -> Result<f64, Unusable> {
    let norm = dot(row, row).sqrt();
    if !norm.is_finite() {
        Err(not_finite)
    } else if (SHORTEST..=LONGEST).contains(&norm) {
        Ok(norm)
    } else {
        Err(no_length)
    }
}
