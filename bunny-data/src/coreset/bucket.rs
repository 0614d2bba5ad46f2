//! Rows sorted into buckets of neighbouring clusters.
//!
//! Every part of the input writes one run and its directory. A run is a sequence of chunks, of which
//! most parts have one, and in each chunk the rows stand bucket by bucket, in their order:
//! ```text
//! run        segment (chunk 0, bucket 0)  segment (0, 1)  ...  segment (1, 0)  ...
//! segment    Tag × n   the n rows' bytes, padded to 8
//! directory  where each segment lies, how many rows it has, and a hash of it
//! ```
//! A bucket is read from all runs in the order of parts and chunks, so the rows of a cluster stand
//! in the order of the set. Its reader needs of each run an entry of the directory and that segment,
//! and tells by the hash whether they belong together.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};
use memmap2::Mmap;

use super::arrays::{Records, Resident};
use crate::embeddings::Dtype;
use crate::embeddings::matrix::to_f32;
use crate::error::{DataError, Result, WorkFault};
use crate::store::{self, NewFile, Store, Sums, map_file, release};
use bunny_base::random::mix_all;

/// What is known of a row beside its numbers.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Tag {
    /// The row of the set.
    pub(crate) row: u64,
    /// The similarity of image and caption.
    pub(crate) score: f64,
    pub(crate) cluster: u32,
    pub(crate) padding: u32,
}

/// Where a segment lies.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
struct Entry {
    offset: u64,
    rows: u64,
    /// Of its bytes and of this entry.
    hash: u64,
}

impl Entry {
    /// The entry of a segment whose bytes give a word.
    fn new(offset: u64, rows: u64, word: u64) -> Self {
        Self {
            offset,
            rows,
            hash: mix_all(&[offset, rows, word]),
        }
    }
}

/// How clusters are divided among buckets: neighbours share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Buckets {
    pub(crate) clusters: u64,
    pub(crate) count: u64,
}

impl Buckets {
    /// Buckets of about `bucket_bytes` each for rows of so many bytes in all.
    pub(crate) fn new(clusters: u64, bytes: u64, bucket_bytes: u64) -> Self {
        let count = bytes.div_ceil(bucket_bytes).clamp(1, 4096).min(clusters);
        Self { clusters, count }
    }

    /// The bucket of a cluster.
    pub(crate) fn of(self, cluster: u32) -> usize {
        (u64::from(cluster) * self.count / self.clusters) as usize
    }

    /// The clusters of a bucket.
    pub(crate) fn clusters(self, bucket: usize) -> Range<u32> {
        let first = |bucket: u64| (bucket * self.clusters).div_ceil(self.count) as u32;
        first(bucket as u64)..first(bucket as u64 + 1)
    }
}

/// The key of a part's run.
pub(crate) fn run_key(folder: &str, part: usize) -> String {
    format!("{folder}/run-{part:05}.bin")
}

/// The key of the directory of a part's run.
fn directory_key(folder: &str, part: usize) -> String {
    format!("{folder}/run-{part:05}.directory")
}

/// Bytes of a segment; `None` for more rows than there can be.
fn segment_bytes(rows: u64, row_bytes: u64) -> Option<u64> {
    let numbers = rows.checked_mul(row_bytes)?.checked_next_multiple_of(8)?;
    rows.checked_mul(size_of::<Tag>() as u64)?
        .checked_add(numbers)
}

/// Writes a run segment by segment, in the order of chunks and buckets.
#[derive(Debug)]
pub(crate) struct RunWriter<'a> {
    out: &'a mut NewFile,
    row_bytes: usize,
    directory: Vec<Entry>,
    offset: u64,
}

impl<'a> RunWriter<'a> {
    pub(crate) fn new(out: &'a mut NewFile, row_bytes: usize) -> Self {
        Self {
            out,
            row_bytes,
            directory: Vec::new(),
            offset: 0,
        }
    }

    /// Writes the next segment: tags, and the bytes of the rows they tell of, which `rows` puts.
    pub(crate) fn segment(
        &mut self,
        tags: &[Tag],
        rows: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        let (mut sums, offset) = (Sums::default(), self.offset);
        let mut put = |bytes: &[u8]| {
            sums.update(bytes);
            self.offset += bytes.len() as u64;
            self.out.put(bytes)
        };
        put(bytemuck::cast_slice(tags))?;
        rows(&mut put)?;
        let bytes = tags.len() * self.row_bytes;
        put(&[0; 8][..bytes.next_multiple_of(8) - bytes])?;
        let entry = Entry::new(offset, tags.len() as u64, sums.word());
        self.directory.push(entry);
        Ok(())
    }

    /// What [`write_directory`] writes.
    pub(crate) fn finish(self) -> Directory {
        Directory(self.directory)
    }
}

/// Where the segments of a run lie.
#[derive(Debug)]
pub(crate) struct Directory(Vec<Entry>);

impl Directory {
    /// Writes the directory of a part's run.
    pub(crate) fn write(&self, store: &dyn Store, folder: &str, part: usize) -> Result<()> {
        store::fill(store, &directory_key(folder, part), |file| {
            file.put(bytemuck::cast_slice(&self.0))
        })
    }
}

/// The rows of one bucket, mapped.
#[derive(Debug)]
pub(crate) struct Bucket {
    runs: Vec<Mmap>,
    segments: Vec<Segment>,
    dims: usize,
    dtype: Dtype,
    len: usize,
    resident: Resident,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    run: usize,
    /// The number of its first row in the bucket.
    first: usize,
    rows: usize,
    offset: usize,
}

impl Bucket {
    /// Maps a bucket of the runs of so many parts and checks its rows; an eighth of the memory may be
    /// mapped pages.
    pub(crate) fn open(
        store: &dyn Store,
        folder: &str,
        parts: usize,
        buckets: Buckets,
        bucket: usize,
        (dims, dtype): (usize, Dtype),
        memory: u64,
    ) -> Result<Self> {
        let mut opened = Self {
            runs: Vec::with_capacity(parts),
            segments: Vec::new(),
            dims,
            dtype,
            len: 0,
            resident: Resident::new(memory / 8),
        };
        for part in 0..parts {
            let directory: Records<Entry> = Records::open(store, &directory_key(folder, part))?;
            if !directory.len().is_multiple_of(buckets.count as usize) {
                let path = store.path(&directory_key(folder, part));
                return Err(DataError::work(path, WorkFault::Broken));
            }
            let entries = directory
                .iter()
                .skip(bucket)
                .step_by(buckets.count as usize);
            let entries: Vec<Entry> = entries.filter(|entry| entry.rows > 0).copied().collect();
            if entries.is_empty() {
                continue;
            }
            // Its segments have hashes of their own: the rest need not be there.
            let run = store.open_partly(&run_key(folder, part))?;
            let length = run.len()?;
            let damaged = || DataError::work(&run.path, WorkFault::Flipped);
            let mut ranges = Vec::with_capacity(entries.len());
            for entry in &entries {
                let bytes = segment_bytes(entry.rows, (dims * dtype.size()) as u64);
                let end = bytes.and_then(|bytes| entry.offset.checked_add(bytes));
                let end = end.filter(|end| *end <= length).ok_or_else(damaged)?;
                run.need(entry.offset..end)?;
                ranges.push(entry.offset as usize..end as usize);
            }
            let map = map_file(&run)?;
            for (entry, range) in entries.iter().zip(ranges) {
                let word = store::whole(&map[range.clone()]);
                if Entry::new(entry.offset, entry.rows, word).hash != entry.hash {
                    return Err(damaged());
                }
                opened.segments.push(Segment {
                    run: opened.runs.len(),
                    first: opened.len,
                    rows: entry.rows as usize,
                    offset: range.start,
                });
                opened.len += entry.rows as usize;
                opened
                    .resident
                    .count(range.len(), || release(&map, range.clone()));
            }
            opened.runs.push(map);
        }
        opened.release();
        Ok(opened)
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Calls `each` with the tags of all rows, in order, a segment at a time.
    pub(crate) fn for_each_tag(&self, mut each: impl FnMut(usize, &Tag)) {
        for segment in &self.segments {
            for (i, tag) in self.tags(segment).iter().enumerate() {
                each(segment.first + i, tag);
            }
        }
    }

    fn tags(&self, segment: &Segment) -> &[Tag] {
        let end = segment.offset + segment.rows * size_of::<Tag>();
        bytemuck::cast_slice(&self.runs[segment.run][segment.offset..end])
    }

    fn locate(&self, index: usize) -> (&Segment, usize) {
        let at = self
            .segments
            .partition_point(|segment| segment.first <= index)
            - 1;
        let segment = &self.segments[at];
        (segment, index - segment.first)
    }

    /// The tag of one row.
    pub(crate) fn tag(&self, index: usize) -> Tag {
        let (segment, i) = self.locate(index);
        self.tags(segment)[i]
    }

    /// The bytes of one row as they stood in the set.
    pub(crate) fn bytes(&self, index: usize) -> &[u8] {
        let (segment, i) = self.locate(index);
        let row = self.dims * self.dtype.size();
        self.resident.count(row, || self.release());
        let start = segment.offset + segment.rows * size_of::<Tag>() + i * row;
        &self.runs[segment.run][start..start + row]
    }

    /// Copies one row as float32.
    pub(crate) fn load(&self, index: usize, out: &mut [f32]) {
        to_f32(self.bytes(index), self.dtype, out);
    }

    /// Numbers in a row.
    pub(crate) fn dims(&self) -> usize {
        self.dims
    }

    /// Lets go of the pages of all rows.
    pub(crate) fn release(&self) {
        for segment in &self.segments {
            let row = size_of::<Tag>() + self.dims * self.dtype.size();
            release(
                &self.runs[segment.run],
                segment.offset..segment.offset + segment.rows * row,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Folders, WORK};

    const BUCKETS: Buckets = Buckets {
        clusters: 10,
        count: 3,
    };

    fn tags() -> Vec<Tag> {
        let tag = |row| Tag {
            row,
            score: row as f64,
            cluster: (bunny_base::random::mix(row) % 10) as u32,
            padding: 0,
        };
        (0..100).map(tag).collect()
    }

    /// Three runs of the same rows, one of them empty, in chunks.
    fn write(store: &Folders, chunk: usize) {
        let rows: Vec<[u8; 6]> = (0..100).map(|i| [i; 6]).collect();
        let tags = tags();
        for (part, range) in [(0, 0..40), (1, 40..40), (2, 40..100)] {
            let directory = store::fill(store, &run_key(WORK, part), |out| {
                let mut run = RunWriter::new(out, 6);
                for chunk in tags[range].chunks(chunk) {
                    for bucket in 0..3 {
                        let of = |tag: &&Tag| BUCKETS.of(tag.cluster) == bucket;
                        let here: Vec<Tag> = chunk.iter().filter(of).copied().collect();
                        run.segment(&here, |put| {
                            here.iter().try_for_each(|tag| put(&rows[tag.row as usize]))
                        })?;
                    }
                }
                Ok(run.finish())
            });
            directory.unwrap().write(store, WORK, part).unwrap();
        }
    }

    fn open(store: &Folders, bucket: usize) -> Result<Bucket> {
        Bucket::open(store, WORK, 3, BUCKETS, bucket, (3, Dtype::Float16), 1000)
    }

    #[test]
    fn a_bucket_holds_the_rows_of_its_clusters_in_order_whatever_the_chunks() {
        for bucket in 0..3 {
            for cluster in BUCKETS.clusters(bucket) {
                assert_eq!(BUCKETS.of(cluster), bucket);
            }
        }
        assert_eq!(BUCKETS.clusters(0).start, 0);
        assert_eq!(BUCKETS.clusters(2).end, 10);
        for chunk in [1, 7, 100] {
            let dir = tempfile::tempdir().unwrap();
            let store = Folders::new(dir.path(), dir.path());
            write(&store, chunk);
            for bucket in 0..3 {
                let found = open(&store, bucket).unwrap();
                let here = tags().into_iter();
                let here = here.filter(|tag| BUCKETS.of(tag.cluster) == bucket);
                let expected: Vec<u64> = here.map(|tag| tag.row).collect();
                let mut seen = Vec::new();
                found.for_each_tag(|index, tag| {
                    assert_eq!(found.bytes(index), [tag.row as u8; 6]);
                    assert_eq!(found.tag(index).row, tag.row);
                    seen.push(tag.row);
                });
                assert_eq!(seen, expected);
                assert_eq!(found.len(), expected.len());
                found.release();
                assert_eq!(found.tag(0).row, expected[0]);
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_told_by_the_reader_of_the_bucket_it_lies_in() {
        let dir = tempfile::tempdir().unwrap();
        let store = Folders::new(dir.path(), dir.path());
        write(&store, 100);
        for name in ["run-00002.bin", "run-00002.directory"] {
            let path = dir.path().join(name);
            let good = std::fs::read(&path).unwrap();
            // What follows the segments is for those who read the whole run.
            let held = good.len() - 24;
            for at in 0..held {
                let mut bad = good.clone();
                bad[at] ^= 1 << (at % 8);
                std::fs::write(&path, &bad).unwrap();
                let told = (0..3)
                    .filter(|bucket| open(&store, *bucket).is_err())
                    .count();
                // The hash of a directory is one for all of its entries.
                let expected = if name.ends_with("bin") { 1 } else { 3 };
                assert_eq!(told, expected, "byte {at} of {name}");
            }
            std::fs::write(&path, &good).unwrap();
        }
    }
}
