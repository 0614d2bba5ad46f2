//! Rows sorted into buckets of neighbouring clusters.
//!
//! Every part of the input writes one run. A run is a sequence of chunks, and in each chunk the
//! rows stand bucket by bucket, in their order:
//! ```text
//! run      segment (chunk 0, bucket 0)  segment (0, 1)  ...  segment (1, 0)  ...  directory  trailer
//! segment  Tag × n   the n rows' bytes, padded to 8
//! ```
//! A bucket is read from all runs in the order of parts and chunks, so the rows of a cluster stand
//! in the order of the set, whatever the length of the chunks was.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};
use memmap2::Mmap;

use super::arrays::Resident;
use crate::embeddings::Dtype;
use crate::embeddings::matrix::{map_file, release, to_f32};
use crate::error::{DataError, Result, WorkFault};
use crate::store::{NewFile, Store};

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
}

/// The last bytes of a run.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Trailer {
    directory: u64,
    chunks: u64,
    buckets: u64,
    row_bytes: u64,
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

/// Writes a run chunk by chunk.
#[derive(Debug)]
pub(crate) struct RunWriter<'a> {
    out: &'a mut NewFile,
    buckets: Buckets,
    row_bytes: usize,
    directory: Vec<Entry>,
    offset: u64,
}

impl<'a> RunWriter<'a> {
    pub(crate) fn new(out: &'a mut NewFile, buckets: Buckets, row_bytes: usize) -> Self {
        Self {
            out,
            buckets,
            row_bytes,
            directory: Vec::new(),
            offset: 0,
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.offset += bytes.len() as u64;
        self.out.put(bytes)
    }

    /// Writes the next rows of the part; `row(i)` are the bytes of the row that `tags[i]` tells of.
    pub(crate) fn chunk<'r>(
        &mut self,
        tags: &[Tag],
        row: impl Fn(usize) -> &'r [u8],
    ) -> Result<()> {
        let mut order: Vec<(u32, u32)> = tags
            .iter()
            .enumerate()
            .map(|(i, tag)| (self.buckets.of(tag.cluster) as u32, i as u32))
            .collect();
        order.sort_unstable();
        let mut rest = &order[..];
        for bucket in 0..self.buckets.count as u32 {
            let here = rest.partition_point(|(other, _)| *other == bucket);
            let (segment, after) = rest.split_at(here);
            rest = after;
            self.directory.push(Entry {
                offset: self.offset,
                rows: here as u64,
            });
            for (_, i) in segment {
                self.put(bytemuck::bytes_of(&tags[*i as usize]))?;
            }
            for (_, i) in segment {
                self.put(row(*i as usize))?;
            }
            let padding = (here * self.row_bytes).next_multiple_of(8) - here * self.row_bytes;
            self.put(&[0; 8][..padding])?;
        }
        Ok(())
    }

    /// Writes the directory.
    pub(crate) fn finish(mut self) -> Result<()> {
        let trailer = Trailer {
            directory: self.offset,
            chunks: self.directory.len() as u64 / self.buckets.count,
            buckets: self.buckets.count,
            row_bytes: self.row_bytes as u64,
        };
        let directory = std::mem::take(&mut self.directory);
        self.put(bytemuck::cast_slice(&directory))?;
        self.put(bytemuck::bytes_of(&trailer))
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
    /// Maps a bucket of the runs of so many parts; an eighth of the memory may be mapped pages.
    pub(crate) fn open(
        store: &dyn Store,
        folder: &str,
        parts: usize,
        bucket: usize,
        dims: usize,
        dtype: Dtype,
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
            let opened_run = store.open(&run_key(folder, part))?;
            let map = map_file(&opened_run)?;
            let broken = || DataError::work(&opened_run.path, WorkFault::Broken);
            let at = map
                .len()
                .checked_sub(size_of::<Trailer>())
                .ok_or_else(broken)?;
            let trailer: Trailer = bytemuck::pod_read_unaligned(&map[at..]);
            let directory = map
                .get(trailer.directory as usize..at)
                .map(bytemuck::cast_slice::<u8, Entry>)
                .filter(|directory| {
                    directory.len() as u64 == trailer.chunks * trailer.buckets
                        && trailer.row_bytes as usize == dims * dtype.size()
                        && (bucket as u64) < trailer.buckets
                })
                .ok_or_else(broken)?;
            for entry in directory
                .iter()
                .skip(bucket)
                .step_by(trailer.buckets as usize)
                .filter(|entry| entry.rows > 0)
            {
                opened.segments.push(Segment {
                    run: part,
                    first: opened.len,
                    rows: entry.rows as usize,
                    offset: entry.offset as usize,
                });
                opened.len += entry.rows as usize;
            }
            opened.runs.push(map);
        }
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
    use crate::store::{self, Folders, WORK};

    #[test]
    fn a_bucket_holds_the_rows_of_its_clusters_in_order_whatever_the_chunks() {
        let buckets = Buckets {
            clusters: 10,
            count: 3,
        };
        for bucket in 0..3 {
            for cluster in buckets.clusters(bucket) {
                assert_eq!(buckets.of(cluster), bucket);
            }
        }
        assert_eq!(buckets.clusters(0).start, 0);
        assert_eq!(buckets.clusters(2).end, 10);

        let rows: Vec<[u8; 6]> = (0..100).map(|i| [i; 6]).collect();
        let tags: Vec<Tag> = (0..100)
            .map(|row| Tag {
                row,
                score: row as f64,
                cluster: (bunny_base::random::mix(row) % 10) as u32,
                padding: 0,
            })
            .collect();
        for chunk in [1, 7, 100] {
            let dir = tempfile::tempdir().unwrap();
            let store = Folders::new(dir.path(), dir.path());
            for (part, range) in [(0, 0..40), (1, 40..40), (2, 40..100)] {
                store::fill(&store, &run_key(WORK, part), |out| {
                    let mut run = RunWriter::new(out, buckets, 6);
                    let first = range.start;
                    for start in range.clone().step_by(chunk) {
                        let end = range.end.min(start + chunk);
                        run.chunk(&tags[start..end], |i| &rows[start + i])?;
                    }
                    assert!(first <= range.end);
                    run.finish()
                })
                .unwrap();
            }
            for bucket in 0..3 {
                let found = Bucket::open(&store, WORK, 3, bucket, 3, Dtype::Float16, 1000).unwrap();
                let expected: Vec<u64> = tags
                    .iter()
                    .filter(|tag| buckets.of(tag.cluster) == bucket)
                    .map(|tag| tag.row)
                    .collect();
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
}
