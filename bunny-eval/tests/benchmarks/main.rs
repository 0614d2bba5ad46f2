//! The benchmarks from their files to their figures. One program, since each is linked with
//! everything.

mod check;
mod reference;
mod run;
mod table;

use std::path::{Path, PathBuf};

/// The small benchmarks that `tests/reference/eval.py` writes, and what the scripts said of them.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}
