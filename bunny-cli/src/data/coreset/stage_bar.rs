//! How far a selection is: bars on a terminal, and elsewhere a line when a stage begins and one a
//! minute.

use std::io::{IsTerminal, stderr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bunny_data::coreset::{DiskUse, Progress};

use crate::data::choice::show_bytes;
use crate::progress::{Parts, tell};

/// Between two lines.
const MINUTE: Duration = Duration::from_secs(60);

/// A bar for each stage, below those of the stages before; or lines.
#[derive(Debug)]
pub struct StageBar {
    bars: Mutex<Parts>,
    /// Where there is no terminal.
    lines: Option<Mutex<Lines>>,
}

impl Default for StageBar {
    fn default() -> Self {
        Self {
            bars: Mutex::default(),
            lines: (!stderr().is_terminal()).then(|| Mutex::new(Lines::new(Instant::now()))),
        }
    }
}

impl Progress for StageBar {
    fn disk(&self, disk: &DiskUse) {
        let [all, rows, training, tables, unpacked] = [
            disk.total(),
            disk.buckets,
            disk.training,
            disk.tables,
            disk.unpacked,
        ]
        .map(|bytes| show_bytes(bytes as f64));
        tell(format_args!(
            "work files take up to {all} of disk: rows by cluster {rows}, training {training}, \
             scores and survivors {tables}, unpacked embeddings {unpacked}"
        ));
    }

    fn begin(&self, stage: &str, total: u64) {
        tracing::info!(stage, total, "begins");
        if let Ok(mut bars) = self.bars.lock() {
            let template = "{msg:10} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}";
            bars.begin(template, stage.to_owned(), total);
        }
        if let Some(Ok(mut lines)) = self.lines.as_ref().map(Mutex::lock) {
            tell(format_args!(
                "{}",
                lines.begin(stage, total, Instant::now())
            ));
        }
    }

    fn advance(&self, units: u64) {
        if let Ok(bars) = self.bars.lock()
            && let Some(bar) = bars.current()
        {
            bar.inc(units);
        }
        if let Some(Ok(mut lines)) = self.lines.as_ref().map(Mutex::lock)
            && let Some(line) = lines.advance(units, Instant::now())
        {
            tell(format_args!("{line}"));
        }
    }
}

/// What is said where there is no terminal.
#[derive(Debug)]
struct Lines {
    stage: String,
    total: u64,
    done: u64,
    began: Instant,
    said: Instant,
}

impl Lines {
    fn new(now: Instant) -> Self {
        Self {
            stage: String::new(),
            total: 0,
            done: 0,
            began: now,
            said: now,
        }
    }

    /// What the units of a stage are called.
    fn unit(&self) -> &'static str {
        match self.stage.as_str() {
            "k-means" => "rounds",
            _ => "rows",
        }
    }

    fn begin(&mut self, stage: &str, total: u64, now: Instant) -> String {
        *self = Self {
            stage: stage.to_owned(),
            total,
            ..Self::new(now)
        };
        format!("{stage}: {total} {}", self.unit())
    }

    /// The line, when it is time for one.
    fn advance(&mut self, units: u64, now: Instant) -> Option<String> {
        self.done += units;
        if now.duration_since(self.said) < MINUTE || self.total == 0 {
            return None;
        }
        self.said = now;
        let (done, total) = (self.done.min(self.total), self.total);
        let fraction = done as f64 / total as f64;
        let seconds = now.duration_since(self.began).as_secs_f64();
        let left = seconds * (total - done) as f64 / done.max(1) as f64;
        Some(format!(
            "{}: {done} of {total} {}, {:.1} %, about {} left",
            self.stage,
            self.unit(),
            100.0 * fraction,
            duration(left)
        ))
    }
}

/// `45 s`, `12 min`, `3 h 20 min`.
fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match minutes {
        0 => format!("{seconds:.0} s"),
        1..60 => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_gets_a_line_when_a_stage_begins_and_one_a_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut lines = Lines::new(start);
        assert_eq!(lines.begin("assign", 1000, at(0)), "assign: 1000 rows");
        assert_eq!(lines.advance(100, at(30)), None);
        let line = lines.advance(100, at(61)).unwrap();
        assert_eq!(line, "assign: 200 of 1000 rows, 20.0 %, about 4 min left");
        assert_eq!(lines.advance(0, at(100)), None);
        let line = lines.advance(700, at(121)).unwrap();
        assert_eq!(line, "assign: 900 of 1000 rows, 90.0 %, about 13 s left");
        assert_eq!(lines.begin("k-means", 25, at(122)), "k-means: 25 rounds");
        let line = lines.advance(1, at(5000)).unwrap();
        assert!(line.ends_with("4.0 %, about 32 h 31 min left"), "{line}");
    }
}
