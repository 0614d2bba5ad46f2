//! The last steps: the survivors of all windows in one file, and a seeded draw among them by their
//! keys.
//!
//! Of the remaining rows those with the lowest `hash(seed, key)` are drawn. The draw depends on
//! neither the order of the set nor its shards, and a larger one contains a smaller one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::windows::Survivors;
use super::{Stage, Task};
use crate::coreset::arrays::{Records, write_records};
use crate::coreset::search::ranks::{Key, at_rank};
use crate::coreset::survivor::Survivor;
use crate::coreset::worker::Worker;
use crate::embeddings::{EmbeddingSet, columns};
use crate::error::{DataError, Result, RowFault};
use crate::store::{self, Store};
use bunny_base::random::{mix_all, mix_bytes};

/// Keeps the last draw apart from others of the same seed.
const DRAW: u64 = u64::from_le_bytes(*b"coreset!");

/// The word by which a key is drawn: the lowest go first.
pub(crate) fn draw_hash(seed: u64, key: &str) -> u64 {
    mix_bytes(mix_all(&[seed, DRAW]), key.as_bytes())
}

/// Writes the survivors of a bucket after all cuts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Survive {
    pub(crate) survivors: Survivors,
    pub(crate) stage: Stage,
}

/// The key of what a bucket's windows left.
fn survivors_key(folder: &str, bucket: usize) -> String {
    format!("{folder}/survivors-{bucket:05}.bin")
}

impl Task for Survive {
    const NAME: &'static str = "survivors";
    type Output = u64;

    fn parts(&self) -> usize {
        self.survivors.buckets
    }

    fn stage(&self) -> Option<&Stage> {
        Some(&self.stage)
    }

    fn run(&self, part: usize, _worker: &Worker<'_>, store: &dyn Store) -> Result<u64> {
        store::fill(store, &survivors_key(&self.stage.folder, part), |out| {
            let (mut rows, mut written) = (0, Ok(()));
            self.survivors.for_each(store, part, |kept| {
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
pub(crate) fn merge(store: &dyn Store, folder: &str, buckets: usize, key: &str) -> Result<()> {
    let files = (0..buckets)
        .map(|bucket| Records::<Survivor>::open(store, &survivors_key(folder, bucket)))
        .collect::<Result<Vec<_>>>()?;
    store::fill(store, key, |out| {
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
pub(crate) fn of_shard(records: &[Survivor], set: &EmbeddingSet, shard: usize) -> Range<usize> {
    let shard = &set.shards[shard];
    let end = shard.first_row + shard.rows();
    records.partition_point(|kept| kept.row < shard.first_row)
        ..records.partition_point(|kept| kept.row < end)
}

/// Calls `each(index, key, caption)` for the records that lie in a shard; `index` counts through
/// all records. Sets without metadata use the row number as key.
pub(crate) fn for_each_key(
    store: &dyn Store,
    set: &EmbeddingSet,
    shard: usize,
    records: &[Survivor],
    captions: bool,
    mut each: impl FnMut(usize, &str, &str) -> Result<()>,
) -> Result<()> {
    let here = of_shard(records, set, shard);
    if here.is_empty() {
        return Ok(());
    }
    let first_row = set.shards[shard].first_row;
    let (Some(metadata), Some(key_column)) = (&set.shards[shard].metadata, &set.key_column) else {
        for index in here {
            each(index, &records[index].row.to_string(), "")?;
        }
        return Ok(());
    };
    let caption_column = set.caption_column.as_deref().filter(|_| captions);
    let mut wanted: Vec<&str> = vec![key_column];
    wanted.extend(caption_column);
    let mut next = here.start;
    columns::for_each_batch(store.open(metadata)?, &wanted, |first, batch, path| {
        let end = first_row + first + batch.num_rows() as u64;
        if next == here.end || records[next].row >= end {
            return Ok(());
        }
        let keys = columns::text(path, first, batch, key_column)?;
        let captions = caption_column
            .map(|column| columns::text(path, first, batch, column))
            .transpose()?;
        while next < here.end && records[next].row < end {
            let row = (records[next].row - first_row - first) as usize;
            let Some(key) = keys.get(row) else {
                let fault = RowFault::Null(key_column.clone());
                return Err(DataError::row(path, first + row as u64, fault));
            };
            let caption = captions.as_ref().and_then(|captions| captions.get(row));
            each(next, key, caption.unwrap_or_default())?;
            next += 1;
        }
        Ok(())
    })
}

/// Calls `each(key)` for the rows of a shard, in order, until it returns false. Sets without metadata
/// use the row number as key.
pub(crate) fn each_key_of_shard(
    store: &dyn Store,
    set: &EmbeddingSet,
    shard: usize,
    mut each: impl FnMut(&str) -> bool,
) -> Result<()> {
    let shard = &set.shards[shard];
    let (Some(metadata), Some(key_column)) = (&shard.metadata, &set.key_column) else {
        let mut rows = shard.first_row..shard.first_row + shard.rows();
        rows.all(|row| each(&row.to_string()));
        return Ok(());
    };
    columns::while_batches(
        store.open(metadata)?,
        &[key_column],
        |first, batch, path| {
            let keys = columns::text(path, first, batch, key_column)?;
            let mut rows = 0..batch.num_rows();
            Ok(rows.all(|row| keys.get(row).is_none_or(&mut each)))
        },
    )
}

/// Writes the hash of the key of every survivor of a part, in the order of their rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Keys {
    pub(crate) set: EmbeddingSet,
    pub(crate) survivors: String,
    pub(crate) seed: u64,
    pub(crate) stage: Stage,
}

fn hashes_key(folder: &str, part: usize) -> String {
    format!("{folder}/hashes-{part:05}.u64")
}

impl Task for Keys {
    const NAME: &'static str = "keys";
    type Output = u64;

    fn parts(&self) -> usize {
        self.set.parts().len()
    }

    fn stage(&self) -> Option<&Stage> {
        Some(&self.stage)
    }

    fn run(&self, part: usize, worker: &Worker<'_>, store: &dyn Store) -> Result<u64> {
        let records: Records<Survivor> = Records::open(store, &self.survivors)?;
        let mut hashes: Vec<u64> = Vec::new();
        for shard in self.set.parts()[part].clone() {
            for_each_key(store, &self.set, shard, &records, false, |_, key, _| {
                hashes.push(draw_hash(self.seed, key));
                Ok(())
            })?;
        }
        worker.progress.advance(hashes.len() as u64);
        write_records(store, &hashes_key(&self.stage.folder, part), &hashes)?;
        Ok(hashes.len() as u64)
    }
}

/// Writes the drawn survivors, in the order of their rows.
pub(crate) fn draw(
    store: &dyn Store,
    survivors: &str,
    hashes: &str,
    parts: usize,
    sample: u64,
    key: &str,
) -> Result<()> {
    let records: Records<Survivor> = Records::open(store, survivors)?;
    let count = records.len() as u64;
    let pass = |see: &mut dyn FnMut(Key)| -> Result<()> {
        let mut rows = records.iter();
        for part in 0..parts {
            let hashes: Records<u64> = Records::open(store, &hashes_key(hashes, part))?;
            for (hash, kept) in hashes.iter().zip(&mut rows) {
                see((*hash, kept.row));
            }
        }
        Ok(())
    };
    let last = at_rank(sample - 1, count, pass)?;
    store::fill(store, key, |out| {
        let (mut index, mut written) = (0, Ok(()));
        pass(&mut |key| {
            if key <= last && written.is_ok() {
                written = out.put(bytemuck::bytes_of(&records[index]));
            }
            index += 1;
        })?;
        written
    })
}
