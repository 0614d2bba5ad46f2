//! What the coreset tests share: the committed sets, and one call for a whole selection.

#![allow(dead_code, reason = "each test file uses its part")]

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use bunny_data::Result;
use bunny_data::coreset::engine::Local;
use bunny_data::coreset::{
    CoresetOptions, Division, Invalid, OutputOptions, Paths, Report, Silent, TileSize, Worker,
    select,
};

/// A committed set, made by `tests/reference/coreset.py`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/coreset")
        .join(name)
}

/// How a selection is computed; no result may depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    pub threads: usize,
    pub tile: (usize, usize),
    pub memory: u64,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            threads: 2,
            tile: (128, 256),
            memory: 64 << 20,
        }
    }
}

/// Options that use a committed set's centroids, and leave unusable rows out.
pub fn options(set: &str) -> CoresetOptions {
    let mut options = CoresetOptions {
        seed: 7,
        invalid: Invalid::Drop,
        ..CoresetOptions::default()
    };
    options.clusters.centroids = Some(fixture(set).join("centroids.npy"));
    options
}

/// Selects from a folder.
pub fn run(
    embeddings: &Path,
    out: &Path,
    options: &CoresetOptions,
    outputs: &OutputOptions,
    machine: Machine,
) -> Result<Report> {
    let worker = Worker {
        memory: machine.memory,
        tile: TileSize {
            rows: machine.tile.0,
            columns: machine.tile.1,
        },
        progress: &Silent,
    };
    let paths = Paths {
        embeddings: embeddings.to_owned(),
        out: out.to_owned(),
        work: None,
        keep_work: false,
        force: true,
        division: Division::default(),
    };
    let engine = Local::new(NonZeroUsize::new(machine.threads), worker)?;
    select(&engine, &paths, options, outputs)
}

/// The results in a folder: every file's name and bytes, the manifest aside, which tells of times.
pub fn results(out: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(out)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && !path.ends_with("manifest.json"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}
