//! The kernels of a selection on rows that are in memory, for programs that bring their own.
//!
//! All run on the rayon pool they are called in, and are exact like the stages built on them.

use super::assign::{Nearest, Plain, TileSize};
use super::centroids::Centroids;
use super::error::{CoresetError, Result};
use super::kmeans;
use super::numeric::{dot, scale};
use super::options::{ClusterOptions, DuplicateOptions, Similarity};
use super::pairs::{Sink, Units, for_each_similar};
use super::union_find::UnionFind;
use crate::engine::{Silent, Worker};

/// Bytes that the panels of [`components`] may take.
const MEMORY: u64 = 1 << 30;

/// The nearest centroid of each of `rows` (`[n, dims]`); of equally near ones the first.
pub fn assign(rows: &[f32], centroids: &Centroids) -> Vec<u32> {
    let nearest = Nearest::new(centroids, TileSize::default());
    nearest.assign_all(&Plain {
        values: rows,
        dims: centroids.dims(),
    })
}

/// Trains centroids on all of `rows` (`[n, dims]`).
///
/// # Errors
/// When there are fewer rows than clusters, or no number of clusters is given.
pub fn train(rows: &[f32], dims: usize, options: &ClusterOptions, seed: u64) -> Result<Centroids> {
    let sample = Plain { values: rows, dims };
    let count = options.count.unwrap_or(0) as usize;
    if count == 0 || count > rows.len() / dims {
        return Err(CoresetError::option(
            "--clusters",
            "has to be between 1 and the number of rows",
        ));
    }
    let start = kmeans::start(&sample, count, options.geometry, options.start, seed);
    Ok(train_from(rows, &start, options))
}

/// Trains given centroids further on all of `rows` (`[n, dims]`), until they settle or the
/// iterations are done.
pub fn train_from(rows: &[f32], start: &Centroids, options: &ClusterOptions) -> Centroids {
    let sample = Plain {
        values: rows,
        dims: start.dims(),
    };
    let mut centroids = start.clone();
    for _ in 0..options.iterations {
        let next = kmeans::iterate(&sample, &centroids, TileSize::default());
        if next == centroids {
            break;
        }
        centroids = next;
    }
    centroids
}

/// The connected component of each of `rows` (`[n, dims]`), named by its first row, where rows
/// above the threshold are joined.
///
/// # Errors
/// When a row has no direction, or there are 2³² rows or more.
pub fn components(rows: &[f32], dims: usize, options: &DuplicateOptions) -> Result<Vec<u32>> {
    let count = rows.len() / dims;
    if count > u32::MAX as usize {
        return Err(CoresetError::option(
            "--clusters",
            "2^32 rows in one cluster are too many",
        ));
    }
    let norms: Vec<f64> = rows.chunks(dims).map(|row| dot(row, row).sqrt()).collect();
    // NaN fails the comparison too.
    if let Some(row) = norms
        .iter()
        .position(|norm| !(*norm > 0.0 && norm.is_finite()))
    {
        return Err(CoresetError::row("rows", row as u64, "it has no direction"));
    }
    let units = MemoryUnits {
        rows,
        dims,
        longest: match options.similarity {
            Similarity::Cosine => 1.0 + 1e-6,
            Similarity::Dot => norms.iter().copied().fold(0.0, f64::max),
        },
        norms,
        options,
    };
    let mut parents = vec![0; count];
    let sets = UnionFind::new(&mut parents);
    let mut order: Vec<u32> = (0..count as u32).collect();
    let worker = Worker {
        memory: MEMORY,
        tile: TileSize::default(),
        progress: &Silent,
    };
    for_each_similar(&units, &Joined(&sets), &mut order, &worker);
    Ok((0..count as u32).map(|row| sets.find(row)).collect())
}

struct MemoryUnits<'a> {
    rows: &'a [f32],
    dims: usize,
    longest: f64,
    norms: Vec<f64>,
    options: &'a DuplicateOptions,
}

impl MemoryUnits<'_> {
    fn row(&self, unit: u32) -> &[f32] {
        &self.rows[unit as usize * self.dims..(unit as usize + 1) * self.dims]
    }
}

impl Units for MemoryUnits<'_> {
    fn dims(&self) -> usize {
        self.dims
    }

    fn load(&self, unit: u32, out: &mut [f32]) {
        out.copy_from_slice(self.row(unit));
        if self.options.similarity == Similarity::Cosine {
            scale(out, 1.0 / self.norms[unit as usize]);
        }
    }

    fn longest(&self) -> f64 {
        self.longest
    }

    fn similar(&self, a: u32, b: u32) -> bool {
        let product = dot(self.row(a), self.row(b));
        self.options.joins(match self.options.similarity {
            Similarity::Cosine => product / (self.norms[a as usize] * self.norms[b as usize]),
            Similarity::Dot => product,
        })
    }

    fn threshold(&self) -> f64 {
        self.options.threshold
    }
}

/// Joins similar rows.
pub(crate) struct Joined<'a>(pub(crate) &'a UnionFind<'a>);

impl Sink for Joined<'_> {
    fn pair(&self, a: u32, b: u32) {
        self.0.join(a, b);
    }

    fn known(&self, a: u32, b: u32) -> bool {
        self.0.find(a) == self.0.find(b)
    }

    fn set(&self, unit: u32) -> Option<u32> {
        Some(self.0.find(unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_those_of_all_pairs_over_several_panels() {
        // 1,500 rows, so that there are panels of 256, 512 and the rest, with sets across them.
        let dims = 8;
        let rows: Vec<f32> = (0..1500 * dims as u64)
            .map(|i| (crate::hash::mix_all(&[5, i]) >> 40) as f32 / (1 << 23) as f32 - 1.0)
            .collect();
        let options = DuplicateOptions {
            threshold: 0.88,
            ..DuplicateOptions::default()
        };
        let found = components(&rows, dims, &options).unwrap();
        let cosine = |a: usize, b: usize| {
            super::super::numeric::cosine(
                &rows[a * dims..(a + 1) * dims],
                &rows[b * dims..(b + 1) * dims],
            )
        };
        let mut expected: Vec<u32> = (0..1500).collect();
        for a in 0..1500 {
            for b in 0..a {
                if cosine(a, b) > 0.88 && expected[a] != expected[b] {
                    let (low, high) = (expected[a].min(expected[b]), expected[a].max(expected[b]));
                    expected
                        .iter_mut()
                        .filter(|set| **set == high)
                        .for_each(|set| *set = low);
                }
            }
        }
        assert_eq!(found, expected);
        let mut sets = expected;
        sets.sort_unstable();
        sets.dedup();
        assert!(
            (100..1400).contains(&sets.len()),
            "{} sets tell little",
            sets.len()
        );
    }
}
