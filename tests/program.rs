//! The program as a user runs it.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

/// Runs it without a keyboard and without a network.
pub fn bunny(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bunny-cli"))
        .args(arguments)
        .env("HF_HUB_OFFLINE", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
