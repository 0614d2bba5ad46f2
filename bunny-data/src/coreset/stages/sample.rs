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
use crate::coreset::search::ranks::at_rank;
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

/// Writes the survivors of buckets after all cuts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Survive {
    pub(crate) survivors: Survivors,
    pub(crate) stage: Stage,
}

impl Task for Survive {
    const NAME: &'static str = "survivors";
    type Output = u64;

    fn parts(&self) -> usize {
        self.survivors.parts()
    }

    fn stage(&self) -> &Stage {
        &self.stage
    }

    fn run(&self, part: usize, _worker: &Worker<'_>, store: &dyn Store) -> Result<u64> {
        let mut rows = 0;
        for bucket in self.survivors.of_part(part) {
            store::fill(store, &self.stage.key(bucket, "bin"), |out| {
                let mut written = Ok(());
                self.survivors.for_each(store, bucket, |kept| {
                    if written.is_ok() {
                        written = out.put(bytemuck::bytes_of(kept));
                    }
                    rows += 1;
                })?;
                written
            })?;
        }
        Ok(rows)
    }
}

/// Records read of a file before their pages are let go.
const RELEASED: usize = 1 << 14;

/// Survivors in the order of their rows: a file for each part of the set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct InOrder {
    /// What their keys begin with.
    prefix: String,
}

impl InOrder {
    pub(crate) fn new(folder: &str, name: &str) -> Self {
        Self {
            prefix: format!("{folder}/{name}"),
        }
    }

    fn key(&self, part: usize) -> String {
        format!("{}-{part:05}.bin", self.prefix)
    }

    fn done_key(&self) -> String {
        format!("{}.done", self.prefix)
    }

    /// The survivors of a part.
    pub(crate) fn of_part(&self, store: &dyn Store, part: usize) -> Result<Records<Survivor>> {
        Records::open(store, &self.key(part))
    }

    /// Whether all parts are there.
    pub(crate) fn is_whole(&self, store: &dyn Store) -> Result<bool> {
        store.exists(&self.done_key())
    }

    /// Writes down that all parts are there.
    fn finish(&self, store: &dyn Store) -> Result<()> {
        store::fill(store, &self.done_key(), |_| Ok(()))
    }
}

/// Merges the survivors of all buckets into the order of their rows.
pub(crate) fn merge(
    store: &dyn Store,
    set: &EmbeddingSet,
    task: &Survive,
    merged: &InOrder,
) -> Result<()> {
    let files = (0..task.survivors.buckets)
        .map(|bucket| Records::<Survivor>::open(store, &task.stage.key(bucket, "bin")))
        .collect::<Result<Vec<_>>>()?;
    let mut heads: BinaryHeap<Reverse<(u64, usize, usize)>> = files
        .iter()
        .enumerate()
        .filter_map(|(file, records)| records.first().map(|kept| Reverse((kept.row, file, 0))))
        .collect();
    for (part, shards) in set.parts().into_iter().enumerate() {
        let last = &set.shards[shards.end - 1];
        let end = last.first_row + last.rows();
        store::fill(store, &merged.key(part), |out| {
            while let Some(Reverse((row, file, index))) = heads.peek().copied() {
                if row >= end {
                    break;
                }
                heads.pop();
                out.put(bytemuck::bytes_of(&files[file][index]))?;
                if index % RELEASED == RELEASED - 1 {
                    files[file].release(index + 1 - RELEASED..index);
                }
                if let Some(kept) = files[file].get(index + 1) {
                    heads.push(Reverse((kept.row, file, index + 1)));
                }
            }
            Ok(())
        })?;
    }
    merged.finish(store)
}

/// The records of a file in the order of rows that lie in a shard.
pub(crate) fn of_shard(records: &[Survivor], set: &EmbeddingSet, shard: usize) -> Range<usize> {
    let shard = &set.shards[shard];
    let end = shard.first_row + shard.rows();
    records.partition_point(|kept| kept.row < shard.first_row)
        ..records.partition_point(|kept| kept.row < end)
}

/// What the metadata say of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Texts<'a> {
    pub(crate) key: &'a str,
    /// Where it is asked for and known.
    pub(crate) caption: Option<&'a str>,
    pub(crate) url: Option<&'a str>,
}

/// What is wanted of the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Keys alone.
    Keys,
    /// All texts, and nothing in place of a caption that is none.
    Texts,
    /// All texts, and captions that are text.
    Captions,
}

/// Calls `each(index, texts)` for the records that lie in a shard; `index` counts through all records.
/// Sets without metadata use the row number as key.
pub(crate) fn for_each_key(
    store: &dyn Store,
    set: &EmbeddingSet,
    shard: usize,
    records: &[Survivor],
    wanted: Wanted,
    mut each: impl FnMut(usize, Texts<'_>) -> Result<()>,
) -> Result<()> {
    let here = of_shard(records, set, shard);
    if here.is_empty() {
        return Ok(());
    }
    let first_row = set.shards[shard].first_row;
    let (Some(metadata), Some(key_column)) = (&set.shards[shard].metadata, &set.key_column) else {
        for index in here {
            let texts = Texts {
                key: &records[index].row.to_string(),
                caption: None,
                url: None,
            };
            each(index, texts)?;
        }
        return Ok(());
    };
    let beside = |column: &'_ Option<String>| column.clone().filter(|_| wanted != Wanted::Keys);
    let (caption_column, url_column) = (beside(&set.caption_column), beside(&set.url_column));
    let mut read: Vec<&str> = vec![key_column];
    for column in [&caption_column, &url_column].into_iter().flatten() {
        if !read.contains(&column.as_str()) {
            read.push(column);
        }
    }
    let mut next = here.start;
    columns::while_batches(store.open_partly(metadata)?, &read, |first, batch, path| {
        let end = first_row + first + batch.num_rows() as u64;
        if records[next].row >= end {
            return Ok(true);
        }
        let keys = columns::text(path, first, batch, key_column)?;
        let lenient = |column: &String| Ok(columns::text_or_null(path, batch, column)?.0);
        let captions = caption_column.as_ref().map(|column| match wanted {
            Wanted::Captions => columns::text(path, first, batch, column),
            _ => lenient(column),
        });
        let captions = captions.transpose()?;
        let urls = url_column.as_ref().map(lenient).transpose()?;
        while next < here.end && records[next].row < end {
            let row = (records[next].row - first_row - first) as usize;
            let Some(key) = keys.get(row) else {
                let fault = RowFault::Null(key_column.clone());
                return Err(DataError::row(path, first + row as u64, fault));
            };
            let caption = captions.as_ref().and_then(|captions| captions.get(row));
            let url = urls.as_ref().and_then(|urls| urls.get(row));
            each(next, Texts { key, caption, url })?;
            next += 1;
        }
        Ok(next < here.end)
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
        store.open_partly(metadata)?,
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
    pub(crate) survivors: InOrder,
    pub(crate) seed: u64,
    pub(crate) stage: Stage,
}

/// What the names of hashes end in.
const HASHES: &str = "u64";

impl Task for Keys {
    const NAME: &'static str = "keys";
    type Output = u64;

    fn parts(&self) -> usize {
        self.set.parts().len()
    }

    fn stage(&self) -> &Stage {
        &self.stage
    }

    fn run(&self, part: usize, worker: &Worker<'_>, store: &dyn Store) -> Result<u64> {
        let records = self.survivors.of_part(store, part)?;
        let mut hashes: Vec<u64> = Vec::with_capacity(records.len());
        for shard in self.set.parts()[part].clone() {
            for_each_key(
                store,
                &self.set,
                shard,
                &records,
                Wanted::Keys,
                |_, texts| {
                    hashes.push(draw_hash(self.seed, texts.key));
                    Ok(())
                },
            )?;
        }
        worker.progress.advance(hashes.len() as u64);
        write_records(store, &self.stage.key(part, HASHES), &hashes)?;
        Ok(hashes.len() as u64)
    }
}

/// Writes the drawn ones of so many survivors, in the order of their rows.
pub(crate) fn draw(
    store: &dyn Store,
    task: &Keys,
    count: u64,
    sample: u64,
    drawn: &InOrder,
) -> Result<()> {
    let parts = task.parts();
    let of_part = |part: usize| -> Result<(Records<Survivor>, Records<u64>)> {
        let hashes = Records::open(store, &task.stage.key(part, HASHES))?;
        Ok((task.survivors.of_part(store, part)?, hashes))
    };
    let last = at_rank(sample - 1, count, |see| {
        for part in 0..parts {
            let (records, hashes) = of_part(part)?;
            hashes
                .iter()
                .zip(records.iter())
                .for_each(|(hash, kept)| see((*hash, kept.row)));
        }
        Ok::<_, DataError>(())
    })?;
    for part in 0..parts {
        let (records, hashes) = of_part(part)?;
        store::fill(store, &drawn.key(part), |out| {
            hashes
                .iter()
                .zip(records.iter())
                .filter(|(hash, kept)| (**hash, kept.row) <= last)
                .try_for_each(|(_, kept)| out.put(bytemuck::bytes_of(kept)))
        })?;
    }
    drawn.finish(store)
}
