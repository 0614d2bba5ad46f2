//! `bunny-cli train plot`: a run's curves, as SVG or PNG.

#[cfg(feature = "plot-png")]
mod png;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use bunny_data::write_whole;
use bunny_train::{
    recipe::StageKind,
    report::plot::svg,
    run::metrics::{self, METRICS_FILE},
};

use crate::{args::ForceArgs, signals};

/// Draws a run's curves: loss, gradient norm, learning rates and speed.
///
/// Example: bunny-cli train plot runs/tiny/finetune --out curves.svg
#[derive(Debug, clap::Args)]
pub struct PlotArgs {
    /// The folder of a stage, with metrics.jsonl in it, or that of a run, for all its stages
    run: PathBuf,
    /// Where the drawing goes, .svg, or .png where that is built in; curves.svg in each stage's folder,
    /// drawn anew, unless given
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    over: ForceArgs,
}

/// A form a drawing is kept in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Svg,
    Png,
}

impl Form {
    fn of(file: &Path) -> Result<Self> {
        match file.extension().and_then(|ending| ending.to_str()) {
            Some("svg") => Ok(Self::Svg),
            Some("png") => Ok(Self::Png),
            _ => bail!(
                "{}: curves are drawn as SVG or PNG: name a file that ends in .svg or .png",
                file.display()
            ),
        }
    }
}

/// Runs the verb.
///
/// # Errors
/// When there are no curves to draw, or the drawing cannot be written.
pub fn run(PlotArgs { run, out, over }: PlotArgs) -> Result<()> {
    signals::end_with_the_reader();
    let form = out.as_deref().map_or(Ok(Form::Svg), Form::of)?;
    over.allow(out.as_slice(), None::<&Path>)?;
    let stages = StageKind::ALL.map(|kind| run.join(kind.name()));
    let with_steps = |folder: &&PathBuf| folder.join(METRICS_FILE).exists();
    let mut folders: Vec<_> = stages.iter().filter(with_steps).cloned().collect();
    if folders.is_empty() {
        folders.push(run.clone());
    }
    if let (Some(out), true) = (&out, folders.len() > 1) {
        bail!(
            "{} holds several stages: name one of them to draw it into {}",
            run.display(),
            out.display()
        );
    }
    for folder in folders {
        let drawing = svg(&metrics::read(&folder.join(METRICS_FILE))?);
        let bytes = match form {
            Form::Svg => drawing.into_bytes(),
            #[cfg(feature = "plot-png")]
            Form::Png => png::png(&drawing)?,
            #[cfg(not(feature = "plot-png"))]
            Form::Png => {
                bail!("PNG is not built in: build with `--features plot-png`, or draw as .svg")
            }
        };
        let out = out.clone().unwrap_or_else(|| folder.join("curves.svg"));
        write_whole(&out, &bytes)?;
        println!("{}", out.display());
    }
    Ok(())
}
