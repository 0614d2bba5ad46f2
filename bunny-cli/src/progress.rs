//! Progress on a terminal; silence elsewhere.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    sync::{LazyLock, Mutex, PoisonError},
    time::Instant,
};

#[cfg(feature = "hub")]
use bunny_base::escape::for_terminal;
use bunny_base::escape::lines_for_terminal;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::print::require;

/// All bars, so that lines can go above them. indicatif draws on a terminal only.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// A bar below those that are shown already, drawn as `template` says; its length is yet to be set.
pub fn add_bar(template: &str) -> ProgressBar {
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    BARS.add(ProgressBar::new(0).with_style(style))
}

/// Says a line: [`say`] or [`tell`].
pub type Voice = fn(fmt::Arguments<'_>);

/// Says a line on standard output, above the bars. Whoever read it may be gone; the work goes on.
pub fn say(line: fmt::Arguments<'_>) {
    BARS.suspend(|| {
        let _ = writeln!(io::stdout(), "{}", lines_for_terminal(&line.to_string()));
    });
}

/// Says a value as a line of JSON. A program that waits for it gets it, or this one ends with a sentence.
///
/// # Errors
/// When it has no form in JSON.
pub fn say_json(value: &impl Serialize) -> serde_json::Result<()> {
    let line = serde_json::to_string(value)?;
    let written = BARS.suspend(|| writeln!(io::stdout(), "{line}"));
    require(written);
    Ok(())
}

/// Says a line on standard error, above the bars. Whoever read it may be gone; the work goes on.
pub fn tell(line: fmt::Arguments<'_>) {
    let _ = writeln!(AboveBars, "{}", lines_for_terminal(&line.to_string()));
}

/// Standard error, whose lines go above all bars and leave them whole.
#[derive(Debug, Clone, Copy)]
pub struct AboveBars;

impl Write for AboveBars {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        BARS.suspend(|| io::stderr().write(line))
    }

    /// As one: a part of a line above the bars would be a line.
    fn write_fmt(&mut self, line: fmt::Arguments<'_>) -> io::Result<()> {
        BARS.suspend(|| io::stderr().write_fmt(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Bars of work in parts, each below the one before; they stay when their part is done.
#[derive(Debug, Default)]
pub struct Parts(Vec<ProgressBar>);

impl Parts {
    /// The part before is done, and the next one begins.
    pub fn begin(&mut self, template: &str, what: String, total: u64) {
        if let Some(before) = self.current() {
            before.finish();
        }
        let bar = add_bar(template).with_message(what);
        bar.set_length(total);
        self.0.push(bar);
    }

    /// The bar of the part under way.
    pub fn current(&self) -> Option<&ProgressBar> {
        self.0.last()
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        // It stays as it is: work that failed did not come to its end.
        if let Some(last) = self.current() {
            last.abandon();
        }
    }
}

/// A bar per file that is downloaded.
#[cfg(feature = "hub")]
#[derive(Debug, Default)]
pub struct Download {
    bars: Parts,
    /// Which file has the last of them.
    number: Option<usize>,
}

#[cfg(feature = "hub")]
impl Download {
    /// No file yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows how far a download is.
    pub fn show(&mut self, progress: &bunny_weights::hub::Progress<'_>) {
        if self.number.replace(progress.number) != Some(progress.number) {
            let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
            let nth = progress.number + 1;
            let what = format!("{} ({nth}/{})", for_terminal(progress.file), progress.files);
            self.bars.begin(template, what, progress.total);
        }
        if let Some(bar) = self.bars.current() {
            bar.set_position(progress.done);
        }
    }
}

/// Pairs whose number nobody knows before they are read, in parts: a bar on a terminal, elsewhere a line
/// a part.
#[derive(Debug)]
pub struct Pairs {
    bar: ProgressBar,
    /// Where there is no terminal: when it began, with which pair, and the part that was told last.
    lines: Option<Mutex<(Instant, Option<u64>, usize)>>,
}

impl Pairs {
    /// Nothing yet.
    pub fn new() -> Self {
        let lines = || Mutex::new((Instant::now(), None, usize::MAX));
        Self {
            bar: add_bar("{spinner} {msg}: {human_pos} pairs {per_sec} {elapsed}"),
            lines: (!io::stderr().is_terminal()).then(lines),
        }
    }

    /// Shows how far the work is.
    pub fn show(&self, part: usize, parts: usize, pairs: u64) {
        let what = format!("part {} of {parts}", part + 1);
        let Some(lines) = &self.lines else {
            self.bar.set_message(what);
            self.bar.set_position(pairs);
            return;
        };
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, first, told) = &mut *lines;
        // What an earlier run made took this one no time.
        let made = pairs - *first.get_or_insert(pairs);
        if *told != part {
            *told = part;
            let rate = made as f64 / start.elapsed().as_secs_f64().max(1e-3);
            tell(format_args!(
                "{what}: {pairs} pairs so far, {rate:.1} pairs/s"
            ));
        }
    }
}

impl Drop for Pairs {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Something of unknown length, shown while it lasts.
#[derive(Debug)]
pub struct Spinner(ProgressBar);

impl Spinner {
    /// Shows `what` until it is dropped.
    pub fn new(what: impl Into<String>) -> Self {
        let bar = add_bar("{spinner} {msg}").with_message(what.into());
        bar.enable_steady_tick(std::time::Duration::from_millis(100));
        Self(bar)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
