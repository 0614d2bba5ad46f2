//! What tests share: the fixtures that torch, transformers and PEFT made.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// A model of `tests/fixtures/models`.
pub fn model_folder(name: &str) -> PathBuf {
    fixtures().join("models").join(name)
}

/// A file of `tests/fixtures/training`.
pub fn training_fixture(name: &str) -> PathBuf {
    fixtures().join("training").join(name)
}

/// A JSON file of `tests/fixtures/training`.
pub fn training_fixture_json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(training_fixture(name)).unwrap()).unwrap()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}
