//! Folders of results: reports, figures that servers returned, and what the model is called.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{COLUMNS, Column, Entry, Row};
use crate::benchmark::Benchmark;
use crate::convention::Convention;
use crate::error::{EvalError, Result};
use crate::score::statistic::Interval;

/// What a model is called in a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// Its name.
    pub name: String,
    /// Its vision tower, as the paper's tables name it: `eva` or `siglip`.
    #[serde(default)]
    pub vision_tower: Option<String>,
    /// Its language model, likewise: `phi-1.5`, `stablelm-2`, `phi-2`.
    #[serde(default)]
    pub language_model: Option<String>,
}

/// The file of a folder's label.
const LABEL: &str = "model.json";

/// Figures that a server returned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entered {
    /// The layout of this file.
    pub format_version: u32,
    /// The benchmark's name.
    pub benchmark: String,
    /// Figures by name, as a report has them.
    pub scores: Map<String, Value>,
    /// Who gave them.
    pub from: String,
    /// When, in whatever form.
    pub on: Option<String>,
}

impl Label {
    /// Writes the label of a folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write(&folder.join(LABEL), self)
    }

    /// The label of a folder: its file, or else the folder's own name.
    ///
    /// # Errors
    /// When the file is not what it should be.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(LABEL);
        if path.is_file() {
            return read(
                &path,
                "a model's label (name, vision_tower, language_model)",
            );
        }
        let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let name = whole.file_name().unwrap_or(whole.as_os_str());
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            ..Self::default()
        })
    }
}

impl Entered {
    /// The figures of a benchmark that a server returned, by name; a lone one is its table's.
    ///
    /// # Errors
    /// [`EvalError::UnknownScore`] when a table asks for no such figure of the benchmark, or a
    /// figure lies outside of what its benchmark can give.
    pub fn new(
        benchmark: Benchmark,
        scores: &[(Option<String>, f64)],
        on: Option<String>,
    ) -> Result<Self> {
        let known: Vec<&Column> = COLUMNS
            .iter()
            .filter(|column| column.benchmark == benchmark)
            .collect();
        let mut entered = Map::new();
        for (name, value) in scores {
            let column = match name {
                Some(name) => known.iter().find(|column| column.score == name),
                None => known.first().filter(|_| known.len() == 1),
            };
            let unknown = || EvalError::UnknownScore {
                benchmark,
                name: name.clone().unwrap_or_default(),
                known: known.iter().map(|column| column.score).collect(),
            };
            let column = column.ok_or_else(unknown)?;
            let most = match (benchmark, column.score) {
                (Benchmark::Mme, "perception") => 2000.0,
                (Benchmark::Mme, _) => 800.0,
                _ => 100.0 / f64::from(column.scale),
            };
            if !(0.0..=most).contains(value) {
                return Err(EvalError::ScoreRange {
                    benchmark,
                    name: column.score,
                    value: *value,
                    most,
                });
            }
            entered.insert(column.score.to_owned(), Value::from(*value));
        }
        let from = benchmark.server().map_or_else(
            || "elsewhere".to_owned(),
            |server| server.address.to_owned(),
        );
        Ok(Self {
            format_version: 1,
            benchmark: benchmark.name().to_owned(),
            scores: entered,
            from,
            on,
        })
    }

    /// Writes the figures into a folder of results.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join(format!("{}.entered.json", self.benchmark));
        write(&path, self)?;
        Ok(path)
    }
}

fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec_pretty(value).map_err(|source| EvalError::Json {
        path: path.to_owned(),
        line: None,
        expected: "something that can be written",
        source,
    })?;
    Ok(bunny_base::write_atomic(path, |file| {
        file.write_all(&text)
    })?)
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path, expected: &'static str) -> Result<T> {
    let bytes = std::fs::read(path).map_err(EvalError::io(path, "read"))?;
    serde_json::from_slice(&bytes).map_err(|source| EvalError::Json {
        path: path.to_owned(),
        line: None,
        expected,
        source,
    })
}

/// Writes a report into a folder of results, and says where.
///
/// # Errors
/// When it cannot be written.
pub fn write_report(folder: &Path, report: &crate::score::Report) -> Result<PathBuf> {
    let path = folder.join(report_name(report.benchmark, report.convention));
    write(&path, report)?;
    Ok(path)
}

fn report_name(benchmark: Benchmark, convention: Convention) -> String {
    format!("{benchmark}.{convention}.json")
}

/// The part of a report that a table needs.
#[derive(Deserialize)]
struct Report {
    format_version: u32,
    partial: bool,
    scores: Map<String, Value>,
    intervals: Map<String, Value>,
}

/// The newest layout of reports and entered figures.
const NEWEST: u32 = 1;

/// The rows of a folder of results, or of the folders in it.
///
/// # Errors
/// When a result is not what it should be, or there is none.
pub fn read_results(folder: &Path, convention: Convention) -> Result<Vec<Row>> {
    if let Some(row) = row(folder, convention)? {
        return Ok(vec![row]);
    }
    let mut below = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(EvalError::io(folder, "read"))? {
        let path = entry.map_err(EvalError::io(folder, "read"))?.path();
        below.extend(Some(path).filter(|path| path.is_dir()));
    }
    below.sort();
    let mut rows = Vec::new();
    for folder in below {
        rows.extend(row(&folder, convention)?);
    }
    if rows.is_empty() {
        return Err(EvalError::NoResults {
            folder: folder.to_owned(),
            convention,
        });
    }
    Ok(rows)
}

/// The row of one folder; `None` where it has no results.
fn row(folder: &Path, convention: Convention) -> Result<Option<Row>> {
    let mut entries = Vec::new();
    for column in &COLUMNS {
        entries.push(match entered(folder, column)? {
            Some(entry) => Some(entry),
            None => scored(folder, column, convention)?,
        });
    }
    if entries.iter().all(Option::is_none) {
        return Ok(None);
    }
    Ok(Some(Row {
        label: Label::read(folder)?,
        entries,
        published: None,
    }))
}

fn entered(folder: &Path, column: &Column) -> Result<Option<Entry>> {
    let path = folder.join(format!("{}.entered.json", column.benchmark));
    if !path.is_file() {
        return Ok(None);
    }
    let entered: Entered = read(&path, "figures that were entered (benchmark, scores)")?;
    refuse_newer(&path, entered.format_version)?;
    let value = entered.scores.get(column.score).and_then(Value::as_f64);
    Ok(value.map(|value| Entry {
        value: value * f64::from(column.scale),
        interval: None,
        from_server: true,
        partial: false,
    }))
}

fn scored(folder: &Path, column: &Column, convention: Convention) -> Result<Option<Entry>> {
    let path = folder.join(report_name(column.benchmark, convention));
    if !path.is_file() {
        return Ok(None);
    }
    let report: Report = read(&path, "a report (scores, intervals)")?;
    refuse_newer(&path, report.format_version)?;
    let scale = f64::from(column.scale);
    let value = report.scores.get(column.score).and_then(Value::as_f64);
    Ok(value.map(|value| Entry {
        value: value * scale,
        interval: report
            .intervals
            .get(column.score)
            .and_then(widest)
            .map(|interval| interval.times(scale)),
        from_server: false,
        partial: report.partial,
    }))
}

/// Of a score's intervals the bootstrapped one, or else the wider: where all is wrong, or all right,
/// clusters do not differ, and tell nothing.
fn widest(methods: &Value) -> Option<Interval> {
    let of = |name: &str| {
        let method = methods.get(name)?;
        Some(Interval {
            low: method.get("low")?.as_f64()?,
            high: method.get("high")?.as_f64()?,
        })
    };
    of("bootstrap").or_else(|| {
        let width = |interval: &Interval| interval.high - interval.low;
        let both = of("clustered").into_iter().chain(of("wilson"));
        both.max_by(|one, other| width(one).total_cmp(&width(other)))
    })
}

fn refuse_newer(path: &Path, found: u32) -> Result<()> {
    if found <= NEWEST {
        return Ok(());
    }
    Err(EvalError::Newer {
        path: path.to_owned(),
        found,
        known: NEWEST,
    })
}
