//! Event files that TensorBoard draws: a step's metrics as scalars.
//!
//! A file is a run of records, each framed as in TensorFlow's `RecordWriter`; a record is an
//! `Event` of TensorFlow's `event.proto`:
//!
//! ```text
//! length u64 │ masked crc32c of it u32 │ event │ masked crc32c of it u32
//! event:  1 wall_time f64 │ 2 step │ 3 file_version │ 5 summary { 1 value { 1 tag │ 2 f32 }* }
//!         │ 7 session_log { 1 status }
//! ```
//!
//! The crates there are for it were last released years ago and bring protobuf and image libraries
//! of that time with them.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use super::metrics::StepMetrics;
use crate::error::TrainError;

/// An event file, open for more steps.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Begins a file in `folder` for a run that goes on behind its first `steps` steps: what other
    /// files there say of later ones is no longer shown.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(folder: &Path, steps: u64) -> Result<Self, TrainError> {
        let (now, process) = (now(), std::process::id());
        let name = format!("events.out.tfevents.{:010}.{process}", now as u64);
        let path = folder.join(name);
        fs::create_dir_all(folder).map_err(TrainError::io(folder, "create"))?;
        let file = File::create(&path).map_err(TrainError::io(&path, "create"))?;
        let mut events = Self { path, file };
        events.write(&first_event(now))?;
        if steps > 0 {
            events.write(&start_event(now, steps + 1))?;
        }
        Ok(events)
    }

    /// Adds a step.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn push(&mut self, line: &StepMetrics) -> Result<(), TrainError> {
        self.write(&step_event(now(), line.step, &scalars(line)))
    }

    fn write(&mut self, event: &[u8]) -> Result<(), TrainError> {
        self.file
            .write_all(&framed(event))
            .map_err(TrainError::io(&self.path, "write"))
    }
}

/// What is shown of a step, under the names that transformers gives them.
fn scalars(line: &StepMetrics) -> Vec<(&'static str, f64)> {
    let mut scalars = vec![
        ("train/loss", line.loss),
        ("train/grad_norm", line.grad_norm),
        ("train/learning_rate", line.learning_rate),
        (
            "train/projector_learning_rate",
            line.projector_learning_rate,
        ),
        ("train/epoch", line.epoch),
        ("train/tokens_per_second", line.tokens_per_second),
        ("train/samples_per_second", line.samples_per_second),
        ("train/data_wait", line.data_wait),
    ];
    let tflops = line.tflops_per_second;
    scalars.extend(tflops.map(|tflops| ("train/tflops_per_second", tflops)));
    scalars.extend(line.memory.map(|bytes| ("train/memory", bytes as f64)));
    scalars.extend(line.eval_loss.map(|loss| ("eval/loss", loss)));
    scalars
}

/// Seconds since 1970.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

/// Every file begins with the version of its format.
fn first_event(time: f64) -> Vec<u8> {
    let mut event = Vec::new();
    double(&mut event, 1, time);
    bytes(&mut event, 3, b"brain.Event:2");
    event
}

/// A session starts at `step`.
fn start_event(time: f64, step: u64) -> Vec<u8> {
    let mut event = Vec::new();
    double(&mut event, 1, time);
    number(&mut event, 2, step);
    let mut log = Vec::new();
    number(&mut log, 1, 1);
    bytes(&mut event, 7, &log);
    event
}

fn step_event(time: f64, step: u64, scalars: &[(&str, f64)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, scalar) in scalars {
        let mut value = Vec::new();
        bytes(&mut value, 1, tag.as_bytes());
        key(&mut value, 2, 5);
        value.extend((*scalar as f32).to_le_bytes());
        bytes(&mut summary, 1, &value);
    }
    let mut event = Vec::new();
    double(&mut event, 1, time);
    number(&mut event, 2, step);
    bytes(&mut event, 5, &summary);
    event
}

// Protobuf's wire format: a field's number and kind, then its value.

fn key(out: &mut Vec<u8>, field: u64, kind: u64) {
    varint(out, field << 3 | kind);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    key(out, field, 0);
    varint(out, value);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    key(out, field, 1);
    out.extend(value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(out, field, 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

fn framed(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let sum = |bytes: &[u8]| masked(crc32c(bytes)).to_le_bytes();
    [&length[..], &sum(&length), event, &sum(event)].concat()
}

/// Sums are stored turned and shifted, so that a sum over bytes that hold sums is of use.
fn masked(sum: u32) -> u32 {
    sum.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Castagnoli's cyclic sum, bit by bit: events are short.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            let bit = 0u32.wrapping_sub(sum & 1);
            sum >> 1 ^ (0x82f6_3b78 & bit)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::training_fixture;

    #[test]
    fn a_file_is_tensorboards_to_the_byte() {
        // `tests/reference/events.py` writes the same events with TensorBoard's own writer.
        let events = [
            first_event(1.5),
            start_event(1.5, 300),
            step_event(2.25, 300, &[("train/loss", 0.75), ("eval/loss", -3e-5)]),
            step_event(3.0, 70_000, &[("train/learning_rate", 2e-4)]),
        ];
        let found: Vec<u8> = events.iter().flat_map(|event| framed(event)).collect();
        let wanted = fs::read(training_fixture("events.tfevents")).unwrap();
        assert!(found == wanted, "{found:?}");
    }

    #[test]
    fn the_sum_is_castagnolis() {
        // The check value of the catalogue of cyclic sums.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
