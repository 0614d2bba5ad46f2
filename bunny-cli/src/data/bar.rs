//! A progress bar for work of known length.

use indicatif::ProgressBar;

use crate::progress::add_bar;

/// A bar on a terminal, nothing elsewhere; gone when it is dropped.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar that says what is being done.
    pub fn new(what: &'static str) -> Self {
        let bar = add_bar("{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}");
        Self(bar.with_message(what))
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
