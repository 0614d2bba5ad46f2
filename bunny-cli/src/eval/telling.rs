//! How far a run is: a bar on a terminal, a line now and then elsewhere, JSON lines for programs.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use bunny_eval::run::Progress;
use indicatif::ProgressBar;
use serde_json::json;

use crate::Format;
use crate::progress::{add_bar, tell};

/// Tells of one run.
pub struct Telling<'a> {
    what: String,
    form: Form,
    began: Instant,
    told: Option<Instant>,
    /// The share of right answers so far, which is computed now and then.
    right: &'a dyn Fn() -> Option<f64>,
    share: Option<f64>,
    /// When it is to be computed again.
    share_due: Option<Instant>,
    last: Option<Progress>,
}

impl std::fmt::Debug for Telling<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telling")
            .field("what", &self.what)
            .finish_non_exhaustive()
    }
}

enum Form {
    Bar(ProgressBar),
    Lines,
    Json,
}

/// How long a share of right answers is good for, at least; and how many times as long as it took.
const FRESH: Duration = Duration::from_secs(5);
const FRESH_TIMES: u32 = 50;

impl<'a> Telling<'a> {
    /// Tells of what is called `what`; `right` gives the share of right answers so far.
    pub fn new(what: String, format: Format, right: &'a dyn Fn() -> Option<f64>) -> Self {
        let form = match format {
            Format::Json => Form::Json,
            Format::Text if std::io::stderr().is_terminal() => {
                Form::Bar(add_bar("{msg} {wide_bar} {human_pos}/{human_len}"))
            }
            Format::Text => Form::Lines,
        };
        Self {
            what,
            began: Instant::now(),
            // A line is not worth the while of what is done at once.
            told: matches!(form, Form::Lines).then(Instant::now),
            form,
            right,
            share: None,
            share_due: None,
            last: None,
        }
    }

    /// Tells how far it is, if that was not told a moment ago.
    pub fn show(&mut self, progress: Progress) {
        self.last = Some(progress);
        let every = match self.form {
            Form::Bar(_) => Duration::from_millis(200),
            Form::Lines => Duration::from_secs(10),
            Form::Json => Duration::from_secs(1),
        };
        let is_due = self.told.is_none_or(|told| told.elapsed() >= every);
        let is_end = progress.done == progress.total && !matches!(self.form, Form::Lines);
        if (is_due && progress.done > progress.before) || is_end {
            self.tell(progress);
        }
    }

    /// Rows that were answered since it began, and how many a second.
    pub fn rate(&self) -> (usize, f64) {
        let rows = self.last.map_or(0, |last| last.done - last.before);
        let seconds = self.began.elapsed().as_secs_f64();
        (rows, rows as f64 / seconds.max(1e-9))
    }

    /// How long it has been.
    pub fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    fn tell(&mut self, progress: Progress) {
        self.told = Some(Instant::now());
        let now = Instant::now();
        if self.share_due.is_none_or(|due| now >= due) || progress.done == progress.total {
            self.share = (self.right)();
            self.share_due = Some(Instant::now() + FRESH.max(now.elapsed() * FRESH_TIMES));
        }
        let (_, rate) = self.rate();
        let left = (progress.total - progress.done) as f64 / rate.max(1e-9);
        let right = self.share.map(|share| 100.0 * share);
        match &self.form {
            Form::Json => tell(format_args!(
                "{}",
                json!({
                    "format_version": 1,
                    "benchmark": self.what,
                    "done": progress.done,
                    "total": progress.total,
                    "before": progress.before,
                    "rows_per_second": rate,
                    "seconds_left": if progress.done > progress.before { Some(left) } else { None },
                    "right": right,
                })
            )),
            form => {
                let right =
                    right.map_or_else(String::new, |right| format!(", {right:.1} % right so far"));
                let told = format!("{rate:.1} rows/s, {} left{right}", span(left));
                match form {
                    Form::Bar(bar) => {
                        bar.set_length(progress.total as u64);
                        bar.set_position(progress.done as u64);
                        bar.set_message(format!("{}: {told}", self.what));
                    }
                    _ if progress.done > progress.before => tell(format_args!(
                        "{}: {}/{}, {told}",
                        self.what, progress.done, progress.total
                    )),
                    _ => {}
                }
            }
        }
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        if let Form::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
    }
}

/// A time as people say it.
fn span(seconds: f64) -> String {
    match seconds {
        ..90.0 => format!("{seconds:.0} s"),
        90.0..5400.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}
