//! `bunny-cli data coreset plan-parts | run-part | finish`: a selection whose parts are launched by
//! Slurm, Ray, Kubernetes, a shell, or whatever else starts programs.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use bunny_data::coreset::engine::{AnyTask, Launched, Local};
use bunny_data::coreset::{Silent, TileSize, Worker, next_parts, select};
use bunny_data::store;
use clap::Subcommand;

use super::{SelectArgs, StageBar, checked, memory};
use crate::Format;
use crate::data::choice::bytes;
use crate::progress::tell;

/// What a launcher may try again: `EX_TEMPFAIL` of sysexits.h.
const TRY_AGAIN: u8 = 75;

#[derive(Debug, Subcommand)]
pub enum PartVerb {
    /// Does what is the driver's, and says which parts are to be done next.
    ///
    /// A line with a stage and how many parts it has, or none once nothing is left but to `finish`. The
    /// parts, numbered from 0, can be done by `run-part` in any order, on any machine that has the same
    /// folders, also more than once; then this is called again, with the same options. A coreset has some
    /// ten stages, and one for each round of k-means.
    ///
    /// Example: bunny-cli data coreset plan-parts --embeddings laion/ --out coreset/ --sample 2000000
    PlanParts(Box<SelectArgs>),
    RunPart(RunPartArgs),
    /// Writes the results of a selection whose parts are all done.
    ///
    /// Example: bunny-cli data coreset finish --embeddings laion/ --out coreset/ --sample 2000000
    Finish(Box<SelectArgs>),
}

/// Runs the verb; the program's exit code.
///
/// # Errors
/// As [`super::run`].
pub fn run(verb: PartVerb) -> Result<ExitCode> {
    match verb {
        PartVerb::PlanParts(args) => plan_parts(&args),
        PartVerb::RunPart(args) => run_part(&args),
        PartVerb::Finish(args) => finish(&args),
    }
}

fn plan_parts(args: &SelectArgs) -> Result<ExitCode> {
    let bar = StageBar::default();
    let engine = Launched::new(args.machine.local(&bar)?);
    let wanted = next_parts(&engine, &args.paths(), &args.options(), &args.outputs());
    let wanted = checked(wanted)?;
    match (args.format, wanted) {
        (Format::Json, wanted) => println!("{}", serde_json::to_string(&wanted)?),
        (Format::Text, Some(wanted)) => println!("{} {}", wanted.stage, wanted.parts),
        (Format::Text, None) => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Does one part of a stage that `plan-parts` has named.
///
/// It ends with 0 when the part is done, also where it was done before; with 75 when trying again may
/// help, as where a disk is full or a file is not there yet; and with another code when it will not.
///
/// Example: bunny-cli data coreset run-part --embeddings laion/ --out coreset/ --stage scan-0f12/scan --part 17
#[derive(Debug, clap::Args)]
pub struct RunPartArgs {
    /// The embeddings, where this machine has them
    #[arg(long, value_name = "DIR")]
    embeddings: PathBuf,
    /// The folder of the selection, where this machine has it
    #[arg(long, value_name = "DIR", required_unless_present = "work")]
    out: Option<PathBuf>,
    /// The work files, where this machine has them; work/ below --out by default
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// The stage, as plan-parts says it
    #[arg(long, value_name = "S")]
    stage: String,
    /// The part, from 0
    #[arg(long, value_name = "N")]
    part: usize,
    /// Memory to use, as 8GB; half of the machine's by default
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    memory: Option<u64>,
    /// Threads to use; one for each core by default
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

fn run_part(args: &RunPartArgs) -> Result<ExitCode> {
    let worker = Worker {
        memory: memory(args.memory),
        tile: TileSize::default(),
        progress: &Silent,
    };
    let beside = args.out.as_ref().map(|out| out.join("work"));
    let work = args.work.clone().or(beside).unwrap_or_default();
    let store = store::open(&args.embeddings, &work, &std::env::temp_dir())?;
    let engine = Local::new(args.threads, worker)?;
    let done = AnyTask::load(&*store, &args.stage)
        .and_then(|task| engine.run(|worker| task.run(args.part, worker, &*store)));
    match done {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(error) if error.may_pass() => {
            tell(format_args!("try again: {error}"));
            Ok(ExitCode::from(TRY_AGAIN))
        }
        Err(error) => Err(error.into()),
    }
}

fn finish(args: &SelectArgs) -> Result<ExitCode> {
    let bar = StageBar::default();
    let engine = Launched::new(args.machine.local(&bar)?);
    let report = checked(select(
        &engine,
        &args.paths(),
        &args.options(),
        &args.outputs(),
    ))?;
    drop(engine);
    drop(bar);
    args.print(&report)?;
    Ok(ExitCode::SUCCESS)
}
