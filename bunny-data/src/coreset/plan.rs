//! What a selection would cost on this machine, or on several like it, before it starts.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use rayon::prelude::*;
use serde::Serialize;

use super::bucket::Buckets;
use super::centroids::Centroids;
use super::numeric::dot;
use super::options::Geometry;
use super::pipeline::Division;
use super::resources::search_bytes;
use super::search::lloyd;
use super::search::nearest::{Nearest, Plain};
use super::survivor::Survivor;
use super::worker::{DiskUse, Worker};
use crate::embeddings::Dtype;
use crate::embeddings::matrix::to_f32;
use crate::error::{DataError, Result};
use crate::fast_hash::fast_hash;

/// A selection that is planned.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanOptions {
    /// Rows of the set.
    pub rows: u64,
    /// Numbers in a row.
    pub dims: usize,
    /// The type of the numbers.
    pub dtype: Dtype,
    /// Clusters.
    pub clusters: u64,
    /// Rows of a sample for each centroid; 0 where centroids are given.
    pub rows_per_centroid: u64,
    /// Rounds of k-means over the sample.
    pub iterations: u64,
    /// For two-level search, how many groups are searched.
    pub probes: Option<u64>,
    /// The sum of the squared sizes of clusters, as a multiple of that of equal ones.
    pub skew: f64,
    /// Machines like this one that do parts.
    pub workers: u64,
    /// Bytes a second between each of them and a store elsewhere, as S3; `None` where all share the disk
    /// that is measured.
    pub network: Option<f64>,
    /// How the work is divided.
    pub division: Division,
}

/// What this machine does in a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// Floating-point operations of the assignment.
    pub flops: f64,
    /// Bytes of embeddings looked through in memory.
    pub scanned: f64,
    /// Bytes written to the disk of the work files, synced.
    pub written: f64,
    /// Bytes read from it.
    pub read: f64,
}

/// The cost of one step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanStep {
    /// What the step is called.
    pub name: &'static str,
    /// Floating-point operations.
    pub flop: f64,
    /// Bytes read.
    pub read: f64,
    /// Bytes written.
    pub written: f64,
    /// Bytes of memory that the step cannot do without.
    pub memory: f64,
    /// Requests to a store elsewhere.
    pub requests: f64,
    /// Seconds, on so many machines like this one.
    pub seconds: f64,
}

/// The whole plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// What was planned.
    pub options: PlanOptions,
    /// What the machine does in a second.
    pub calibration: Calibration,
    /// The steps, in order.
    pub steps: Vec<PlanStep>,
    /// Bytes of disk for the work files.
    pub disk: DiskUse,
}

/// Rows and centroids multiplied at a time while calibrating.
const TRIAL: (usize, usize) = (4096, 1024);

/// Bytes written and read while calibrating.
const TRIAL_FILE: usize = 256 << 20;

/// Measures this machine for a few seconds; a file of 256 MiB comes and goes in `folder`.
///
/// # Errors
/// When that file cannot be written or read.
pub fn calibrate(options: &PlanOptions, folder: &Path, worker: &Worker<'_>) -> Result<Calibration> {
    let dims = options.dims;
    let value =
        |i: usize| (bunny_base::random::mix(i as u64) >> 40) as f32 / (1 << 24) as f32 - 0.5;
    let rows: Vec<f32> = (0..TRIAL.0 * dims).map(value).collect();
    let centroids = (0..TRIAL.1 * dims).map(|i| value(i + rows.len())).collect();
    let nearest = Nearest::new(
        &Centroids::new(centroids, dims, Geometry::Euclidean),
        worker.tile,
    );
    let seconds = fastest(|| {
        nearest
            .assign_all(&Plain {
                values: &rows,
                dims,
            })
            .len()
    });
    let flops = 2.0 * (TRIAL.0 * TRIAL.1 * dims) as f64 / seconds;

    let halves: Vec<u8> = vec![0x2e; TRIAL.0 * dims * options.dtype.size()];
    let row = dims * options.dtype.size();
    let seconds = fastest(|| {
        halves
            .par_chunks(row * 256)
            .map(|block| {
                let mut values = vec![0.0; block.len() / options.dtype.size()];
                to_f32(block, options.dtype, &mut values);
                let products: f64 = values.chunks(dims).map(|row| 1.5 * dot(row, row)).sum();
                (products as usize) ^ fast_hash(block) as usize
            })
            .reduce(|| 0, |a, b| a ^ b)
    });
    let scanned = halves.len() as f64 / seconds;
    let (written, read) = disk(folder)?;
    Ok(Calibration {
        flops,
        scanned,
        written,
        read,
    })
}

/// The time of the fastest run within a second.
fn fastest(mut run: impl FnMut() -> usize) -> f64 {
    let begin = Instant::now();
    let mut best = f64::INFINITY;
    while begin.elapsed().as_secs_f64() < 1.0 {
        let start = Instant::now();
        std::hint::black_box(run());
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

/// Bytes a second written, and read back from the disk rather than from the system's cache.
fn disk(folder: &Path) -> Result<(f64, f64)> {
    let io = |action| DataError::io(folder, action);
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io("write"))?;
    let mut block: Vec<u8> = (0..1_u64 << 17)
        .flat_map(|i| bunny_base::random::mix(i).to_le_bytes())
        .collect();
    let start = Instant::now();
    for _ in 0..TRIAL_FILE / block.len() {
        file.write_all(&block).map_err(io("write"))?;
    }
    file.as_file().sync_all().map_err(io("sync"))?;
    let written = TRIAL_FILE as f64 / start.elapsed().as_secs_f64();
    #[cfg(target_os = "linux")]
    {
        let _ = rustix::fs::fadvise(file.as_file(), 0, None, rustix::fs::Advice::DontNeed);
    }
    let mut reader = File::open(file.path()).map_err(io("open"))?;
    let start = Instant::now();
    while reader.read(&mut block).map_err(io("read"))? > 0 {}
    Ok((written, TRIAL_FILE as f64 / start.elapsed().as_secs_f64()))
}

/// What a step does.
#[derive(Default)]
struct Work {
    flop: f64,
    /// Bytes looked through in memory.
    looked: f64,
    memory: u64,
    /// Files that parts read and write, and those that the driver does.
    shared: Vec<Files>,
    driver: Vec<Files>,
}

/// Files that are read or, where their count is negative, written, and their bytes in all.
#[derive(Clone, Copy)]
struct Files {
    count: f64,
    bytes: f64,
}

impl Files {
    fn new(count: f64, bytes: f64) -> Self {
        Self { count, bytes }
    }

    fn read(&self) -> f64 {
        if self.count > 0.0 { self.bytes } else { 0.0 }
    }

    fn written(&self) -> f64 {
        if self.count < 0.0 { self.bytes } else { 0.0 }
    }

    /// A file is looked at and then brought, in pieces of 16 MiB; or put, in such pieces, and looked at.
    fn requests(&self) -> f64 {
        const PIECE: f64 = (16 << 20) as f64;
        let count = self.count.abs();
        if count == 0.0 {
            return 0.0;
        }
        let pieces = (self.bytes / count / PIECE).ceil().max(1.0);
        let ends = if self.count < 0.0 && pieces > 1.0 {
            2.0
        } else {
            0.0
        };
        count * (1.0 + pieces + ends)
    }
}

/// The cost of every step.
pub fn plan(options: PlanOptions, calibration: Calibration) -> Plan {
    let (n, k, d) = (
        options.rows as f64,
        options.clusters as f64,
        options.dims as f64,
    );
    let row = d * options.dtype.size() as f64;
    let sample_rows = options
        .rows_per_centroid
        .saturating_mul(options.clusters)
        .min(options.rows);
    let sample = sample_rows as f64;
    let training = lloyd::bytes(sample_rows, options.clusters, options.dims);
    let searching = search_bytes(options.clusters, options.dims, options.probes.is_some());
    let centroids = Centroids::bytes(options.clusters, options.dims);
    // Two levels: the centres of the groups, then the centroids of those searched.
    let compared = options.probes.map_or(k, |probes| {
        k.sqrt() * (1.0 + probes as f64).min(k.sqrt() + 1.0)
    });
    let workers = options.workers.max(1) as f64;
    let step = |name, work: Work| {
        let Work {
            flop,
            looked,
            memory,
            shared,
            driver,
        } = work;
        let computing = flop / calibration.flops + looked / calibration.scanned;
        let moving = |files: &[Files]| {
            let sum = |of: fn(&Files) -> f64| files.iter().map(of).sum::<f64>();
            let (read, written) = (sum(|files| files.read()), sum(|files| files.written()));
            let seconds = match options.network {
                Some(network) => (read + written) / network,
                None => read / calibration.read + written / calibration.written,
            };
            (read, written, sum(Files::requests), seconds)
        };
        let (shared, driver) = (moving(&shared), moving(&driver));
        // All machines share one disk, and each has its own way to a store elsewhere.
        let parts = match options.network {
            Some(_) => shared.3 / workers,
            None => shared.3,
        };
        PlanStep {
            name,
            flop,
            read: shared.0 + driver.0,
            written: shared.1 + driver.1,
            memory: memory as f64,
            requests: match options.network {
                Some(_) => shared.2 + driver.2,
                None => 0.0,
            },
            // Moving and computing overlap.
            seconds: (computing / workers).max(parts) + driver.3,
        }
    };
    // The paper's share of rows left by the first step, in the records that are ranked.
    let kept = 0.464 * n * size_of::<Survivor>() as f64;
    let (parts, buckets) = (
        (n / options.division.part_rows as f64).ceil(),
        Buckets::new(
            options.clusters,
            (n * row) as u64,
            options.division.bucket_bytes,
        )
        .count as f64,
    );
    let files = Files::new;
    let done = |parts: f64| files(-parts, parts * 300.0);
    let sample_parts = (sample / options.division.part_rows as f64).ceil();
    let centers = k * d * 4.0;
    let (rounds, ranked) = (options.iterations as f64, buckets.min(256.0));
    let steps = vec![
        step(
            "scan",
            Work {
                looked: 2.0 * n * row,
                shared: vec![
                    files(2.0 * parts, 2.0 * n * row),
                    files(-parts, 8.0 * n),
                    done(parts),
                ],
                ..Work::default()
            },
        ),
        step(
            "k-means",
            match sample_rows {
                0 => Work::default(),
                _ => Work {
                    flop: 2.0 * sample * k * d * rounds,
                    memory: training,
                    shared: vec![
                        files(rounds * sample_parts, rounds * sample * row),
                        files(rounds * sample_parts, rounds * sample_parts * centers),
                        files(-rounds * sample_parts, rounds * sample * 4.0),
                        done(rounds * sample_parts),
                    ],
                    driver: vec![
                        // Who is drawn is found in some passes over the scores.
                        files(4.0 * parts, 4.0 * 8.0 * n),
                        files(parts, n * row),
                        files(-1.0, sample * row),
                        files(2.0, 2.0 * sample * row),
                        files(rounds * sample_parts, rounds * sample * 4.0),
                        files(rounds, rounds * centers),
                        files(-rounds, rounds * centers),
                    ],
                    ..Work::default()
                },
            },
        ),
        step(
            "assign",
            Work {
                flop: 2.0 * n * compared * d,
                memory: searching,
                shared: vec![
                    files(2.0 * parts, n * (row + 8.0)),
                    files(parts, parts * centers),
                    files(-parts, n * (row + 24.0)),
                    files(-parts, parts * buckets * 24.0),
                    done(parts),
                ],
                ..Work::default()
            },
        ),
        step(
            "duplicates",
            Work {
                flop: n * (n / k) * d * options.skew,
                looked: n * row,
                memory: centroids,
                shared: vec![
                    files(parts * buckets, n * (row + 24.0)),
                    files(parts * buckets, parts * buckets * buckets * 24.0),
                    files(buckets, buckets * centers),
                    files(-buckets, kept),
                    done(buckets),
                ],
                ..Work::default()
            },
        ),
        // Two counts, and for each boundary of two windows up to four passes over the records.
        step(
            "ranks",
            Work {
                shared: vec![
                    files(10.0 * buckets, 10.0 * kept),
                    files(-buckets, kept / 5.0),
                    done(11.0 * ranked),
                ],
                driver: vec![files(buckets, kept / 5.0), files(-parts, kept / 5.0)],
                ..Work::default()
            },
        ),
    ];
    let disk = DiskUse::new(0, options.rows, row as u64, sample_rows, centroids);
    Plan {
        options,
        calibration,
        steps,
        disk,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_assignment_takes_as_many_operations_as_by_hand() {
        let options = PlanOptions {
            rows: 2_053_332_591,
            dims: 768,
            dtype: Dtype::Float16,
            clusters: 100_000,
            rows_per_centroid: 256,
            iterations: 25,
            probes: None,
            skew: 1.0,
            workers: 1,
            network: None,
            division: Division::default(),
        };
        let calibration = Calibration {
            flops: 450e9,
            scanned: 1e9,
            written: 1e9,
            read: 1e9,
        };
        let plan = plan(options, calibration);
        let assign = &plan.steps[2];
        // 2 N k d = 3.15e17, 8.1 days at 450 GFLOP/s.
        assert!((assign.flop / 3.154e17 - 1.0).abs() < 1e-3);
        assert!((assign.seconds / 86_400.0 - 8.1).abs() < 0.05);
        // N (N / k) d = 3.2e16 for pairs of equal clusters.
        assert!((plan.steps[3].flop / 3.238e16 - 1.0).abs() < 1e-3);
        assert!(plan.disk.buckets > 3_154_000_000_000);
    }

    #[test]
    fn more_machines_share_what_is_not_the_drivers() {
        let options = PlanOptions {
            rows: 2_053_332_591,
            dims: 768,
            dtype: Dtype::Float16,
            clusters: 100_000,
            rows_per_centroid: 256,
            iterations: 25,
            probes: None,
            skew: 1.0,
            workers: 1,
            network: Some(1e9),
            division: Division::default(),
        };
        let calibration = Calibration {
            flops: 450e9,
            scanned: 1e9,
            written: 1e9,
            read: 1e9,
        };
        let one = plan(options.clone(), calibration);
        let many = plan(
            PlanOptions {
                workers: 16,
                ..options
            },
            calibration,
        );
        let seconds = |plan: &Plan, at: usize| plan.steps[at].seconds;
        // Assignment is computing: 8.1 days are 12.1 hours of 16 machines.
        assert!((seconds(&one, 2) / seconds(&many, 2) - 16.0).abs() < 0.1);
        // The driver draws the sample from 3.15 TB, 53 minutes at a gigabyte a second.
        assert!(seconds(&many, 1) > seconds(&one, 1) / 16.0 + 3100.0);
        // 1,959 parts of rows in 4,096 buckets, each looked at and brought with its directory.
        let requests = many.steps[3].requests;
        assert!(
            (requests / (4.0 * 1959.0 * 4096.0) - 1.0).abs() < 0.01,
            "{requests}"
        );
        assert!(many.steps[3].read > 3.2e12);
        assert_eq!(one.steps[3].requests, requests);
    }

    #[test]
    fn what_two_levels_take_of_memory_is_planned() {
        let options = PlanOptions {
            rows: 1_000_000,
            dims: 100,
            dtype: Dtype::Float16,
            clusters: 1000,
            rows_per_centroid: 256,
            iterations: 25,
            probes: None,
            skew: 1.0,
            workers: 1,
            network: None,
            division: Division::default(),
        };
        let calibration = Calibration {
            flops: 1e9,
            scanned: 1e9,
            written: 1e9,
            read: 1e9,
        };
        let memory = |probes| {
            let options = PlanOptions {
                probes,
                ..options.clone()
            };
            let plan = plan(options, calibration);
            [plan.steps[1].memory, plan.steps[2].memory]
        };
        // A centroid is 400 bytes, in a layout 812; of the 256,000 rows each has a label and, where
        // a centroid has none, a distance.
        assert_eq!(
            memory(None),
            [1000.0 * 408.0 + 256e3 * 20.0, 1000.0 * 1212.0]
        );
        assert_eq!(memory(Some(4))[1], 1000.0 * 2024.0);
    }
}
