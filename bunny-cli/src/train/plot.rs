//! `bunny-cli train plot`: a run's curves, as SVG or PNG.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bunny_train::{
    recipe::StageKind,
    report::plot::svg,
    run::metrics::{self, METRICS_FILE},
};
use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg::{Options, Tree, fontdb::Database},
};

use crate::signals;

/// Draws a run's curves: loss, gradient norm, learning rates and speed.
///
/// Example: bunny-cli train plot runs/tiny/finetune --out curves.png
#[derive(Debug, clap::Args)]
pub struct PlotArgs {
    /// The folder of a stage, with metrics.jsonl in it, or that of a run, for all its stages
    run: PathBuf,
    /// Where the drawing goes, .svg or .png; curves.svg in each stage's folder unless given
    #[arg(long)]
    out: Option<PathBuf>,
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
pub fn run(PlotArgs { run, out }: PlotArgs) -> Result<()> {
    signals::end_with_the_reader();
    let form = out.as_deref().map_or(Ok(Form::Svg), Form::of)?;
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
            Form::Png => png(&drawing)?,
        };
        let out = out.clone().unwrap_or_else(|| folder.join("curves.svg"));
        std::fs::write(&out, bytes).with_context(|| format!("{}: cannot write", out.display()))?;
        println!("{}", out.display());
    }
    Ok(())
}

/// A drawing in pixels, two to each of its own, with labels in a font of this machine.
fn png(drawing: &str) -> Result<Vec<u8>> {
    const SCALE: f32 = 2.0;
    let mut options = Options::default();
    let fonts = options.fontdb_mut();
    fonts.load_system_fonts();
    let Some(family) = sans_serif(fonts) else {
        bail!("there is no font on this machine to write labels in: install one, or draw as .svg");
    };
    fonts.set_sans_serif_family(family);
    let tree = Tree::from_str(drawing, &options)?;
    let size = tree.size().to_int_size().scale_by(SCALE);
    let pixels = size.and_then(|size| Pixmap::new(size.width(), size.height()));
    let mut pixels = pixels.context("the drawing is empty")?;
    resvg::render(
        &tree,
        Transform::from_scale(SCALE, SCALE),
        &mut pixels.as_mut(),
    );
    Ok(pixels.encode_png()?)
}

/// The font that stands for sans-serif: a usual one, or any.
fn sans_serif(fonts: &Database) -> Option<String> {
    const USUAL: [&str; 5] = [
        "Arial",
        "Helvetica",
        "DejaVu Sans",
        "Liberation Sans",
        "Noto Sans",
    ];
    let families = || fonts.faces().flat_map(|face| &face.families);
    let usual = USUAL
        .iter()
        .find(|name| families().any(|(family, _)| family == **name));
    let usual = usual.map(|name| (*name).to_owned());
    usual.or_else(|| families().next().map(|(family, _)| family.clone()))
}
