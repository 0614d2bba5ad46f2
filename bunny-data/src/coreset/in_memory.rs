//! The kernels of a selection on rows that are in memory, for programs that bring their own.
//!
//! All run on the rayon pool they are called in, and are exact like the stages built on them.

use rayon::prelude::*;

use super::centroids::Centroids;
use super::numeric::{dot, ordered, scale};
use super::options::{ClusterOptions, DuplicateOptions, Order, Similarity, Window};
use super::search::lloyd;
use super::search::nearest::{Nearest, Plain};
use super::search::pairs::{Units, for_each_similar};
use super::search::ranks::{Looking, Select};
use super::search::union_find::UnionFind;
use super::worker::{Silent, TileSize, Worker};
use crate::error::{DataError, OptionFault, Result, RowFault};

/// Rows that one thread ranks at a time.
const BLOCK: usize = 1 << 16;

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
        return Err(DataError::option("--clusters", OptionFault::NotBelowRows));
    }
    let start = lloyd::start(&sample, count, options.geometry, options.start, seed);
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
        let next = lloyd::iterate(&sample, &centroids, TileSize::default());
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
        return Err(DataError::option(
            "--clusters",
            OptionFault::OneLargeCluster,
        ));
    }
    let norms: Vec<f64> = rows.chunks(dims).map(|row| dot(row, row).sqrt()).collect();
    // NaN fails the comparison too.
    if let Some(row) = norms
        .iter()
        .position(|norm| !(*norm > 0.0 && norm.is_finite()))
    {
        return Err(DataError::row("rows", row as u64, RowFault::NoDirection));
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
    for_each_similar(&units, &sets, &mut order, &worker);
    Ok((0..count as u32).map(|row| sets.find(row)).collect())
}

/// The rows within a window of ranks of their `values`, in their order; of equal values the first
/// row has the first rank. Each cluster's rows apart is the caller's to do.
pub fn in_window(values: &[f64], window: &Window) -> Vec<u64> {
    let key = |row: usize| {
        let value = ordered(values[row]);
        match window.order {
            Order::Descending => (!value, row as u64),
            Order::Ascending => (value, row as u64),
        }
    };
    let ranks = window.ranks(values.len() as u64);
    if ranks.is_empty() {
        return Vec::new();
    }
    let bounds: Vec<u64> = [ranks.start, ranks.end]
        .into_iter()
        .filter(|rank| *rank < values.len() as u64)
        .collect();
    let mut select = Select::new(&bounds, values.len() as u64);
    let blocks = |block: usize| block * BLOCK..values.len().min((block + 1) * BLOCK);
    let count = values.len().div_ceil(BLOCK);
    let found = loop {
        if let Some(found) = select.found() {
            break found;
        }
        let seen = (0..count)
            .into_par_iter()
            .fold(
                || select.looking(),
                |mut looking, block| {
                    blocks(block).for_each(|row| looking.see(key(row)));
                    looking
                },
            )
            .map(Looking::seen)
            .reduce_with(|mut a, b| {
                a.merge(b);
                a
            });
        if let Some(seen) = seen {
            select.advance(seen);
        }
    };
    let (from, to) = (found[0], found.get(1).copied());
    let inside: Vec<Vec<u64>> = (0..count)
        .into_par_iter()
        .map(|block| {
            blocks(block)
                .filter(|row| key(*row) >= from && to.is_none_or(|to| key(*row) < to))
                .map(|row| row as u64)
                .collect()
        })
        .collect();
    inside.concat()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_the_rows_that_sorting_puts_there() {
        // Many ties, and more rows than a block; every value in float64.
        let values: Vec<f64> = (0..100_000_u64)
            .map(|row| (bunny_base::random::mix(row) % 9000) as f64 / 7.0 - 300.0)
            .collect();
        for order in [Order::Descending, Order::Ascending] {
            for (from, to) in [(4000, 6000), (0, 1), (0, 10_000), (9_999, 10_000)] {
                let window = Window {
                    order,
                    ..Window::new(from, to)
                };
                let mut sorted: Vec<u64> = (0..values.len() as u64).collect();
                sorted.sort_by(|a, b| {
                    let ascending = values[*a as usize].total_cmp(&values[*b as usize]);
                    match order {
                        Order::Descending => ascending.reverse(),
                        Order::Ascending => ascending,
                    }
                });
                let ranks = from as usize * 10..to as usize * 10;
                let mut expected = sorted[ranks].to_vec();
                expected.sort_unstable();
                assert_eq!(in_window(&values, &window), expected);
            }
        }
        assert!(in_window(&[], &Window::new(0, 10_000)).is_empty());
        assert!(in_window(&[1.0], &Window::new(0, 5000)).is_empty());
    }

    #[test]
    fn components_are_those_of_all_pairs_over_several_panels() {
        // 1,500 rows, so that there are panels of 256, 512 and the rest, with sets across them.
        let dims = 8;
        let rows: Vec<f32> = (0..1500 * dims as u64)
            .map(|i| (bunny_base::random::mix_all(&[5, i]) >> 40) as f32 / (1 << 23) as f32 - 1.0)
            .collect();
        let options = DuplicateOptions {
            threshold: 0.88,
            ..DuplicateOptions::default()
        };
        let found = components(&rows, dims, &options).unwrap();
        let cosine = |a: usize, b: usize| {
            crate::coreset::numeric::cosine(
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
