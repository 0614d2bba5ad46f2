//! Step 1 over buckets: the rows of each cluster are gathered, and one of each group of duplicates
//! is written down.

mod cluster;
mod units;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Stage, Task};
use crate::coreset::arrays::{Scratch, write_records};
use crate::coreset::bucket::{Bucket, Buckets};
use crate::coreset::centroids::Centroids;
use crate::coreset::histogram::Sizes;
use crate::coreset::options::{DuplicateOptions, Geometry};
use crate::coreset::survivor::kept_key;
use crate::coreset::worker::Worker;
use crate::embeddings::Dtype;
use crate::error::Result;
use crate::store::Store;
use cluster::{Found, deduplicate};
use units::Cluster;

/// Writes the survivors of a bucket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Duplicates {
    /// The folder of the runs, and how many there are.
    pub(crate) runs: String,
    pub(crate) parts: usize,
    pub(crate) buckets: Buckets,
    pub(crate) centroids: String,
    pub(crate) geometry: Geometry,
    pub(crate) dims: usize,
    pub(crate) dtype: Dtype,
    pub(crate) options: DuplicateOptions,
    /// The threshold's bits: readers of JSON may round the last digit of a number, and no result may
    /// depend on whether a task was sent.
    pub(crate) threshold: u64,
    pub(crate) seed: u64,
    pub(crate) stage: Stage,
}

/// What reducing a bucket found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deduplicated {
    /// Rows of the bucket.
    pub rows: u64,
    /// Rows that stayed.
    pub kept: u64,
    /// Rows that have the same bits as one before them.
    pub identical: u64,
    /// Rows in a cluster.
    pub clusters: Sizes,
    /// Rows in a group of duplicates.
    pub components: Sizes,
    /// Some groups of more than one row, by lot.
    #[serde(default)]
    pub joined: Vec<Joined>,
}

/// A group of duplicates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Its lot: the least are shown.
    pub lot: u64,
    /// Rows of the group.
    pub size: u64,
    /// The row that stays.
    pub stays: u64,
    /// The first of the others.
    pub others: Vec<u64>,
}

/// Groups that are shown, at most.
pub(crate) const SHOWN: usize = 8;

/// Keeps the groups with the least lots.
fn keep_shown(joined: &mut Vec<Joined>) {
    joined.sort_unstable_by_key(|group| (group.lot, group.stays));
    joined.truncate(SHOWN);
}

impl Deduplicated {
    /// Adds what another bucket found.
    pub fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        self.kept += other.kept;
        self.identical += other.identical;
        self.clusters.merge(&other.clusters);
        self.components.merge(&other.components);
        self.joined.extend(other.joined);
        keep_shown(&mut self.joined);
    }
}

impl Task for Duplicates {
    const NAME: &'static str = "duplicates";
    type Output = Deduplicated;

    fn parts(&self) -> usize {
        self.buckets.count as usize
    }

    fn stage(&self) -> &Stage {
        &self.stage
    }

    fn run(&self, part: usize, worker: &Worker<'_>, store: &dyn Store) -> Result<Deduplicated> {
        let options = DuplicateOptions {
            threshold: f64::from_bits(self.threshold),
            ..self.options.clone()
        };
        let centroids = Centroids::load(store, &self.centroids, self.dims, self.geometry)?;
        let scratch = store.scratch();
        let bucket = Bucket::open(
            store,
            &self.runs,
            self.parts,
            self.buckets,
            part,
            (self.dims, self.dtype),
            worker.memory,
        )?;
        let clusters = self.buckets.clusters(part);
        let in_memory = worker.memory as usize / 8;
        let (order, ends) = by_cluster(&bucket, &clusters, in_memory, scratch)?;
        let cluster = |i: usize| Cluster {
            bucket: &bucket,
            rows: &order[if i == 0 { 0 } else { ends[i - 1] }..ends[i]],
            number: clusters.start + i as u32,
            centroid: centroids.row(clusters.start as usize + i),
        };
        let find = |i: usize| {
            let cluster = cluster(i);
            let found = deduplicate(&cluster, &options, self.seed, scratch, worker);
            worker.progress.advance(cluster.rows.len() as u64);
            found
        };

        // Small clusters side by side, each on one thread; large ones one after the other, each on
        // all of them, since each takes its share of the memory.
        let large = (in_memory / (4 * self.dims) / (8 * rayon::current_num_threads())).max(256);
        let is_large = |i: &usize| cluster(*i).rows.len() > large;
        let mut found: Vec<Option<Found>> = (0..clusters.len()).map(|_| None).collect();
        for i in (0..clusters.len()).filter(is_large) {
            found[i] = Some(find(i)?);
        }
        found
            .par_iter_mut()
            .enumerate()
            .filter(|(_, found)| found.is_none())
            .try_for_each(|(i, found)| find(i).map(|new| *found = Some(new)))?;

        let mut summary = Deduplicated {
            rows: bucket.len() as u64,
            ..Deduplicated::default()
        };
        let mut kept = Vec::new();
        for (i, found) in found.into_iter().flatten().enumerate() {
            summary.clusters.add(cluster(i).rows.len() as u64);
            summary.components.merge(&found.components);
            summary.identical += found.identical;
            summary.joined.extend(found.joined);
            kept.extend(found.kept);
        }
        summary.kept = kept.len() as u64;
        keep_shown(&mut summary.joined);
        kept.par_sort_unstable_by_key(|kept| kept.row);
        write_records(store, &kept_key(&self.stage.folder, part), &kept)?;
        bucket.release();
        Ok(summary)
    }
}

/// The rows of a bucket sorted by cluster, in their order within each, and where each ends.
fn by_cluster(
    bucket: &Bucket,
    clusters: &std::ops::Range<u32>,
    in_memory: usize,
    folder: &std::path::Path,
) -> Result<(Scratch<u64>, Vec<usize>)> {
    let mut ends = vec![0; clusters.len()];
    bucket.for_each_tag(|_, tag| ends[(tag.cluster - clusters.start) as usize] += 1);
    let mut next = Vec::with_capacity(ends.len());
    let mut sum = 0;
    for end in &mut ends {
        next.push(sum);
        sum += *end;
        *end = sum;
    }
    let mut order = Scratch::zeros(bucket.len(), in_memory, folder)?;
    bucket.for_each_tag(|index, tag| {
        let place = &mut next[(tag.cluster - clusters.start) as usize];
        order[*place] = index as u64;
        *place += 1;
    });
    Ok((order, ends))
}
