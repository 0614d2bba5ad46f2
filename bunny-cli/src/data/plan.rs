//! `bunny-cli data plan`: what a coreset would cost on this machine.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Result, bail};
use bunny_data::coreset::engine::Local;
use bunny_data::coreset::{ClusterOptions, PlanOptions, Silent, TileSize, Worker, calibrate, plan};
use bunny_data::embeddings::Dtype;

use super::choice::{bytes, choice, count, number, show_bytes};
use super::coreset::{DivisionArgs, memory};
use crate::Format;

/// Tells what `data coreset` would cost on this machine, or on several like it.
///
/// Disk, memory, operations, requests and hours of each step, from a few seconds of measuring.
///
/// Example: bunny-cli data plan --rows 2053332591 --dim 768 --clusters 100000 --workers 16 --store s3
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    /// Rows of the set
    #[arg(long, value_name = "N", value_parser = count(1..=(1 << 48) - 1))]
    rows: u64,
    /// Numbers in an embedding
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    dim: u32,
    /// Clusters
    #[arg(long, value_name = "K", value_parser = count(1..=0xffff_ffff))]
    clusters: u64,
    /// The type of the embeddings
    #[arg(long, default_value = "float16", value_parser = choice::<Dtype>(&["float16", "float32"]))]
    dtype: Dtype,
    /// Rounds of k-means; 0 where centroids are given
    #[arg(long, value_name = "N", default_value_t = u64::from(ClusterOptions::default().iterations))]
    iterations: u64,
    /// Rows of the training sample for each centroid
    #[arg(long, value_name = "N", default_value_t = ClusterOptions::default().rows_per_centroid, value_parser = count(0..=1 << 48))]
    rows_per_centroid: u64,
    /// Search the centroids in two levels, in this many groups
    #[arg(long, value_name = "N")]
    probes: Option<u64>,
    /// How unequal the clusters are: the mean of their squared sizes over the squared mean
    #[arg(long, value_name = "X", default_value_t = 2.0, value_parser = number(1.0..=1e9))]
    skew: f64,
    /// The share of the rows that is left when duplicates are gone, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 46.4, value_parser = number(0.0..=100.0))]
    kept: f64,
    /// Machines like this one that do the parts; those of more than one are launched one by one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    workers: u64,
    /// Seconds in which a launched part starts, a launcher's queue included; this program's own start unless
    /// given
    #[arg(long, value_name = "SECONDS", value_parser = number(0.0..=1e9))]
    start: Option<f64>,
    /// Where embeddings and work files are: folders that all machines share, or S3
    #[arg(long, value_enum, default_value_t = Place::Folder)]
    store: Place,
    /// Bytes a second between each machine and S3
    #[arg(long, value_name = "BYTES", default_value = "500MB", value_parser = bytes)]
    network: u64,
    /// Memory to use, as 8GB; half of the machine's by default
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    memory: Option<u64>,
    /// Threads to use; one for each core by default
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Where the work files would go: its disk is measured
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    division: DivisionArgs,
}

/// Where files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Place {
    Folder,
    S3,
}

/// Runs the verb.
///
/// # Errors
/// When the disk cannot be measured.
pub fn run(args: PlanArgs) -> Result<()> {
    if args.clusters > args.rows {
        bail!(
            "--clusters {}: more clusters than rows, of which there are {}",
            args.clusters,
            args.rows
        );
    }
    let budget = memory(args.memory);
    let worker = Worker {
        memory: budget,
        tile: TileSize::default(),
        progress: &Silent,
    };
    let options = PlanOptions {
        rows: args.rows,
        dims: args.dim as usize,
        dtype: args.dtype,
        clusters: args.clusters,
        rows_per_centroid: if args.iterations == 0 {
            0
        } else {
            args.rows_per_centroid
        },
        iterations: args.iterations,
        probes: args.probes,
        skew: args.skew,
        kept: args.kept / 100.0,
        workers: args.workers,
        start: match args.start {
            Some(seconds) => seconds,
            None if args.workers > 1 => own_start()?,
            None => 0.0,
        },
        network: (args.store == Place::S3).then_some(args.network as f64),
        division: args.division.division(),
    };
    let engine = Local::new(args.threads, worker)?;
    let calibration = engine.run(|worker| calibrate(&options, &args.out, worker))?;
    let plan = plan(options, calibration);
    if args.format == Format::Json {
        println!("{}", serde_json::to_string(&plan)?);
        return Ok(());
    }
    println!(
        "this machine: {:.0} GFLOP/s, {}/s looked through, disk {}/s read and {}/s written",
        calibration.flops / 1e9,
        show_bytes(calibration.scanned),
        show_bytes(calibration.read),
        show_bytes(calibration.written)
    );
    println!(
        "{:<12}{:>10}{:>12}{:>12}{:>12}{:>12}{:>12}",
        "", "FLOP", "read", "written", "requests", "memory", "hours"
    );
    for step in &plan.steps {
        println!(
            "{:<12}{:>10.1e}{:>12}{:>12}{:>12}{:>12}{:>12.2}",
            step.name,
            step.flop,
            show_bytes(step.read),
            show_bytes(step.written),
            step.requests.round(),
            show_bytes(step.memory),
            step.seconds / 3600.0
        );
    }
    let hours = plan.steps.iter().map(|step| step.seconds).sum::<f64>() / 3600.0;
    println!(
        "{hours:.1} hours in all; work files {}",
        show_bytes(plan.disk.total() as f64)
    );
    let most = plan
        .steps
        .iter()
        .map(|step| step.memory)
        .fold(0.0, f64::max);
    if 2.0 * most > budget as f64 {
        println!(
            "warning: training and searching the centroids take --memory {}, and {} are given",
            show_bytes(2.0 * most),
            show_bytes(budget as f64)
        );
    }
    Ok(())
}

/// Seconds in which this program starts: the fastest of a few starts.
fn own_start() -> Result<f64> {
    const STARTS: usize = 3;

    let program = std::env::current_exe()?;
    let mut fastest = f64::INFINITY;
    for _ in 0..STARTS {
        let begun = Instant::now();
        let mut start = Command::new(&program);
        start.arg("--version").stdout(Stdio::null());
        start.status()?;
        fastest = fastest.min(begun.elapsed().as_secs_f64());
    }
    Ok(fastest)
}
