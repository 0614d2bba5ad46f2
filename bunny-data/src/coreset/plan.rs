//! What a selection would cost on this machine, or on several like it, before it starts.

use std::fs::File;
use std::io::{Read, Write};
use std::ops::{Add, Mul};
use std::path::Path;
use std::time::Instant;

use rayon::prelude::*;
use serde::Serialize;

use super::bucket::{Buckets, Tag};
use super::centroids::Centroids;
use super::numeric::dot;
use super::options::Geometry;
use super::pipeline::Division;
use super::resources::search_bytes;
use super::search::lloyd;
use super::search::nearest::{Nearest, Plain};
use super::survivor::Survivor;
use super::worker::{DiskUse, Worker};
use crate::embeddings::matrix::to_f32;
use crate::embeddings::{Dtype, NpyHeader};
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
    /// The share of the rows that the first step leaves, from 0 to 1.
    pub kept: f64,
    /// Machines like this one that do parts: those of more than one are launched one by one, between calls
    /// of a driver, and one does all of them in one process.
    pub workers: u64,
    /// Seconds in which a launched part, or the driver, starts.
    pub start: f64,
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
    /// What parts move, and what the driver does.
    shared: Vec<Moved>,
    driver: Vec<Moved>,
    /// Parts that are run, and calls of the driver.
    parts: f64,
    calls: f64,
}

/// What is asked of a store, as `store/remote.rs` counts it: requests, and bytes of files.
#[derive(Clone, Copy, Default)]
struct Moved {
    requests: f64,
    read: f64,
    written: f64,
}

/// Bytes that a request moves, at most.
const PIECE: f64 = (16 << 20) as f64;

/// Bytes of the blocks that files are brought in by those who read some of them.
const BLOCK: f64 = 4096.0;

/// Bytes of the blocks of work files that have a hash each.
const HASHED: f64 = 65_536.0;

fn pieces(count: f64, bytes: f64) -> f64 {
    match count > 0.0 {
        true => count * (bytes / count / PIECE).ceil().max(1.0),
        false => 0.0,
    }
}

impl Moved {
    /// Files that are looked at and then brought, of so many bytes in all.
    fn read(count: f64, bytes: f64) -> Self {
        Self {
            requests: count + pieces(count, bytes),
            read: bytes,
            written: 0.0,
        }
    }

    /// Headers of files of the set: what the longest header may have.
    fn headers(count: f64) -> Self {
        Self::read(
            count,
            count * (NpyHeader::PREFIX as f64 / BLOCK).ceil() * BLOCK,
        )
    }

    /// Headers of matrices among the work files, of so many bytes in all: after the words at the end that say
    /// how long the file is, and with their hash.
    fn work_headers(count: f64, bytes: f64) -> Self {
        Self::asked(count) + Self::read(count, bytes.min(count * HASHED) + count * BLOCK)
    }

    /// Rows of such matrices, likewise.
    fn rows(count: f64, bytes: f64) -> Self {
        let ends = Self {
            requests: 2.0 * count,
            read: 2.0 * count * BLOCK,
            written: 0.0,
        };
        ends + Self::read(count, bytes)
    }

    /// Whole matrices: their headers, behind the same words, and their rows.
    fn matrices(count: f64, bytes: f64) -> Self {
        Self::work_headers(count, bytes) + Self::rows(count, bytes)
    }

    /// Files that are put, a large one in pieces that are announced and closed, and looked for.
    fn written(count: f64, bytes: f64) -> Self {
        let pieces = pieces(count, bytes);
        let ends = if pieces > count { 2.0 * count } else { 0.0 };
        Self {
            requests: count + pieces + ends,
            read: 0.0,
            written: bytes,
        }
    }

    /// Questions: whether a file is there, what lies in a folder.
    fn asked(count: f64) -> Self {
        Self {
            requests: count,
            ..Self::default()
        }
    }

    /// Files that are removed: listed, and removed.
    fn removed(count: f64) -> Self {
        Self::asked(2.0 * count)
    }
}

impl Add for Moved {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            read: self.read + other.read,
            written: self.written + other.written,
        }
    }
}

impl Mul<f64> for Moved {
    type Output = Self;

    fn mul(self, times: f64) -> Self {
        Self {
            requests: times * self.requests,
            read: times * self.read,
            written: times * self.written,
        }
    }
}

/// A stage as it is gone through: its parts, the bytes of its task, and of what a part hands back.
#[derive(Clone, Copy)]
struct Staged {
    parts: f64,
    task: f64,
    output: f64,
}

impl Staged {
    /// What every part does beside its work: it reads its task where it was launched, looks whether it is
    /// done, and says so in the end.
    fn of_parts(self, is_launched: bool) -> Moved {
        let task = match is_launched {
            true => Moved::read(self.parts, self.parts * self.task),
            false => Moved::default(),
        };
        let done = Moved::written(self.parts, self.parts * self.output);
        task + Moved::asked(self.parts) + done
    }

    /// What the driver of launched parts does: one call finds neither results nor parts that are done, and
    /// leaves the task; the next finds the parts, and leaves their results.
    fn of_driver(self, is_launched: bool) -> Moved {
        match is_launched {
            true => {
                Moved::asked(self.parts + 3.0)
                    + Moved::written(1.0, self.task)
                    + Moved::read(self.parts, self.parts * self.output)
                    + Moved::written(1.0, self.parts * self.output)
            }
            false => Moved::default(),
        }
    }
}

/// Passes over so many keys until those at some ranks are known (`search/ranks.rs`): few are collected at
/// once; of more the first 16 bits tell little, since they hold the sign, the exponent and four bits beside,
/// and the next tell nearly all.
fn looks(keys: f64) -> f64 {
    const FEW: f64 = (1 << 16) as f64;
    if keys <= FEW { 1.0 } else { 3.0 }
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
    let is_launched = options.workers > 1;
    let step = |name, work: Work| {
        let computing = work.flop / calibration.flops + work.looked / calibration.scanned;
        let sum = |moved: &[Moved]| moved.iter().copied().fold(Moved::default(), Add::add);
        let (shared, driver) = (sum(&work.shared), sum(&work.driver));
        let moving = |moved: Moved| match options.network {
            Some(network) => (moved.read + moved.written) / network,
            None => moved.read / calibration.read + moved.written / calibration.written,
        };
        // All machines share one disk, and each has its own way to a store elsewhere.
        let of_parts = match options.network {
            Some(_) => moving(shared) / workers,
            None => moving(shared),
        };
        let starts = match is_launched {
            true => options.start * (work.parts / workers + work.calls),
            false => 0.0,
        };
        let all = shared + driver;
        PlanStep {
            name,
            flop: work.flop,
            read: all.read,
            written: all.written,
            memory: work.memory as f64,
            requests: match options.network {
                Some(_) => all.requests,
                None => 0.0,
            },
            // Moving and computing overlap.
            seconds: (computing / workers).max(of_parts) + moving(driver) + starts,
        }
    };
    // What the first step leaves, in the records that are ranked.
    let kept_rows = options.kept * n;
    let kept = kept_rows * size_of::<Survivor>() as f64;
    let (parts, buckets) = (
        (n / options.division.part_rows as f64).ceil(),
        Buckets::new(
            options.clusters,
            (n * row) as u64,
            options.division.bucket_bytes,
        )
        .count as f64,
    );
    // A part is one file of images and one of captions.
    let files = 2.0 * parts;
    let task = 500.0;
    // Those that read the set list its files.
    let set_task = task + 180.0 * files;
    let done = 300.0;
    // Counts of values, which two steps hand back.
    let counted = 1000.0;
    let scanned = 1100.0;
    let centers = k * d * 4.0;
    let sample_parts = (sample / options.division.part_rows as f64).ceil();
    let rounds = match sample_rows {
        0 => 0.0,
        _ => options.iterations as f64,
    };
    // The means of a driver's last round are made by the call that wants the parts of the next step.
    let late = match is_launched && rounds > 0.0 {
        true => 1.0,
        false => 0.0,
    };
    let ranked = buckets.min(256.0);
    // A call of the driver opens the set, takes the claim, looks at the folders of set and work files, and
    // finds what `earlier` stages have left.
    let calls = |count: f64, earlier: f64| {
        let set = Moved::headers(files) + Moved::asked(12.0);
        let told = match earlier > 0.0 {
            true => earlier * counted + parts * scanned,
            false => 0.0,
        };
        let results = Moved::asked(earlier) + Moved::read(earlier, told);
        let centroids = match earlier > 1.0 {
            true => Moved::asked(1.0) + Moved::work_headers(1.0, centers),
            false => Moved::default(),
        };
        (set + results + centroids) * count
    };
    // In one process there is one call, which the first step has.
    let launched_calls = |count: f64, earlier: f64| match is_launched {
        true => calls(count, earlier),
        false => Moved::default(),
    };
    let scan = Staged {
        parts,
        task: set_task,
        output: scanned,
    };
    let label = Staged {
        parts: sample_parts,
        task,
        output: 140.0,
    };
    let assign = Staged {
        parts,
        task: set_task,
        output: done,
    };
    let duplicates = Staged {
        parts: buckets,
        task,
        output: done,
    };
    let survivors = Staged {
        parts: ranked,
        task,
        output: 140.0,
    };
    let count = Staged {
        parts: ranked,
        task,
        output: counted,
    };
    // Each window is counted, and looked through by those who share its ranks. What most of the passes hand
    // back is little; one hands back bins with their counts, or the keys themselves, as JSON, which every later
    // call of the driver reads: those of the looks that follow, of the survivors, and two more.
    let windows = [kept_rows, kept_rows / 5.0];
    let passes = windows.map(looks);
    let later = [
        (passes[0] - 1.0).min(1.0) + 1.0 + passes[1] + 3.0,
        (passes[1] - 1.0).min(1.0) + 3.0,
    ];
    let look = |at: usize| {
        let (keys, others) = (windows[at], passes[at] - 1.0);
        let told = match others > 0.0 {
            true => 9.0 * (keys / ranked).min(65_536.0),
            false => 28.0 * keys / ranked,
        };
        let rank = |output| Staged {
            parts: ranked,
            task: 2.0 * task,
            output,
        };
        let (most, little) = (rank(told), rank(100.0));
        let again = match is_launched {
            true => Moved {
                read: later[at] * ranked * told,
                ..Moved::default()
            },
            false => Moved::default(),
        };
        (
            most.of_parts(is_launched) + little.of_parts(is_launched) * others,
            most.of_driver(is_launched) + little.of_driver(is_launched) * others + again,
        )
    };
    let (looked, drove): (Vec<Moved>, Vec<Moved>) = (0..windows.len()).map(look).unzip();
    let passes = 2.0 + passes.iter().sum::<f64>();
    let steps = vec![
        step(
            "scan",
            Work {
                looked: 2.0 * n * row,
                shared: vec![
                    Moved::read(files, 2.0 * n * row),
                    Moved::written(parts, 8.0 * n),
                    scan.of_parts(is_launched),
                ],
                driver: vec![calls(1.0, 0.0), scan.of_driver(is_launched)],
                parts,
                calls: 1.0,
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
                        // Two parts bring the block that lies in both.
                        Moved::rows(
                            rounds * sample_parts,
                            rounds * (sample * row + (sample_parts - 1.0) * HASHED),
                        ),
                        Moved::matrices(rounds * sample_parts, rounds * sample_parts * centers),
                        Moved::written(rounds * sample_parts, rounds * sample * 4.0),
                        label.of_parts(is_launched) * rounds,
                    ],
                    driver: vec![
                        launched_calls(rounds, 1.0),
                        // Who is drawn is found in some passes over the scores.
                        Moved::read(3.0 * parts, 3.0 * 8.0 * n),
                        Moved::read(parts, n * row),
                        Moved::written(1.0, sample * row),
                        // The sample is brought for the first centroids, and for the means of rounds: once
                        // in one process, and by every call of a driver.
                        Moved::matrices(1.0, sample * row)
                            * match is_launched {
                                true => rounds + 1.0,
                                false => 2.0,
                            },
                        Moved::read(sample_parts, sample * 4.0) * (rounds - late),
                        // The centroids of a round, of the round before it, and the last ones.
                        Moved::matrices(1.0, centers) * (rounds + 1.0),
                        Moved::written(1.0, centers) * (rounds + 2.0),
                        // What a round was made from goes: each part's labels and its word that it is done,
                        // the centroids, and of launched parts the task and the results.
                        Moved::removed(rounds * (2.0 * sample_parts + 3.0)),
                        Moved::asked(9.0 * rounds),
                        label.of_driver(is_launched) * rounds,
                    ],
                    parts: rounds * sample_parts,
                    calls: rounds,
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
                    Moved::read(parts, n * row),
                    Moved::read(parts, n * 8.0),
                    Moved::matrices(parts, parts * centers),
                    Moved::written(parts, n * (row + size_of::<Tag>() as f64)),
                    Moved::written(parts, parts * buckets * 24.0),
                    assign.of_parts(is_launched),
                ],
                driver: vec![
                    launched_calls(1.0, 2.0),
                    (Moved::matrices(1.0, sample * row) + Moved::read(sample_parts, sample * 4.0))
                        * late,
                    assign.of_driver(is_launched),
                ],
                parts,
                calls: 1.0,
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
                    // Of each part's run a segment, in whole blocks, and all of its directory.
                    Moved::read(
                        parts * buckets,
                        n * (row + size_of::<Tag>() as f64) + parts * buckets * BLOCK,
                    ),
                    Moved::read(parts * buckets, parts * buckets * buckets * 24.0),
                    Moved::matrices(buckets, buckets * centers),
                    Moved::written(buckets, kept),
                    duplicates.of_parts(is_launched),
                ],
                driver: vec![launched_calls(1.0, 3.0), duplicates.of_driver(is_launched)],
                parts: buckets,
                calls: 1.0,
            },
        ),
        // Each window is counted and looked through, and what both leave is written, then merged.
        step(
            "ranks",
            Work {
                shared: [
                    Moved::read(buckets, kept) * (passes + 1.0),
                    Moved::written(buckets, kept / 25.0),
                    count.of_parts(is_launched) * 2.0,
                    survivors.of_parts(is_launched),
                ]
                .into_iter()
                .chain(looked)
                .collect(),
                driver: [
                    // On the average half of the passes have left their results by then. Behind the
                    // survivors one call merges them, and one writes the results.
                    launched_calls(passes + 3.0, 4.0 + passes / 2.0),
                    count.of_driver(is_launched) * 2.0,
                    survivors.of_driver(is_launched),
                    Moved::read(buckets, kept / 25.0),
                    Moved::written(parts, kept / 25.0),
                ]
                .into_iter()
                .chain(drove)
                .collect(),
                parts: (passes + 1.0) * ranked,
                calls: passes + 3.0,
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
            kept: 0.464,
            workers: 1,
            start: 0.0,
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
            kept: 0.464,
            workers: 1,
            start: 0.0,
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
        // A driver brings the sample of 39.3 GB for every round, and once more at either end, the last time
        // before it wants the assignment; one process brings it twice.
        let sample = 25_600_000.0 * 768.0 * 2.0;
        let read = |plan: &Plan| plan.steps[1].read + plan.steps[2].read;
        let more = read(&many) - read(&one);
        assert!((more / (25.0 * sample) - 1.0).abs() < 0.01, "{more}");
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
            kept: 0.464,
            workers: 1,
            start: 0.0,
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
