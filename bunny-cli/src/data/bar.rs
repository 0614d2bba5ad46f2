//! A progress bar for work of known length.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on a terminal, nothing elsewhere; gone when it is dropped.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar that says what is being done.
    pub fn new(what: &'static str) -> Self {
        let template = "{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}";
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self(ProgressBar::new(0).with_style(style).with_message(what))
    }

    /// Shows how far the work is; what `bunny_data::Progress` calls.
    pub fn show(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
