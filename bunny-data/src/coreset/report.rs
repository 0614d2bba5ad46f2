//! What a selection did, as `report.json` for programs and `report.html` for people.

mod charts;
mod flags;
pub(crate) mod samples;

use std::path::Path;

use serde::{Deserialize, Serialize};

use self::samples::Cards;
use super::options::CoresetOptions;
use super::stages::assign::Assigned;
use super::stages::duplicates::Deduplicated;
use super::stages::output::Written;
use super::stages::scan::Scanned;
use super::stages::windows::Ranked;
use crate::error::Result;
use crate::whole::fill_whole;

/// Rows of LAION-2B that the authors had embeddings of.
const PAPER_ROWS: f64 = 2_053_332_591.0;

/// Everything a selection found, without times: the same for the same input, options and seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of this file's form.
    pub format_version: u32,
    /// What the selection was made by.
    pub options: CoresetOptions,
    /// Numbers in a row.
    pub dims: usize,
    /// Clusters.
    pub clusters: u64,
    /// What reading the set found.
    pub scanned: Scanned,
    /// What dividing it into clusters found.
    pub divided: Assigned,
    /// Step 1: what removing duplicates found.
    pub reduced: Deduplicated,
    /// Step 2: the window of image-text similarity.
    pub score: Ranked,
    /// Step 3: the window of image-centroid similarity.
    pub centroid: Ranked,
    /// What was written.
    pub written: Written,
}

/// How many rows one step left, here and in the paper.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// What the step is called.
    pub name: &'static str,
    /// Rows it left.
    pub kept: u64,
    /// Of all rows of the set.
    pub fraction: f64,
    /// The rows the paper had left, of 2.05 billion.
    pub paper_kept: f64,
    /// As a fraction.
    pub paper_fraction: f64,
}

impl Report {
    /// The steps with the rows each left, beside the paper's.
    pub fn steps(&self) -> Vec<Step> {
        let rows = self.scanned.rows;
        [
            ("rows", rows, PAPER_ROWS),
            ("one of each group of duplicates", self.reduced.kept, 952e6),
            ("image-text window", self.score.kept, 190e6),
            ("image-centroid window", self.centroid.kept, 38e6),
            ("sample", self.written.rows, 2e6),
        ]
        .map(|(name, kept, paper)| Step {
            name,
            kept,
            fraction: kept as f64 / rows.max(1) as f64,
            paper_kept: paper,
            paper_fraction: paper / PAPER_ROWS,
        })
        .into()
    }

    /// What a person should look at before using the result.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let scanned = &self.scanned;
        if scanned.dropped > 0 {
            warnings.push(format!(
                "{} of {} rows cannot be used and were left out",
                scanned.dropped, scanned.rows
            ));
        }
        if scanned.shifted > 0 && scanned.own as f64 <= 1.05 * scanned.shifted as f64 {
            warnings.push(
                "images fit the captions of the next rows as well as their own: are the image and \
                 text files in the same order?"
                    .to_owned(),
            );
        }
        if self.divided.checked > 0 {
            warnings.push(format!(
                "clusters were searched in two levels: {} of {} checked rows ({:.2} %) got their \
                 nearest centroid",
                self.divided.agreeing,
                self.divided.checked,
                100.0 * self.divided.agreeing as f64 / self.divided.checked as f64
            ));
        }
        if let Some(wanted) = self
            .options
            .sample
            .filter(|wanted| *wanted > self.centroid.kept)
        {
            warnings.push(format!(
                "{wanted} rows were to be drawn, but the windows left {}",
                self.centroid.kept
            ));
        }
        if self.written.missing_images > 0 {
            warnings.push(format!(
                "{} images are missing, their keys are not in pretrain.json",
                self.written.missing_images
            ));
        }
        if self.written.empty_captions > 0 {
            warnings.push(format!(
                "{} rows have no caption, their keys are not in pretrain.json",
                self.written.empty_captions
            ));
        }
        warnings
    }
}

/// The JSON file: the report, and the steps and warnings that follow from it.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    report: &'a Report,
    steps: Vec<Step>,
    warnings: Vec<String>,
}

/// Writes both files, and lists them among those written.
pub(crate) fn write_report(report: &mut Report, cards: &Cards, out: &Path) -> Result<()> {
    report
        .written
        .files
        .extend(["report.json", "report.html"].map(String::from));
    let document = Document {
        report,
        steps: report.steps(),
        warnings: report.warnings(),
    };
    fill_whole(&out.join("report.json"), |file| {
        let written = serde_json::to_writer_pretty(&mut *file, &document);
        file.check(written.map_err(Into::into))?;
        file.put(b"\n")
    })?;
    fill_whole(&out.join("report.html"), |file| {
        file.put(charts::page(report, cards).as_bytes())
    })?;
    Ok(())
}
