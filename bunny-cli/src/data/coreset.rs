//! `bunny-cli data coreset`: the few rows of a big image-text set that are worth learning from.

mod parts;
mod selection;
mod stage_bar;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use bunny_base::machine_memory;
use bunny_data::DataError;
use bunny_data::coreset::engine::Local;
use bunny_data::coreset::{
    CoresetOptions, Division, OutputOptions, Paths, Report, TileSize, Worker, select,
};
use clap::error::ErrorKind;

use super::choice::bytes;
use crate::Format;
use crate::args::MemoryArgs;
use selection::FILES;
use stage_bar::StageBar;

pub use selection::SelectionArgs;

/// Memory where the system does not say how much there is.
const SMALL_MACHINE: u64 = 8 << 30;

/// Selects the few rows of a big image-text set that are worth learning from.
///
/// They are selected by CLIP embeddings, as Bunny-pretrain-LAION-2M was selected from LAION-2B.
/// Rows are divided into clusters by k-means. In each cluster, near duplicates are reduced to one
/// of each group; of those, a range of ranks by the similarity of image and caption stays, then a
/// range of ranks by that of image and cluster; of what remains, a seeded sample is drawn.
/// The same embeddings, options and seed give the same files. An interrupted run goes on where it
/// was when it is started again.
///
/// Other machines can do the work: `plan-parts` says what is to be done next, `run-part` does a part
/// of it wherever that is, and `finish` writes the results, which are the same files.
///
/// Example: bunny-cli data coreset --embeddings laion/ --out coreset/ --sample 2000000 --memory 8GB
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct CoresetArgs {
    #[command(subcommand)]
    verb: Option<parts::PartVerb>,
    #[command(flatten)]
    select: Option<SelectArgs>,
}

/// What a selection is made from and how, whoever does its work.
#[derive(Debug, clap::Args)]
// By these the whole is known to be there: a group does not see into what is flattened.
#[group(args = ["embeddings", "out"])]
#[command(mut_arg("missing_images", |arg| arg.requires("images")))]
pub struct SelectArgs {
    /// The embeddings: img_emb/, text_emb/ and metadata/ as clip-retrieval writes them, DataComp's
    /// *.npz and *.parquet, or *.parquet with embedding columns; a folder, or s3://bucket/path
    #[arg(long, value_name = "DIR")]
    embeddings: PathBuf,
    /// Where the results go
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Where work files live: a folder, or s3://bucket/path; work/ below --out by default
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    machine: MachineArgs,
    /// Keep the work files, for another selection from the same clusters
    #[arg(long)]
    keep_work: bool,
    /// Replace a finished selection with other options, the work files of others, and whatever else
    /// in --out has the names of results
    #[arg(long)]
    force: bool,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The array (.npz) or column (.parquet) of the image embeddings
    #[arg(long, value_name = "NAME", help_heading = FILES)]
    image_array: Option<String>,
    /// The array (.npz) or column (.parquet) of the text embeddings
    #[arg(long, value_name = "NAME", help_heading = FILES)]
    text_array: Option<String>,
    /// The images: KEY.jpg, .png, .webp and so on, or the keys where these are names of files; in a
    /// folder, in folders of it, or in tar files. Writes pretrain.json, ready for training
    #[arg(long, value_name = "DIR", help_heading = FILES)]
    images: Option<PathBuf>,
    #[command(flatten)]
    division: DivisionArgs,
}

/// What this machine gives to a selection.
#[derive(Debug, clap::Args)]
pub struct MachineArgs {
    /// Memory to use, as 8GB; half of the machine's by default
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    memory: Option<u64>,
    #[command(flatten)]
    pub more: MemoryArgs,
    /// Threads to use; one for each core by default
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

impl MachineArgs {
    /// Selects with its threads.
    ///
    /// # Errors
    /// When more memory is asked for than there is; within, those of [`select`].
    pub fn select(
        &self,
        paths: &Paths,
        options: &CoresetOptions,
        outputs: &OutputOptions,
    ) -> Result<Result<Report, DataError>> {
        let bar = StageBar::default();
        let engine = self.local(&bar)?;
        Ok(select(&engine, paths, options, outputs))
    }

    /// Its threads, whose progress `bar` shows.
    fn local<'a>(&self, bar: &'a StageBar) -> Result<Local<'a>> {
        let asked = self.memory.unwrap_or(0);
        self.more.require("--memory", asked, "give it less")?;
        let worker = Worker {
            memory: memory(self.memory),
            tile: TileSize::default(),
            progress: bar,
        };
        Ok(Local::new(self.threads, worker)?)
    }
}

/// How the work is divided.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Parts")]
pub struct DivisionArgs {
    /// Rows that are worked on as one part, at least: files are not divided
    #[arg(long, value_name = "N", default_value_t = Division::default().part_rows, value_parser = clap::value_parser!(u64).range(1..))]
    part_rows: u64,
    /// Rows in a bucket of clusters, in bytes, about
    #[arg(long, value_name = "BYTES", default_value = "256MiB", value_parser = bytes)]
    bucket_bytes: u64,
}

impl DivisionArgs {
    /// The same for the library.
    pub fn division(&self) -> Division {
        Division {
            part_rows: self.part_rows,
            bucket_bytes: self.bucket_bytes,
        }
    }
}

impl SelectArgs {
    fn options(&self) -> CoresetOptions {
        let mut options = self.selection.options();
        options.embeddings.image_array = self.image_array.clone();
        options.embeddings.text_array = self.text_array.clone();
        options
    }

    fn paths(&self) -> Paths {
        Paths {
            embeddings: self.embeddings.clone(),
            out: self.out.clone(),
            work: self.work.clone(),
            keep_work: self.keep_work,
            force: self.force,
            division: self.division.division(),
        }
    }

    fn outputs(&self) -> OutputOptions {
        OutputOptions {
            images: self.images.clone(),
            missing_images: self.selection.missing_images,
        }
    }

    fn print(&self, report: &Report) -> Result<()> {
        match self.format {
            Format::Text => print(report, &self.out),
            Format::Json => {
                let steps = report.steps();
                let warnings = report.warnings();
                let mut json = serde_json::to_value(report)?;
                json["steps"] = serde_json::to_value(steps)?;
                json["warnings"] = warnings.into();
                println!("{json}");
            }
        }
        Ok(())
    }
}

/// Runs the verb; the program's exit code.
///
/// # Errors
/// When the set cannot be used, or a file cannot be read or written. Options that cannot be end
/// the program with exit code 2, as clap's own do.
pub fn run(args: CoresetArgs) -> Result<ExitCode> {
    match (args.verb, args.select) {
        (Some(verb), _) => parts::run(verb),
        (None, Some(args)) => {
            let report = args
                .machine
                .select(&args.paths(), &args.options(), &args.outputs());
            let report = checked(report?)?;
            args.print(&report)?;
            Ok(ExitCode::SUCCESS)
        }
        (None, None) => {
            let text = "--embeddings and --out are required, or a verb: see --help\n";
            clap::Error::raw(ErrorKind::MissingRequiredArgument, text).exit()
        }
    }
}

/// Ends the program where an option cannot be.
fn checked<T>(done: Result<T, DataError>) -> Result<T> {
    match done {
        Err(error @ DataError::Option { .. }) => {
            clap::Error::raw(ErrorKind::ValueValidation, format!("{error}\n")).exit()
        }
        done => Ok(done?),
    }
}

/// The memory to use: what was asked for, or half of the machine's.
pub fn memory(asked: Option<u64>) -> u64 {
    asked.unwrap_or_else(|| machine_memory().unwrap_or(SMALL_MACHINE) / 2)
}

/// Says how many rows each step left, and what was written to `out`.
pub fn print(report: &Report, out: &Path) {
    for step in report.steps() {
        println!(
            "{:>14}  {:<34} {:>8.3} %   (paper: {:.3} %)",
            step.kept,
            step.name,
            100.0 * step.fraction,
            100.0 * step.paper_fraction
        );
    }
    for warning in report.warnings() {
        println!("warning: {warning}");
    }
    for name in &report.written.files {
        println!("{}", out.join(name).display());
    }
}
