//! k-means on a sample: Lloyd's algorithm with exact assignments and float64 sums in a fixed order,
//! so that the centroids are the same bits for any number of threads.

use rayon::prelude::*;

use super::nearest::{Nearest, Rows};
use crate::coreset::centroids::Centroids;
use crate::coreset::numeric::{cosine, distance_squared, dot};
use crate::coreset::options::{Geometry, Start};
use crate::coreset::worker::TileSize;
use bunny_base::random::mix_all;

/// Rows whose sums are joined in order; a constant, so that no sum depends on the threads.
const BLOCK: usize = 4096;

/// Keeps the draws of k-means apart from others of the same seed.
const DRAW: u64 = u64::from_le_bytes(*b"kmeans++");

/// Bytes that training takes, at most: the sample itself is mapped, but each of its rows has a label
/// (4), and then a place among those of its centroid (8) or, where a centroid has none, a distance
/// (16). Drawing the first centroids takes no more than that. No rows are no training.
pub(crate) fn bytes(rows: u64, clusters: u64, dims: usize) -> u64 {
    if rows == 0 {
        return 0;
    }
    let centroids = Centroids::bytes(clusters, dims);
    let assigning = centroids + Nearest::bytes(clusters, dims) + 4 * rows;
    let mending = centroids + 8 * clusters + (4 + 16) * rows;
    let summing = 2 * centroids + 24 * clusters + (4 + 8) * rows;
    assigning.max(mending).max(summing)
}

/// The centroids that training starts from: rows of the sample.
///
/// # Panics
/// Where the sample has fewer than `count` rows.
pub(crate) fn start(
    sample: &impl Rows,
    count: usize,
    geometry: Geometry,
    start: Start,
    seed: u64,
) -> Centroids {
    assert!(
        count > 0 && count <= sample.len(),
        "{count} centroids of {} rows",
        sample.len()
    );
    let chosen = match start {
        Start::Random => random(sample.len(), count, seed),
        Start::PlusPlus => plus_plus(sample, count, geometry, seed),
    };
    let dims = sample.dims();
    let mut values = vec![0.0; count * dims];
    for (row, values) in chosen.iter().zip(values.chunks_mut(dims)) {
        sample.load(*row..row + 1, values);
    }
    Centroids::new(values, dims, geometry)
}

/// The rows with the lowest hashes, in the order of the hashes.
fn random(rows: usize, count: usize, seed: u64) -> Vec<usize> {
    let mut hashes: Vec<(u64, usize)> = (0..rows)
        .map(|row| (mix_all(&[seed, DRAW, row as u64]), row))
        .collect();
    hashes.select_nth_unstable(count - 1);
    hashes.truncate(count);
    hashes.sort_unstable();
    hashes.into_iter().map(|(_, row)| row).collect()
}

/// Rows drawn with a chance proportional to the squared distance to those drawn before.
fn plus_plus(sample: &impl Rows, count: usize, geometry: Geometry, seed: u64) -> Vec<usize> {
    let dims = sample.dims();
    let mut chosen = vec![(mix_all(&[seed, DRAW, 0]) % sample.len() as u64) as usize];
    let mut weights = vec![f64::INFINITY; sample.len()];
    let mut last = vec![0.0; dims];
    while chosen.len() < count {
        let newest = chosen[chosen.len() - 1];
        sample.load(newest..newest + 1, &mut last);
        // Sums of blocks, in parallel; then the blocks in order.
        let sums: Vec<f64> = weights
            .par_chunks_mut(BLOCK)
            .enumerate()
            .map_init(
                || vec![0.0; dims],
                |row, (block, weights)| {
                    for (i, weight) in weights.iter_mut().enumerate() {
                        let index = block * BLOCK + i;
                        sample.load(index..index + 1, row);
                        *weight = weight.min(distance(row, &last, geometry));
                    }
                    weights.iter().sum()
                },
            )
            .collect();
        let total: f64 = sums.iter().sum();
        let fraction = mix_all(&[seed, DRAW, chosen.len() as u64]) as f64 / u64::MAX as f64;
        let mut left = fraction * total;
        let block = sums
            .iter()
            .position(|sum| {
                let here = left < *sum;
                if !here {
                    left -= sum;
                }
                here
            })
            .unwrap_or(sums.len() - 1);
        let start = block * BLOCK;
        let end = weights.len().min(start + BLOCK);
        let mut next = None;
        for (row, weight) in weights[start..end].iter().enumerate() {
            if *weight > 0.0 {
                next = Some(start + row);
                if left < *weight {
                    break;
                }
            }
            left -= weight;
        }
        // All rows drawn or equal to drawn ones: any other will do.
        chosen.push(next.unwrap_or_else(|| {
            (mix_all(&[seed, DRAW, chosen.len() as u64, 1]) % sample.len() as u64) as usize
        }));
    }
    chosen
}

/// How far a row is from a centroid, for draws and for mending: the squared Euclidean distance, or
/// one minus the cosine.
fn distance(row: &[f32], centroid: &[f32], geometry: Geometry) -> f64 {
    match geometry {
        Geometry::Euclidean => distance_squared(row, centroid),
        Geometry::Spherical => (1.0 - cosine(row, centroid)).max(0.0),
    }
}

/// One round of Lloyd's algorithm: every row goes to its nearest centroid, and every centroid to
/// the mean of its rows.
pub(crate) fn iterate(sample: &impl Rows, centroids: &Centroids, tile: TileSize) -> Centroids {
    let nearest = Nearest::new(centroids, tile);
    let labels = nearest.assign_all(sample);
    drop(nearest);
    means(sample, centroids, labels)
}

/// The means of the rows that are labelled with each centroid, each summed in the order of its rows:
/// sums of parts of them, added up, would be other bits. A centroid without rows takes the row that
/// is farthest from its own, of those that do not stand alone.
pub(crate) fn means(sample: &impl Rows, centroids: &Centroids, mut labels: Vec<u32>) -> Centroids {
    let mut counts = vec![0_usize; centroids.len()];
    for label in &labels {
        counts[*label as usize] += 1;
    }
    mend(sample, centroids, &mut labels, &mut counts);

    // The rows of each centroid, in order.
    let mut ends = counts.clone();
    let mut sum = 0;
    for end in &mut ends {
        sum += *end;
        *end = sum;
    }
    let mut next: Vec<usize> = ends
        .iter()
        .zip(&counts)
        .map(|(end, count)| end - count)
        .collect();
    let mut members = vec![0_usize; labels.len()];
    for (row, label) in labels.iter().enumerate() {
        let place = &mut next[*label as usize];
        members[*place] = row;
        *place += 1;
    }

    let dims = sample.dims();
    let mut values = vec![0.0; centroids.len() * dims];
    values.par_chunks_mut(dims).enumerate().for_each_init(
        || (vec![0.0_f32; dims], vec![0.0_f64; dims]),
        |(row, sums), (centroid, value)| {
            let members = &members[ends[centroid] - counts[centroid]..ends[centroid]];
            if members.is_empty() {
                value.copy_from_slice(centroids.row(centroid));
                return;
            }
            sums.fill(0.0);
            for member in members {
                sample.load(*member..member + 1, row);
                let weight = match centroids.geometry() {
                    Geometry::Euclidean => 1.0,
                    Geometry::Spherical => 1.0 / dot(row, row).sqrt(),
                };
                for (sum, x) in sums.iter_mut().zip(row.iter()) {
                    *sum += f64::from(*x) * weight;
                }
            }
            let divisor = match centroids.geometry() {
                Geometry::Euclidean => members.len() as f64,
                // Rows that cancel out leave no direction; their mean is kept then.
                Geometry::Spherical => {
                    let norm = sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
                    if norm > 0.0 {
                        norm
                    } else {
                        members.len() as f64
                    }
                }
            };
            for (value, sum) in value.iter_mut().zip(sums.iter()) {
                *value = (sum / divisor) as f32;
            }
        },
    );
    Centroids::new(values, dims, centroids.geometry())
}

/// Gives every empty cluster the farthest row that does not stand alone in its own.
fn mend(sample: &impl Rows, centroids: &Centroids, labels: &mut [u32], counts: &mut [usize]) {
    let empty: Vec<usize> = (0..counts.len()).filter(|c| counts[*c] == 0).collect();
    if empty.is_empty() {
        return;
    }
    let mut far: Vec<(f64, usize)> = labels
        .par_iter()
        .enumerate()
        .map_init(
            || vec![0.0; sample.dims()],
            |values, (row, label)| {
                sample.load(row..row + 1, values);
                let centroid = centroids.row(*label as usize);
                (distance(values, centroid, centroids.geometry()), row)
            },
        )
        .collect();
    far.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut far = far.into_iter();
    for cluster in empty {
        let row = far.find(|(_, row)| counts[labels[*row] as usize] > 1);
        let Some((_, row)) = row else { return };
        counts[labels[row] as usize] -= 1;
        labels[row] = cluster as u32;
        counts[cluster] = 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::nearest::Plain;
    use super::*;

    fn blobs() -> Vec<f32> {
        // Three blobs on a line, 40 rows each.
        (0..120)
            .flat_map(|i| {
                let noise = (mix_all(&[9, i]) >> 40) as f32 / (1 << 24) as f32;
                [[0.0, 1.0], [5.0, 1.0], [9.0, 2.0]][i as usize % 3].map(|x| x + 0.1 * noise)
            })
            .collect()
    }

    #[test]
    fn the_threads_and_tiles_do_not_change_a_bit() {
        let values = blobs();
        let sample = Plain {
            values: &values,
            dims: 2,
        };
        for geometry in [Geometry::Euclidean, Geometry::Spherical] {
            for begin in [Start::Random, Start::PlusPlus] {
                let run = |threads, tile| {
                    let pool = rayon::ThreadPoolBuilder::new()
                        .num_threads(threads)
                        .build()
                        .unwrap();
                    pool.install(|| {
                        let mut centroids = start(&sample, 7, geometry, begin, 3);
                        for _ in 0..5 {
                            centroids = iterate(&sample, &centroids, tile);
                        }
                        centroids
                    })
                };
                let expected = run(1, TileSize::default());
                for (threads, rows, columns) in [(2, 1, 1), (7, 5, 3), (2, 128, 256)] {
                    assert_eq!(run(threads, TileSize { rows, columns }), expected);
                }
            }
        }
    }

    #[test]
    fn plus_plus_finds_the_blobs_and_lloyd_their_means() {
        let values = blobs();
        let sample = Plain {
            values: &values,
            dims: 2,
        };
        let mut centroids = start(&sample, 3, Geometry::Euclidean, Start::PlusPlus, 1);
        for _ in 0..3 {
            centroids = iterate(&sample, &centroids, TileSize::default());
        }
        let mut found: Vec<f32> = (0..3).map(|c| centroids.row(c)[0]).collect();
        found.sort_by(f32::total_cmp);
        for (blob, x) in found.iter().enumerate() {
            let rows = values.chunks(2).skip([0, 1, 2][blob]).step_by(3);
            let mean = rows.map(|row| f64::from(row[0])).sum::<f64>() / 40.0;
            assert!((f64::from(*x) - mean).abs() < 1e-6);
        }
    }

    #[test]
    fn empty_clusters_take_the_farthest_rows() {
        let values = [0.0, 1.0, 2.0, 50.0];
        let sample = Plain {
            values: &values,
            dims: 1,
        };
        let centroids = Centroids::new(vec![1.0, 1000.0, 2000.0], 1, Geometry::Euclidean);
        let next = iterate(&sample, &centroids, TileSize::default());
        // 50 goes to the first empty cluster, then 0 (as far as 2, but before it) to the second.
        assert_eq!(next.values(), [1.5, 50.0, 0.0]);
    }
}
