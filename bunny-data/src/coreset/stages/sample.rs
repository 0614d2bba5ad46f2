//! The last steps: the survivors of all windows in one file, and a seeded draw among them by their
//! keys.
//!
//! Of the remaining rows those with the lowest `hash(seed, key)` are drawn. The draw depends on
//! neither the order of the set nor its shards, and a larger one contains a smaller one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::windows::Survivors;
use crate::coreset::engine::Task;
use crate::coreset::files::{Records, write_records};
use crate::coreset::kept::Kept;
use crate::coreset::search::ranks::{Key, at_rank};
use crate::coreset::worker::Worker;
use crate::embeddings::{EmbeddingSet, columns};
use crate::error::{DataError, Result, RowFault};
use crate::hash::{mix_all, mix_bytes};
use crate::whole::WholeFile;

/// Keeps the last draw apart from others of the same seed.
const DRAW: u64 = u64::from_le_bytes(*b"coreset!");

/// The word by which a key is drawn: the lowest go first.
pub(crate) fn draw_hash(seed: u64, key: &str) -> u64 {
    mix_bytes(mix_all(&[seed, DRAW]), key.as_bytes())
}

/// Writes the survivors of a bucket after all cuts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Survive {
    pub(crate) survivors: Survivors,
    pub(crate) folder: PathBuf,
}

/// The path of what a bucket's windows left.
fn survivors_path(folder: &Path, bucket: usize) -> PathBuf {
    folder.join(format!("survivors-{bucket:05}.bin"))
}

impl Task for Survive {
    const NAME: &'static str = "survivors";
    type Output = u64;

    fn run(&self, part: usize, _worker: &Worker<'_>) -> Result<u64> {
        let path = survivors_path(&self.folder, part);
        WholeFile::fill(&path, |out| {
            let (mut rows, mut written) = (0, Ok(()));
            self.survivors.for_each(part, |kept| {
                if written.is_ok() {
                    written = out.put(bytemuck::bytes_of(kept));
                }
                rows += 1;
            })?;
            written?;
            Ok(rows)
        })
    }
}

/// Records read of a file before their pages are let go.
const RELEASED: usize = 1 << 14;

/// Merges the survivors of all buckets into one file in the order of their rows.
pub(crate) fn merge(folder: &Path, buckets: usize, path: &Path) -> Result<()> {
    let files = (0..buckets)
        .map(|bucket| Records::<Kept>::open(&survivors_path(folder, bucket)))
        .collect::<Result<Vec<_>>>()?;
    WholeFile::fill(path, |out| {
        let mut heads: BinaryHeap<Reverse<(u64, usize, usize)>> = files
            .iter()
            .enumerate()
            .filter_map(|(file, records)| records.first().map(|kept| Reverse((kept.row, file, 0))))
            .collect();
        while let Some(Reverse((_, file, index))) = heads.pop() {
            out.put(bytemuck::bytes_of(&files[file][index]))?;
            if index % RELEASED == RELEASED - 1 {
                files[file].release(index + 1 - RELEASED..index);
            }
            if let Some(kept) = files[file].get(index + 1) {
                heads.push(Reverse((kept.row, file, index + 1)));
            }
        }
        Ok(())
    })
}

/// The records of a file in the order of rows that lie in a shard.
pub(crate) fn of_shard(records: &[Kept], set: &EmbeddingSet, shard: usize) -> Range<usize> {
    let shard = &set.shards[shard];
    let end = shard.first_row + shard.rows();
    records.partition_point(|kept| kept.row < shard.first_row)
        ..records.partition_point(|kept| kept.row < end)
}

/// Calls `each(index, key, caption)` for the records that lie in a shard; `index` counts through
/// all records. Sets without metadata use the row number as key.
pub(crate) fn for_each_key(
    set: &EmbeddingSet,
    shard: usize,
    records: &[Kept],
    captions: bool,
    mut each: impl FnMut(usize, &str, &str) -> Result<()>,
) -> Result<()> {
    let here = of_shard(records, set, shard);
    if here.is_empty() {
        return Ok(());
    }
    let first_row = set.shards[shard].first_row;
    let (Some(path), Some(key_column)) = (&set.shards[shard].metadata, &set.key_column) else {
        for index in here {
            each(index, &records[index].row.to_string(), "")?;
        }
        return Ok(());
    };
    let caption_column = set.caption_column.as_deref().filter(|_| captions);
    let mut wanted: Vec<&str> = vec![key_column];
    wanted.extend(caption_column);
    let mut next = here.start;
    columns::for_each_batch(path, &wanted, |first, batch| {
        let end = first_row + first + batch.num_rows() as u64;
        if next == here.end || records[next].row >= end {
            return Ok(());
        }
        let keys = columns::text(path, batch, key_column)?;
        let captions = caption_column
            .map(|column| columns::text(path, batch, column))
            .transpose()?;
        while next < here.end && records[next].row < end {
            let row = (records[next].row - first_row - first) as usize;
            let Some(key) = keys.get(row) else {
                let fault = RowFault::Null(key_column.clone());
                return Err(DataError::row(path, first + row as u64, fault));
            };
            let caption = captions
                .and_then(|captions| captions.get(row))
                .unwrap_or_default();
            each(next, &key, &caption)?;
            next += 1;
        }
        Ok(())
    })
}

/// Writes the hash of the key of every survivor of a part, in the order of their rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HashKeys {
    pub(crate) set: EmbeddingSet,
    pub(crate) survivors: PathBuf,
    pub(crate) seed: u64,
    pub(crate) folder: PathBuf,
}

fn hashes_path(folder: &Path, part: usize) -> PathBuf {
    folder.join(format!("hashes-{part:05}.u64"))
}

impl Task for HashKeys {
    const NAME: &'static str = "keys";
    type Output = u64;

    fn run(&self, part: usize, worker: &Worker<'_>) -> Result<u64> {
        let records: Records<Kept> = Records::open(&self.survivors)?;
        let mut hashes: Vec<u64> = Vec::new();
        for shard in self.set.parts()[part].clone() {
            for_each_key(&self.set, shard, &records, false, |_, key, _| {
                hashes.push(draw_hash(self.seed, key));
                Ok(())
            })?;
        }
        worker.progress.advance(hashes.len() as u64);
        let path = hashes_path(&self.folder, part);
        write_records(&path, &hashes)?;
        Ok(hashes.len() as u64)
    }
}

/// Writes the drawn survivors, in the order of their rows.
pub(crate) fn draw(
    survivors: &Path,
    hashes: &Path,
    parts: usize,
    sample: u64,
    path: &Path,
) -> Result<()> {
    let records: Records<Kept> = Records::open(survivors)?;
    let count = records.len() as u64;
    let pass = |see: &mut dyn FnMut(Key)| -> Result<()> {
        let mut rows = records.iter();
        for part in 0..parts {
            let hashes: Records<u64> = Records::open(&hashes_path(hashes, part))?;
            for (hash, kept) in hashes.iter().zip(&mut rows) {
                see((*hash, kept.row));
            }
        }
        Ok(())
    };
    let last = at_rank(sample - 1, count, pass)?;
    WholeFile::fill(path, |out| {
        let (mut index, mut written) = (0, Ok(()));
        pass(&mut |key| {
            if key <= last && written.is_ok() {
                written = out.put(bytemuck::bytes_of(&records[index]));
            }
            index += 1;
        })?;
        Ok(written?)
    })
}
