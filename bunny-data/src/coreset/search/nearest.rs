//! The nearest centroid of every row, exactly.
//!
//! Rows are multiplied with a tile of centroids at a time, and the scores are read while they are
//! still in the first cache. Only centroids whose rough score comes within its error of the best one
//! are kept as candidates; where there is more than one, float64 decides. Distances are those between
//! vectors less the centroids' mean: where all embeddings point into one cone, what they share would
//! only make scores rougher.

use bunny_kernels::rough::{Arithmetic, Extent, RowPanels, VectorTiles};
use rayon::prelude::*;

use crate::coreset::centroids::Centroids;
use crate::coreset::numeric::{dot, scale};
use crate::coreset::options::Geometry;
use crate::coreset::worker::TileSize;

/// Rows that can be read as float32.
pub(crate) trait Rows: Sync {
    /// How many.
    fn len(&self) -> usize;
    /// Numbers in a row.
    fn dims(&self) -> usize;
    /// Copies rows into `out`.
    fn load(&self, rows: std::ops::Range<usize>, out: &mut [f32]);
}

/// Float32 rows in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) dims: usize,
}

impl Rows for Plain<'_> {
    fn len(&self) -> usize {
        self.values.len() / self.dims
    }

    fn dims(&self) -> usize {
        self.dims
    }

    fn load(&self, rows: std::ops::Range<usize>, out: &mut [f32]) {
        out.copy_from_slice(&self.values[rows.start * self.dims..rows.end * self.dims]);
    }
}

/// Centroids laid out to find the nearest one.
#[derive(Debug)]
pub(crate) struct Nearest {
    /// `[count, dims]`: the centroids, of unit length in spherical geometry.
    vectors: Vec<f32>,
    tiles: VectorTiles,
    /// `-‖c‖² / 2` (Euclidean) or 0: added to `x · c`, the nearest centroid scores highest.
    offsets: Vec<f64>,
    dims: usize,
    tile: TileSize,
}

/// What one thread needs.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    rows: Vec<f32>,
    panels: RowPanels,
    best: Vec<Best>,
}

/// The candidates of one row: every centroid whose score is at least the row's floor.
#[derive(Debug, Default)]
struct Best {
    score: f32,
    slack: f64,
    candidates: Vec<(u32, f32)>,
}

impl Best {
    fn reset(&mut self, slack: f64) {
        self.score = f32::NEG_INFINITY;
        self.slack = slack;
        self.candidates.clear();
    }

    /// Takes the scores of neighbouring centroids, and raises the floor to what can still win.
    fn take(&mut self, first: usize, scores: &[f32], floor: &mut f32) {
        let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if highest > self.score {
            self.score = highest;
            *floor = ((f64::from(highest) - self.slack) as f32).next_down();
            self.candidates.retain(|(_, score)| *score >= *floor);
        }
        for (i, score) in scores.iter().enumerate() {
            if *score >= *floor {
                self.candidates.push(((first + i) as u32, *score));
            }
        }
    }
}

impl Nearest {
    pub(crate) fn new(centroids: &Centroids, tile: TileSize) -> Self {
        Self::with(Arithmetic::fastest(), centroids, tile)
    }

    fn with(arithmetic: Arithmetic, centroids: &Centroids, tile: TileSize) -> Self {
        let dims = centroids.dims();
        let mut vectors = centroids.values().to_vec();
        let offsets: Vec<f64> = match centroids.geometry() {
            Geometry::Euclidean => vectors.chunks(dims).map(|c| -dot(c, c) / 2.0).collect(),
            Geometry::Spherical => {
                vectors.par_chunks_mut(dims).for_each(|vector| {
                    let norm = dot(vector, vector).sqrt();
                    if norm > 0.0 {
                        scale(vector, 1.0 / norm);
                    }
                });
                vec![0.0; centroids.len()]
            }
        };
        // x · c = (x − m) · (c − m) + m · c + what is the same for all c.
        let mean = mean(&vectors, dims);
        let mut biases: Vec<f64> = vectors
            .par_chunks(dims)
            .zip(&offsets)
            .map(|(c, offset)| dot(&mean, c) + offset)
            .collect();
        let highest = biases.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        biases.iter_mut().for_each(|bias| *bias -= highest);
        Self {
            tiles: VectorTiles::centred(arithmetic, &vectors, mean, tile.columns)
                .with_biases(biases.into_iter().map(|bias| bias as f32)),
            vectors,
            offsets,
            dims,
            tile,
        }
    }

    /// Bytes that `count` centroids take here.
    pub(crate) fn bytes(count: u64, dims: usize) -> u64 {
        count * (2 * 4 * dims as u64 + 12)
    }

    /// The score that decides: the nearest centroid has the highest, and of equal ones the first
    /// wins.
    pub(crate) fn score(&self, row: &[f32], centroid: usize) -> f64 {
        let vector = &self.vectors[centroid * self.dims..(centroid + 1) * self.dims];
        dot(row, vector) + self.offsets[centroid]
    }

    /// How far two scores of a row of this extent can be apart for the lower one to be the higher.
    fn slack(&self, row: Extent) -> f64 {
        2.0 * self.tiles.error(row)
    }

    /// The nearest centroid of each of `rows` (`[labels, dims]`).
    pub(crate) fn assign(&self, rows: &[f32], labels: &mut [u32], work: &mut Workspace) {
        for (rows, labels) in rows
            .chunks(self.tile.rows * self.dims)
            .zip(labels.chunks_mut(self.tile.rows))
        {
            self.assign_tile(rows, labels, &mut work.panels, &mut work.best);
        }
    }

    fn assign_tile(
        &self,
        rows: &[f32],
        labels: &mut [u32],
        panels: &mut RowPanels,
        best: &mut Vec<Best>,
    ) {
        panels.fill(&self.tiles, rows);
        best.resize_with(labels.len(), Best::default);
        for (extent, best) in panels.extents().iter().zip(best.iter_mut()) {
            best.reset(self.slack(*extent));
        }
        for tile in 0..self.tiles.tile_count() {
            let tile = self.tiles.range(tile);
            self.tiles.scan(tile, panels, |row, first, scores, floor| {
                best[row].take(first, scores, floor);
            });
        }
        for ((row, label), best) in rows.chunks(self.dims).zip(labels).zip(best) {
            *label = self.decide(row, &best.candidates);
        }
    }

    fn decide(&self, row: &[f32], candidates: &[(u32, f32)]) -> u32 {
        match candidates {
            [(only, _)] => *only,
            _ => {
                let mut best = (0, f64::NEG_INFINITY);
                // Tiles are seen in order, so the first of equal scores is the lowest centroid.
                for (centroid, _) in candidates {
                    let score = self.score(row, *centroid as usize);
                    if score > best.1 {
                        best = (*centroid, score);
                    }
                }
                best.0
            }
        }
    }

    /// The `count` nearest centroids of each of `rows` (`[n, dims]`), nearest first: `[n, count]`.
    pub(crate) fn nearest(&self, rows: &[f32], count: usize, work: &mut Workspace) -> Vec<u32> {
        let all = self.offsets.len();
        let count = count.min(all);
        let mut found = Vec::with_capacity(rows.len() / self.dims * count);
        let mut scores = vec![0.0; self.tile.rows * all];
        for rows in rows.chunks(self.tile.rows * self.dims) {
            work.panels.fill(&self.tiles, rows);
            for tile in 0..self.tiles.tile_count() {
                let tile = self.tiles.range(tile);
                self.tiles
                    .scan(tile, &mut work.panels, |row, first, found, _| {
                        scores[row * all + first..][..found.len()].copy_from_slice(found);
                    });
            }
            let extents = work.panels.extents().iter();
            for ((row, extent), scores) in
                rows.chunks(self.dims).zip(extents).zip(scores.chunks(all))
            {
                let mut sorted = scores.to_vec();
                let (_, last, _) = sorted.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
                let floor = f64::from(*last) - self.slack(*extent);
                let mut candidates: Vec<(f64, u32)> = (0..all)
                    .filter(|i| f64::from(scores[*i]) >= floor)
                    .map(|i| (self.score(row, i), i as u32))
                    .collect();
                candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                found.extend(candidates[..count].iter().map(|(_, centroid)| centroid));
            }
        }
        found
    }

    /// The nearest centroid of all rows, on all threads of the pool this runs in.
    pub(crate) fn assign_all(&self, rows: &impl Rows) -> Vec<u32> {
        let mut labels = vec![0; rows.len()];
        labels
            .par_chunks_mut(self.tile.rows)
            .enumerate()
            .for_each_init(Workspace::default, |work, (tile, labels)| {
                let start = tile * self.tile.rows;
                let mut values = std::mem::take(&mut work.rows);
                values.resize(labels.len() * self.dims, 0.0);
                rows.load(start..start + labels.len(), &mut values);
                self.assign(&values, labels, work);
                work.rows = values;
            });
        labels
    }
}

/// The mean of some vectors, rounded to float32.
fn mean(vectors: &[f32], dims: usize) -> Vec<f32> {
    let mut sums = vec![0.0_f64; dims];
    for vector in vectors.chunks(dims) {
        for (sum, value) in sums.iter_mut().zip(vector) {
            *sum += f64::from(*value);
        }
    }
    let count = (vectors.len() / dims).max(1) as f64;
    sums.into_iter().map(|sum| (sum / count) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bunny_base::random::mix_all;

    fn vectors(seed: u64, count: usize, dims: usize) -> Vec<f32> {
        (0..count * dims)
            .map(|i| (mix_all(&[seed, i as u64]) >> 40) as f32 / (1 << 23) as f32 - 1.0)
            .collect()
    }

    /// Every score in float64, the first of equal ones.
    fn by_hand(rows: &[f32], centroids: &Centroids) -> Vec<u32> {
        let nearest = Nearest::new(centroids, TileSize::default());
        rows.chunks(centroids.dims())
            .map(|row| {
                let scores: Vec<f64> = (0..centroids.len())
                    .map(|c| nearest.score(row, c))
                    .collect();
                let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                scores.iter().position(|score| *score == best).unwrap() as u32
            })
            .collect()
    }

    #[test]
    fn the_nearest_is_that_of_float64_for_every_arithmetic_tile_size_and_number_of_threads() {
        let dims = 19;
        for geometry in [Geometry::Euclidean, Geometry::Spherical] {
            let mut values = vectors(1, 70, dims);
            // Ties: the same centroid twice, and one a hair away.
            values.copy_within(0..dims, 65 * dims);
            values.copy_within(dims..2 * dims, 66 * dims);
            values[66 * dims] = values[dims].next_up();
            let centroids = Centroids::new(values.clone(), dims, geometry);
            let mut rows = vectors(2, 150, dims);
            rows.extend_from_slice(&values);
            let expected = by_hand(&rows, &centroids);
            assert!(
                !expected.contains(&65),
                "of two equal centroids the first wins"
            );
            let all = Plain {
                values: &rows,
                dims,
            };
            let tiles = [(1, 1), (7, 16), (128, 256), (33, 70)];
            let arithmetics = Arithmetic::here().into_iter();
            for (arithmetic, tile) in arithmetics.flat_map(|one| tiles.map(|tile| (one, tile))) {
                let tile = TileSize {
                    rows: tile.0,
                    columns: tile.1,
                };
                let nearest = Nearest::with(arithmetic, &centroids, tile);
                for threads in [1, 2, 7] {
                    let pool = rayon::ThreadPoolBuilder::new()
                        .num_threads(threads)
                        .build()
                        .unwrap();
                    assert_eq!(pool.install(|| nearest.assign_all(&all)), expected);
                }
                let several = nearest.nearest(&rows, 3, &mut Workspace::default());
                let firsts: Vec<u32> = several.iter().step_by(3).copied().collect();
                assert_eq!(firsts, expected);
            }
        }
    }
}
