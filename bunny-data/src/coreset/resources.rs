//! What a selection takes of memory and disk, checked before anything is written.

use super::centroids::Centroids;
use super::options::{CoresetOptions, Search};
use super::search::lloyd;
use super::search::nearest::Nearest;
use super::worker::DiskUse;
use crate::embeddings::EmbeddingSet;
use crate::error::{DataError, OptionFault, Result};
use crate::store::{Store, WORK};

/// Fails where the memory given or the disk of the work files cannot suffice; the disk they take.
pub(crate) fn check(
    options: &CoresetOptions,
    set: &EmbeddingSet,
    store: &dyn Store,
    memory: u64,
) -> Result<DiskUse> {
    let clusters = cluster_count(options, set)?;
    if clusters > set.rows() && options.clusters.centroids.is_none() {
        let rows = set.rows();
        let fault = OptionFault::MoreClustersThanRows { clusters, rows };
        return Err(DataError::option("--clusters", fault));
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
    let training = lloyd::bytes(sample, clusters, set.dims);
    fits_half("k-means in half of the memory", training, memory)?;
    let disk = DiskUse::new(
        set.packed_bytes(),
        set.rows(),
        set.row_bytes() as u64,
        sample,
        Centroids::bytes(clusters, set.dims),
    );
    let left = disk.total().saturating_sub(bytes_below(store, WORK)?);
    match store.free() {
        Some(free) if free < left => Err(DataError::Disk {
            path: store.path(WORK),
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
        return Err(DataError::Memory {
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
    let given = Centroids::count(path, set.dims)?;
    match clusters.count {
        Some(asked) if asked != given => {
            let fault = OptionFault::OtherCount { given, asked };
            Err(DataError::option("--start-from", fault))
        }
        _ => Ok(given),
    }
}

/// Bytes of all files below a folder.
fn bytes_below(store: &dyn Store, folder: &str) -> Result<u64> {
    let mut bytes = 0;
    for entry in store.entries(folder)? {
        bytes += match entry.name.to_str() {
            Some(name) if entry.is_folder => bytes_below(store, &format!("{folder}/{name}"))?,
            _ => entry.bytes,
        };
    }
    Ok(bytes)
}
