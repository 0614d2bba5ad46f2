//! A disk that fills up ends a selection cleanly, and once there is room again the next run goes on
//! from what was finished. This test starts itself again in a namespace of its own, where it may
//! mount a disk of a few megabytes.
#![cfg(target_os = "linux")]

mod coreset_common;

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;

use bunny_data::coreset::engine::Local;
use bunny_data::coreset::{
    CoresetOptions, Division, OutputOptions, Paths, Progress, Report, Silent, TileSize, Window,
    Worker, select,
};
use bunny_data::{DataError, Result};
use coreset_common::{fixture, options, results};

/// Says to the child where its disk is.
const DISK: &str = "BUNNY_FULL_DISK";

/// Fills the disk when a stage begins.
struct Filling<'a> {
    stage: &'a str,
    ballast: PathBuf,
}

impl Progress for Filling<'_> {
    fn begin(&self, stage: &str, _total: u64) {
        if stage == self.stage {
            let mut file = File::create(&self.ballast).unwrap();
            let mut piece = &[1_u8; 4096][..];
            while !piece.is_empty() {
                match file.write_all(piece) {
                    Ok(()) => {}
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::StorageFull);
                        piece = &piece[..piece.len() / 2];
                    }
                }
            }
        }
    }

    fn advance(&self, _units: u64) {}
}

fn run(out: &Path, progress: &dyn Progress) -> Result<Report> {
    let options = CoresetOptions {
        sample: Some(60),
        ..options("giant")
    };
    let mut options = options;
    options.clusters.centroids = None;
    options.clusters.count = Some(6);
    options.windows.score = Some(Window::new(1000, 9000));
    options.windows.centroid = Some(Window::new(500, 9000));
    let worker = Worker {
        // So little that the state of a cluster lives on disk too.
        memory: 64 << 10,
        tile: TileSize::default(),
        progress,
    };
    let paths = Paths {
        embeddings: fixture("giant"),
        out: out.to_owned(),
        work: None,
        keep_work: false,
        force: false,
        division: Division::default(),
    };
    let engine = Local::new(NonZeroUsize::new(2), worker)?;
    select(&engine, &paths, &options, &OutputOptions::default())
}

/// The child: does nothing unless it is told where its disk is.
#[test]
fn on_a_disk_of_its_own() {
    let Some(disk) = std::env::var_os(DISK).map(PathBuf::from) else {
        return;
    };
    let ballast = disk.join("ballast");
    let whole = disk.join("whole");
    run(&whole, &Silent).unwrap();
    let expected = results(&whole);
    for stage in ["scan", "k-means", "assign", "duplicates", "keys", "output"] {
        let out = disk.join(stage);
        let filling = Filling {
            stage,
            ballast: ballast.clone(),
        };
        let error = run(&out, &filling).unwrap_err();
        println!("full at {stage}: {error}");
        let DataError::Io { path, source, .. } = &error else {
            panic!("{error:?}");
        };
        assert!(path.starts_with(&out), "{}", path.display());
        assert_eq!(source.kind(), ErrorKind::StorageFull, "{error}");
        assert_eq!(results(&out), [], "no result is there in part");
        std::fs::remove_file(&ballast).unwrap();
        run(&out, &Silent).unwrap();
        assert!(results(&out) == expected, "after {stage}");
    }
}

#[test]
fn a_full_disk_ends_a_selection_cleanly_and_the_next_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=4m tmpfs \"$1\" || exit 77; \
                  exec \"$2\" --exact on_a_disk_of_its_own --nocapture";
    let child = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .env(DISK, dir.path())
        .output();
    let (code, out, noise) = match &child {
        Ok(child) => (
            child.status.code(),
            String::from_utf8_lossy(&child.stdout).into_owned(),
            String::from_utf8_lossy(&child.stderr).into_owned(),
        ),
        Err(error) => (None, String::new(), error.to_string()),
    };
    if !out.contains("running 1 test") {
        println!("skipped: no disk can be mounted in a namespace here: {noise}");
        return;
    }
    print!("{out}");
    assert_eq!(code, Some(0), "{noise}");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let out = file.join("out");
    let error = run(&out, &Silent).unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with(&out.display().to_string()), "{message}");
}
