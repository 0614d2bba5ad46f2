//! The paper's tables from results: eleven figures a model, beside the published ones.

mod form;
mod published;
mod result;

use std::path::Path;

use serde::Serialize;

use crate::benchmark::Benchmark;
use crate::convention::Convention;
use crate::error::Result;
use crate::score::statistic::Interval;

pub use form::{TableForm, UnknownForm};
pub use published::{Published, published};
pub use result::{Entered, Label, read_results, write_report};

/// A column of the paper's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Its heading: the benchmark, and what of it behind a caret.
    pub heading: &'static str,
    /// The benchmark.
    pub benchmark: Benchmark,
    /// The score in a report.
    pub score: &'static str,
    /// What a report's score is multiplied by: some are fractions.
    #[serde(skip)]
    scale: u32,
}

const fn column(
    heading: &'static str,
    benchmark: Benchmark,
    score: &'static str,
    scale: u32,
) -> Column {
    Column {
        heading,
        benchmark,
        score,
        scale,
    }
}

/// The eleven columns, in the paper's order.
pub const COLUMNS: [Column; 11] = [
    column("MME^P", Benchmark::Mme, "perception", 1),
    column("MME^C", Benchmark::Mme, "cognition", 1),
    column("MMB^T", Benchmark::MmbenchTest, "accuracy", 1),
    column("MMB^D", Benchmark::MmbenchDev, "accuracy", 1),
    column("SEED", Benchmark::SeedBench, "total", 1),
    column("MMMU^V", Benchmark::MmmuVal, "overall", 100),
    column("MMMU^T", Benchmark::MmmuTest, "overall", 100),
    column("VQAv2", Benchmark::Vqav2, "accuracy", 1),
    column("GQA", Benchmark::Gqa, "accuracy", 1),
    column("SQA^I", Benchmark::ScienceQa, "img", 1),
    column("POPE", Benchmark::Pope, "f1", 100),
];

/// One figure of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// The figure, in the table's unit: percent, or MME's points.
    pub value: f64,
    /// Where it lies with 95 % confidence, where that is known.
    pub interval: Option<Interval>,
    /// Whether a server gave it.
    pub from_server: bool,
    /// Whether only the first questions were asked.
    pub partial: bool,
}

/// A model's figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The model.
    pub label: Label,
    /// Its figures, column by column.
    pub entries: Vec<Option<Entry>>,
    /// The published model of the same parts, if there is one, or the one that was asked for.
    pub published: Option<Published>,
}

/// A figure less the published one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// How much higher it is.
    pub value: f64,
    /// Where the difference lies with 95 % confidence, the published figure taken as it is.
    pub interval: Option<Interval>,
}

/// A table of models.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// The layout of this table as JSON.
    pub format_version: u32,
    /// Whose rules the answers were judged by.
    pub convention: Convention,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its rows.
    pub rows: Vec<Row>,
    /// Published models that stand above, for comparison.
    pub peers: Vec<Published>,
}

/// Which table of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// Table 1: the models, below others of their size.
    Models,
    /// Table 2: vision towers by language models.
    Combinations,
}

impl Row {
    /// The differences from the published figures, column by column.
    pub fn differences(&self) -> Vec<Option<Difference>> {
        let figures = self.published.as_ref().map(|published| &published.figures);
        let of = |at: usize, entry: &Option<Entry>| {
            let (entry, published) = (entry.as_ref()?, (*figures?.get(at)?)?);
            Some(Difference {
                value: entry.value - published,
                interval: entry.interval.map(|interval| Interval {
                    low: interval.low - published,
                    high: interval.high - published,
                }),
            })
        };
        self.entries
            .iter()
            .enumerate()
            .map(|(at, entry)| of(at, entry))
            .collect()
    }
}

impl Table {
    /// Makes a table of folders of results, or of folders that hold such folders.
    ///
    /// A row stands beside the published model of the same vision tower and language model, or
    /// beside the one named `beside`.
    ///
    /// # Errors
    /// When a result cannot be read, there is none, or no published model has that name.
    pub fn of(
        folders: &[impl AsRef<Path>],
        convention: Convention,
        layout: Layout,
        beside: Option<&str>,
    ) -> Result<Self> {
        let mut rows = Vec::new();
        for folder in folders {
            rows.extend(read_results(folder.as_ref(), convention)?);
        }
        let named = beside.map(published::named).transpose()?;
        for row in &mut rows {
            row.published = named.clone().or_else(|| published::of_parts(&row.label));
        }
        if layout == Layout::Combinations {
            // As the paper has it: EVA above SigLIP, and below each its language models.
            rows.sort_by_key(|row| published::place(&row.label));
        }
        let peers = match layout {
            Layout::Models => published()
                .into_iter()
                .filter(|model| model.tables.contains(&1))
                .collect(),
            Layout::Combinations => Vec::new(),
        };
        Ok(Self {
            format_version: 1,
            convention,
            columns: COLUMNS.to_vec(),
            rows,
            peers,
        })
    }
}
