//! What a selection takes of memory and disk, checked before anything is written.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::assign::Nearest;
use super::centroids::Centroids;
use super::error::{CoresetError, Result};
use super::files::{folder_bytes, free_disk};
use super::kept::Kept;
use super::kmeans;
use super::options::{CoresetOptions, Search};
use crate::embeddings::EmbeddingSet;

/// Bytes of disk that the work files of a set take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUse {
    /// Embeddings that have to be unpacked before they can be mapped.
    pub unpacked: u64,
    /// The sample that centroids are trained on, and the centroids.
    pub training: u64,
    /// The rows, sorted into buckets of clusters.
    pub buckets: u64,
    /// Scores and survivors, at most.
    pub tables: u64,
}

impl DiskUse {
    /// The work files of `rows` rows of so many bytes.
    pub fn new(unpacked: u64, rows: u64, row_bytes: u64, sample: u64, centroids: u64) -> Self {
        Self {
            unpacked,
            training: sample * row_bytes + 2 * centroids,
            buckets: rows * (row_bytes + 24),
            tables: rows * (8 + 2 * size_of::<Kept>() as u64),
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.unpacked + self.training + self.buckets + self.tables
    }
}

/// Fails where the memory given or the disk of the work files cannot suffice; the disk they take.
pub(crate) fn check(
    options: &CoresetOptions,
    set: &EmbeddingSet,
    work: &Path,
    memory: u64,
) -> Result<DiskUse> {
    let clusters = cluster_count(options, set)?;
    if clusters > set.rows() && options.clusters.centroids.is_none() {
        return Err(CoresetError::option(
            "--clusters",
            format!("{clusters} clusters of {} rows", set.rows()),
        ));
    }
    let sample = match options.clusters.centroids {
        Some(_) => 0,
        None => options
            .clusters
            .rows_per_centroid
            .saturating_mul(clusters)
            .min(set.rows()),
    };
    let is_two_level = options.clusters.search != Search::Exact;
    let searching = search_bytes(clusters, set.dims, is_two_level);
    fits_half(
        "searching the centroids in half of the memory",
        searching,
        memory,
    )?;
    let training = kmeans::bytes(sample, clusters, set.dims);
    fits_half("k-means in half of the memory", training, memory)?;
    let disk = DiskUse::new(
        set.packed_bytes(),
        set.rows(),
        set.row_bytes() as u64,
        sample,
        Centroids::bytes(clusters, set.dims),
    );
    let left = disk.total().saturating_sub(folder_bytes(work));
    match free_disk(work) {
        Some(free) if free < left => Err(CoresetError::Disk {
            path: work.to_owned(),
            need: left,
            free,
        }),
        _ => Ok(disk),
    }
}

/// Bytes that finding the nearest centroid takes: all centroids once as they are, and once as the
/// search lays them out; two levels lay out every centroid twice.
pub(crate) fn search_bytes(clusters: u64, dims: usize, is_two_level: bool) -> u64 {
    let layouts = if is_two_level { 2 } else { 1 };
    Centroids::bytes(clusters, dims) + layouts * Nearest::bytes(clusters, dims)
}

/// Mapped rows and what is done with them take the other half.
fn fits_half(what: &'static str, need: u64, memory: u64) -> Result<()> {
    if need > memory / 2 {
        return Err(CoresetError::Memory {
            what,
            need: 2 * need,
            budget: memory,
        });
    }
    Ok(())
}

/// How many clusters the set is divided into: those of a file of centroids, where one is given.
pub(crate) fn cluster_count(options: &CoresetOptions, set: &EmbeddingSet) -> Result<u64> {
    let clusters = &options.clusters;
    let Some(path) = clusters.centroids.as_ref().or(clusters.start_from.as_ref()) else {
        return Ok(options.cluster_count(set.rows()));
    };
    let given = Centroids::shape(path, set.dims)?.rows;
    match clusters.count {
        Some(count) if count != given => Err(CoresetError::option(
            "--start-from",
            format!("{given} centroids, and --clusters asks for {count}"),
        )),
        _ => Ok(given),
    }
}

/// Bytes of memory on this machine; `None` where the system does not say.
pub fn machine_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
