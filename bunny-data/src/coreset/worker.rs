//! What the work of a selection may use, and who is told how far it is. Nothing here changes a
//! result.

use serde::{Deserialize, Serialize};

use super::survivor::Survivor;

/// What a task may use, and whom it tells how far it is. No result depends on it.
#[derive(Clone, Copy)]
pub struct Worker<'a> {
    /// Bytes of memory.
    pub memory: u64,
    /// Sizes of the tiles of matrix products.
    pub tile: TileSize,
    /// Who is told of rows done.
    pub progress: &'a dyn Progress,
}

impl std::fmt::Debug for Worker<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("memory", &self.memory)
            .field("tile", &self.tile)
            .finish_non_exhaustive()
    }
}

/// Who is told how far a stage is.
pub trait Progress: Sync {
    /// The work is about to begin, and its files will take so much of the disk.
    fn disk(&self, _disk: &DiskUse) {}

    /// A stage begins: its name, and the units it will count.
    fn begin(&self, stage: &str, total: u64);

    /// Units done since the last call.
    fn advance(&self, units: u64);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _stage: &str, _total: u64) {}

    fn advance(&self, _units: u64) {}
}

/// Bytes of disk that the work files of a set take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUse {
    /// Embeddings that have to be unpacked before they can be mapped.
    pub unpacked: u64,
    /// The sample that centroids are trained on, its labels, and the centroids.
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
            training: sample * (row_bytes + size_of::<u32>() as u64) + 2 * centroids,
            buckets: rows * (row_bytes + 24),
            tables: rows * (8 + 2 * size_of::<Survivor>() as u64),
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.unpacked + self.training + self.buckets + self.tables
    }
}

/// How many rows and centroids are multiplied at a time. No result depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileSize {
    /// Rows of a tile, at least 1.
    pub rows: usize,
    /// Centroids, or other rows, of a tile, at least 1; rounded up to a multiple of 32.
    pub columns: usize,
}

impl Default for TileSize {
    /// At 512 numbers of `bf16`, a second-level cache of 1 MiB holds the centroids in a quarter and
    /// the rows in a fifth: whole panels, whether they have twelve rows or 32.
    fn default() -> Self {
        Self {
            rows: 192,
            columns: 256,
        }
    }
}
