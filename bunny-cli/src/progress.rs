//! Progress on a terminal; silence elsewhere.

use std::{
    io::{self, Write},
    sync::LazyLock,
};

use indicatif::{MultiProgress, ProgressBar};

/// Bars that lines of the log may have to go above.
pub static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Standard error, whose lines go above [`BARS`] and leave them whole.
#[derive(Debug, Clone, Copy)]
pub struct AboveBars;

impl Write for AboveBars {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        BARS.suspend(|| io::stderr().write(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A bar per file that is downloaded.
#[cfg(feature = "hub")]
#[derive(Debug, Default)]
pub struct Download {
    bar: Option<(usize, ProgressBar)>,
}

#[cfg(feature = "hub")]
impl Download {
    /// No file yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows how far a download is. indicatif draws on a terminal only.
    pub fn show(&mut self, progress: &bunny_core::checkpoint::hub::Progress<'_>) {
        if self
            .bar
            .as_ref()
            .is_none_or(|(number, _)| *number != progress.number)
        {
            let bar = ProgressBar::new(progress.total).with_style(style());
            bar.set_message(format!(
                "{} ({}/{})",
                progress.file, progress.number, progress.files
            ));
            self.bar = Some((progress.number, bar));
        }
        if let Some((_, bar)) = &self.bar {
            bar.set_position(progress.done);
            if progress.done == progress.total {
                bar.finish();
            }
        }
    }
}

#[cfg(feature = "hub")]
fn style() -> indicatif::ProgressStyle {
    use indicatif::ProgressStyle;

    let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Something of unknown length, shown while it lasts.
#[derive(Debug)]
pub struct Spinner(ProgressBar);

impl Spinner {
    /// Shows `what` until it is dropped.
    pub fn new(what: impl Into<String>) -> Self {
        let bar = ProgressBar::new_spinner().with_message(what.into());
        bar.enable_steady_tick(std::time::Duration::from_millis(100));
        Self(bar)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
