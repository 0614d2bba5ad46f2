//! `bunny-cli data coreset`: the few rows of a big image-text set that are worth learning from.

mod parts;
mod stage_bar;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use bunny_base::machine_memory;
use bunny_data::DataError;
use bunny_data::coreset::engine::Local;
use bunny_data::coreset::{
    ClusterOptions, CoresetOptions, Division, DuplicateOptions, Edge, Geometry, Group, Invalid,
    Keep, Median, MissingImages, Order, OutputOptions, Paths, Report, Scope, Search, Similarity,
    Start, TileSize, Window, WindowOptions, Worker, select,
};
use bunny_data::embeddings::EmbeddingOptions;
use clap::error::ErrorKind;

use super::choice::{bytes, choice};
use crate::Format;
use crate::args::MemoryArgs;
use stage_bar::StageBar;

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
    /// Rows to draw from what the steps leave: a number, or all
    #[arg(long, value_name = "N|all", default_value = "all", value_parser = sample)]
    sample: Draw,
    /// What every draw hangs on
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Memory to use, as 8GB; half of the machine's by default
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    memory: Option<u64>,
    #[command(flatten)]
    more: MemoryArgs,
    /// Threads to use; one for each core by default
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Keep the work files, for another selection from the same clusters
    #[arg(long)]
    keep_work: bool,
    /// Replace a finished selection with other options, the work files of others, and whatever else
    /// in --out has the names of results
    #[arg(long)]
    force: bool,
    /// What becomes of rows with NaN or zero embeddings
    #[arg(long, default_value = "error", value_parser = choice::<Invalid>(&["error", "drop"]))]
    invalid: Invalid,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    clusters: ClusterArgs,
    #[command(flatten)]
    duplicates: DuplicateArgs,
    #[command(flatten)]
    windows: WindowArgs,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    division: DivisionArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Parts")]
struct DivisionArgs {
    /// Rows that are worked on as one part, at least: files are not divided
    #[arg(long, value_name = "N", default_value_t = Division::default().part_rows, value_parser = clap::value_parser!(u64).range(1..))]
    part_rows: u64,
    /// Rows in a bucket of clusters, in bytes, about
    #[arg(long, value_name = "BYTES", default_value = "256MiB", value_parser = bytes)]
    bucket_bytes: u64,
}

/// How many rows are drawn.
#[derive(Clone, Copy, Debug)]
struct Draw(Option<u64>);

fn sample(text: &str) -> Result<Draw, String> {
    match text {
        "all" => Ok(Draw(None)),
        _ => match text.parse() {
            Ok(rows) if rows > 0 => Ok(Draw(Some(rows))),
            _ => Err("a number from 1 on, or all".to_owned()),
        },
    }
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Clusters")]
struct ClusterArgs {
    /// Clusters to train; by default the paper's 100,000, or as many as leave its 20,533 rows to
    /// each, or those of --start-from
    #[arg(long, value_name = "K")]
    clusters: Option<u64>,
    /// Use the centroids of this .npy file as they are
    #[arg(long, value_name = "FILE", conflicts_with_all = ["clusters", "start_from"])]
    centroids: Option<PathBuf>,
    /// Start training from the centroids of this .npy file
    #[arg(long, value_name = "FILE")]
    start_from: Option<PathBuf>,
    /// What "near" means
    #[arg(long, default_value = "euclidean", value_parser = choice::<Geometry>(&["euclidean", "spherical"]))]
    geometry: Geometry,
    /// Where training starts
    #[arg(long, default_value = "random", value_parser = choice::<Start>(&["random", "plus-plus"]))]
    start: Start,
    /// Rounds of k-means on one sample, at most
    #[arg(long, value_name = "N", default_value_t = ClusterOptions::default().iterations)]
    iterations: u32,
    /// Samples to train on, one after the other
    #[arg(long, value_name = "N", default_value_t = ClusterOptions::default().epochs)]
    epochs: u32,
    /// Rows of a sample for each centroid
    #[arg(long, value_name = "N", default_value_t = ClusterOptions::default().rows_per_centroid)]
    rows_per_centroid: u64,
    /// Search the centroids in two levels, in this many groups: faster and not exact; the report
    /// says how often both agree
    #[arg(long, value_name = "N")]
    probes: Option<u32>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Step 1: duplicates")]
struct DuplicateArgs {
    /// Rows of a cluster this similar are duplicates
    #[arg(long, value_name = "COSINE", default_value_t = DuplicateOptions::default().threshold)]
    threshold: f64,
    /// Whether the threshold itself is similar enough
    #[arg(long, default_value = "above", value_parser = choice::<Edge>(&["above", "at-least"]))]
    edge: Edge,
    /// What is held against the threshold, and ranked later
    #[arg(long, default_value = "cosine", value_parser = choice::<Similarity>(&["cosine", "dot"]))]
    similarity: Similarity,
    /// What a group of duplicates is: a connected component, or what SemDeDup's rule removes
    #[arg(long, default_value = "components", value_parser = choice::<Group>(&["components", "semdedup"]))]
    group: Group,
    /// Which of a group stays, by distance to the centroid; median by default, far for semdedup
    #[arg(long, value_parser = choice::<Keep>(&["median", "far", "near", "random", "max-score"]))]
    keep: Option<Keep>,
    /// Which of the two middle rows of an even group is its median
    #[arg(long, default_value = "upper", value_parser = choice::<Median>(&["upper", "lower"]))]
    median: Median,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Steps 2 and 3: windows")]
struct WindowArgs {
    /// Ranks to keep by the cosine of image and text, in percent, or none to keep all
    #[arg(long, value_name = "FROM-TO", default_value = "40-60", value_parser = range)]
    score_window: Range,
    /// Which rank by image and text is 0 %
    #[arg(long, default_value = "descending", value_parser = choice::<Order>(&["descending", "ascending"]))]
    score_order: Order,
    /// Ranks to keep by the cosine of image and centroid, in percent, or none to keep all
    #[arg(long, value_name = "FROM-TO", default_value = "15-35", value_parser = range)]
    centroid_window: Range,
    /// Which rank by image and centroid is 0 %
    #[arg(long, default_value = "descending", value_parser = choice::<Order>(&["descending", "ascending"]))]
    centroid_order: Order,
    /// What is ranked together
    #[arg(long, default_value = "global", value_parser = choice::<Scope>(&["global", "per-cluster"]))]
    window_scope: Scope,
}

/// Ranks in basis points; `None` keeps all.
#[derive(Clone, Copy, Debug)]
struct Range(Option<(u32, u32)>);

/// `40-60`, with at most two decimals each, or `none`.
fn range(text: &str) -> Result<Range, String> {
    let points = |text: &str| {
        let (whole, decimals) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
        let digits = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
        if whole.is_empty() || whole.len() > 3 || decimals.len() > 2 {
            return None;
        }
        if !digits(whole) || !digits(decimals) {
            return None;
        }
        format!("{whole}{decimals:0<2}").parse::<u32>().ok()
    };
    if text == "none" {
        return Ok(Range(None));
    }
    let ends = text
        .split_once('-')
        .and_then(|(from, to)| points(from).zip(points(to)));
    match ends {
        Some((from, to)) if from < to && to <= 10_000 => Ok(Range(Some((from, to)))),
        _ => Err("a range of percent as 40-60 or 12.5-37.25, or none".to_owned()),
    }
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Files")]
struct FileArgs {
    /// The metadata column of the keys; key, uid, image_path or id by default
    #[arg(long, value_name = "NAME")]
    key_column: Option<String>,
    /// The metadata column of the captions; caption, text or TEXT by default
    #[arg(long, value_name = "NAME")]
    caption_column: Option<String>,
    /// The metadata column of the pictures' addresses; url or URL by default
    #[arg(long, value_name = "NAME")]
    url_column: Option<String>,
    /// Take the similarity of image and text from this metadata column
    #[arg(long, value_name = "NAME")]
    score_column: Option<String>,
    /// The array (.npz) or column (.parquet) of the image embeddings
    #[arg(long, value_name = "NAME")]
    image_array: Option<String>,
    /// The array (.npz) or column (.parquet) of the text embeddings
    #[arg(long, value_name = "NAME")]
    text_array: Option<String>,
    /// The images: KEY.jpg, .png, .webp and so on, or the keys where these are names of files; in a
    /// folder, in folders of it, or in tar files. Writes pretrain.json, ready for training
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// What becomes of kept keys whose image is not there
    #[arg(long, default_value = "error", requires = "images", value_parser = choice::<MissingImages>(&["error", "skip"]))]
    missing_images: MissingImages,
}

impl SelectArgs {
    fn options(&self) -> CoresetOptions {
        let window = |range: Range, order| {
            range.0.map(|(from, to)| Window {
                from,
                to,
                order,
                scope: self.windows.window_scope,
            })
        };
        let (clusters, duplicates, files) = (&self.clusters, &self.duplicates, &self.files);
        CoresetOptions {
            embeddings: EmbeddingOptions {
                key_column: files.key_column.clone(),
                caption_column: files.caption_column.clone(),
                url_column: files.url_column.clone(),
                score_column: files.score_column.clone(),
                image_array: files.image_array.clone(),
                text_array: files.text_array.clone(),
            },
            seed: self.seed,
            invalid: self.invalid,
            clusters: ClusterOptions {
                count: clusters.clusters,
                centroids: clusters.centroids.clone(),
                start_from: clusters.start_from.clone(),
                geometry: clusters.geometry,
                start: clusters.start,
                iterations: clusters.iterations,
                epochs: clusters.epochs,
                rows_per_centroid: clusters.rows_per_centroid,
                search: clusters
                    .probes
                    .map_or(Search::Exact, |probes| Search::TwoLevel { probes }),
            },
            duplicates: DuplicateOptions {
                threshold: duplicates.threshold,
                edge: duplicates.edge,
                similarity: duplicates.similarity,
                group: duplicates.group,
                keep: duplicates.keep,
                median: duplicates.median,
            },
            windows: WindowOptions {
                score: window(self.windows.score_window, self.windows.score_order),
                centroid: window(self.windows.centroid_window, self.windows.centroid_order),
            },
            sample: self.sample.0,
        }
    }
}

impl SelectArgs {
    fn paths(&self) -> Paths {
        Paths {
            embeddings: self.embeddings.clone(),
            out: self.out.clone(),
            work: self.work.clone(),
            keep_work: self.keep_work,
            force: self.force,
            division: Division {
                part_rows: self.division.part_rows,
                bucket_bytes: self.division.bucket_bytes,
            },
        }
    }

    fn outputs(&self) -> OutputOptions {
        OutputOptions {
            images: self.files.images.clone(),
            missing_images: self.files.missing_images,
        }
    }

    /// Threads of this machine, whose progress `bar` shows.
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
            let bar = StageBar::default();
            let engine = args.local(&bar)?;
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

fn print(report: &Report, out: &Path) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_percent_with_two_decimals() {
        assert_eq!(range("40-60").unwrap().0, Some((4000, 6000)));
        assert_eq!(range("12.5-37.25").unwrap().0, Some((1250, 3725)));
        assert_eq!(range("0-100").unwrap().0, Some((0, 10_000)));
        assert_eq!(range("none").unwrap().0, None);
        for wrong in [
            "60-40", "40", "40-101", "1.234-5", "-1-5", "a-b", "40-40", "",
        ] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }
}
