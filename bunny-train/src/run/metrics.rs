//! `metrics.jsonl`: one line a step, as it is taken.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use bunny_base::write_atomic;
use serde::{Deserialize, Serialize};

use crate::{error::TrainError, recipe::StageKind};

/// What is said of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// The stage.
    pub stage: StageKind,
    /// The step, from 1.
    pub step: u64,
    /// Epochs done after it.
    pub epoch: f64,
    /// Mean cross-entropy of its answers.
    pub loss: f64,
    /// The learning rate it used.
    pub learning_rate: f64,
    /// The projector's.
    pub projector_learning_rate: f64,
    /// Norm of the gradients before they were clipped.
    pub grad_norm: f64,
    /// Positions in it, padding left out.
    pub tokens: u64,
    /// Of these, answers.
    pub answer_tokens: u64,
    /// Samples a second, over all ranks.
    pub samples_per_second: f64,
    /// Positions a second, over all ranks.
    pub tokens_per_second: f64,
    /// 10¹² operations a second, over all ranks, by the model's own count: forward and backward
    /// passes, no layer twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tflops_per_second: Option<f64>,
    /// Seconds in which the device waited for data.
    pub data_wait: f64,
    /// Seconds of the whole step.
    pub seconds: f64,
    /// Bytes held: of the GPU that learns, or else of main memory, where the system says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Loss of the evaluation split after this step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_loss: Option<f64>,
}

/// The file's name in a stage's folder.
pub const METRICS_FILE: &str = "metrics.jsonl";

/// The file, open for more lines.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    file: File,
}

impl MetricsFile {
    /// Opens the file of a stage's folder and keeps its first `steps` steps: what a run that was
    /// cut off did after its last checkpoint, it will do again.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(folder: &Path, steps: u64) -> Result<Self, TrainError> {
        let path = folder.join(METRICS_FILE);
        // As they stand: numbers that are read and written again may differ in their last digit.
        let kept = match path.exists() {
            true => lines(&path)?,
            false => Vec::new(),
        };
        let kept = kept.iter().filter(|(_, step)| step.step <= steps);
        write_atomic(&path, |file| {
            kept.clone()
                .try_for_each(|(line, _)| writeln!(file, "{line}"))
        })?;
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(TrainError::io(&path, "open"))?;
        Ok(Self { path, file })
    }

    /// Adds a line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn push(&mut self, metrics: &StepMetrics) -> Result<(), TrainError> {
        let mut line = serde_json::to_vec(metrics).map_err(|source| TrainError::Json {
            what: "a step's metrics",
            source,
        })?;
        line.push(b'\n');
        // One write, so that a run that is killed leaves whole lines but perhaps the last.
        self.file
            .write_all(&line)
            .map_err(TrainError::io(&self.path, "write"))
    }
}

/// The steps in a metrics file. A last line that was cut off is left out.
///
/// # Errors
/// When the file cannot be read, or a line before the last is damaged.
pub fn read(path: &Path) -> Result<Vec<StepMetrics>, TrainError> {
    let lines = lines(path)?.into_iter();
    Ok(lines.map(|(_, step)| step).collect())
}

/// The same, each behind its line.
fn lines(path: &Path) -> Result<Vec<(String, StepMetrics)>, TrainError> {
    let file = File::open(path).map_err(TrainError::io(path, "open"))?;
    let lines: Vec<String> = BufReader::new(file)
        .lines()
        .collect::<Result<_, _>>()
        .map_err(TrainError::io(path, "read"))?;
    let mut steps = Vec::with_capacity(lines.len());
    let count = lines.len();
    for (at, line) in lines.into_iter().enumerate() {
        match serde_json::from_str(&line) {
            Ok(step) => steps.push((line, step)),
            Err(_) if at + 1 == count => {}
            Err(error) => {
                return Err(TrainError::State {
                    path: path.to_path_buf(),
                    problem: format!("line {}: {error}", at + 1),
                });
            }
        }
    }
    Ok(steps)
}
