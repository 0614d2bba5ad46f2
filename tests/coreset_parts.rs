//! A selection whose parts are launched as programs: three at a time on one folder, some of them
//! killed, and the driver too. What is left is the same bytes as one process leaves.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use serde_json::Value;

/// Stages, at most: more are a loop without an end.
const STAGES: usize = 60;

fn set() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../bunny-data/tests/fixtures/coreset/mixture")
}

/// Options that give each stage several parts, and k-means several rounds.
const OPTIONS: [&str; 14] = [
    "--clusters",
    "12",
    "--iterations",
    "3",
    "--rows-per-centroid",
    "20",
    "--score-window",
    "10-90",
    "--centroid-window",
    "5-90",
    "--sample",
    "40",
    "--invalid",
    "drop",
];

fn coreset(verb: &[&str], out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bunny-cli"));
    command.args(["data", "coreset"]).args(verb);
    command.arg("--embeddings").arg(set());
    command.arg("--out").arg(out);
    command.stdin(Stdio::null());
    command
}

fn selecting(verb: &[&str], out: &Path) -> Command {
    let mut command = coreset(verb, out);
    command.args(OPTIONS);
    command.args([
        "--part-rows",
        "100",
        "--bucket-bytes",
        "4KiB",
        "--memory",
        "64MB",
    ]);
    command
}

/// What a command that went well prints.
fn said(mut command: Command) -> String {
    let output = command.output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// The results: every file's name and bytes, the manifest aside, which tells of times.
fn results(out: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = std::fs::read_dir(out)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let paths = paths.filter(|path| path.is_file() && !path.ends_with("manifest.json"));
    let read = |path: PathBuf| {
        (
            path.file_name().unwrap().into(),
            std::fs::read(path).unwrap(),
        )
    };
    let mut files: Vec<_> = paths.map(read).collect();
    files.sort();
    files
}

/// A launcher: three programs at a time, each part until it ends well.
struct Launcher<'a> {
    out: &'a Path,
    attempts: AtomicUsize,
    killed: AtomicUsize,
}

impl Launcher<'_> {
    fn launch(&self, stage: &str, part: usize) -> Child {
        let mut command = coreset(&["run-part"], self.out);
        command.args(["--stage", stage, "--part", &part.to_string()]);
        // Other memory than the driver's.
        command.args(["--threads", "1", "--memory", "16MB"]);
        command.spawn().unwrap()
    }

    /// How one attempt at a part ended; every seventh is killed while it runs.
    fn attempt(&self, stage: &str, part: usize) -> ExitStatus {
        let number = self.attempts.fetch_add(1, Relaxed);
        let mut child = self.launch(stage, part);
        if number % 7 == 3 {
            // Every other one as soon as it is there, however fast the machine.
            let wait = if number % 14 == 3 {
                0
            } else {
                number as u64 % 6
            };
            std::thread::sleep(Duration::from_millis(wait));
            if child.try_wait().unwrap().is_none() {
                child.kill().unwrap();
                self.killed.fetch_add(1, Relaxed);
            }
        }
        child.wait().unwrap()
    }

    fn run(&self, stage: &str, parts: VecDeque<usize>) {
        let parts = Mutex::new(parts);
        let next = || parts.lock().unwrap().pop_front();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while let Some(part) = next() {
                        match self.attempt(stage, part).code() {
                            Some(0) => {}
                            // Killed, or told to try again.
                            None | Some(75) => parts.lock().unwrap().push_back(part),
                            code => panic!("{stage}, part {part}: {code:?}"),
                        }
                    }
                });
            }
        });
    }
}

#[test]
fn three_programs_on_one_folder_leave_the_same_bytes_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, out) = (dir.path().join("whole"), dir.path().join("out"));
    said(selecting(&[], &whole));

    let launcher = Launcher {
        out: &out,
        attempts: AtomicUsize::new(0),
        killed: AtomicUsize::new(0),
    };
    let mut stages = Vec::new();
    loop {
        // The driver too may be killed at any time.
        let mut driver = selecting(&["plan-parts"], &out)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(5 * (stages.len() as u64 % 5)));
        let _ = driver.kill();
        driver.wait().unwrap();

        let wanted = said(selecting(&["plan-parts", "--format", "json"], &out));
        let wanted: Value = serde_json::from_str(&wanted).unwrap();
        if wanted.is_null() {
            break;
        }
        let stage = wanted["stage"].as_str().unwrap().to_owned();
        let parts = wanted["parts"].as_u64().unwrap();
        let missing: VecDeque<usize> = serde_json::from_value(wanted["missing"].clone()).unwrap();
        assert_eq!(missing.len() as u64, parts, "{stage}");
        let line = said(selecting(&["plan-parts"], &out));
        assert_eq!(line, format!("{stage} {parts}\n"));
        if stages.is_empty() {
            // Not yet: what is missing is said, and nothing is written.
            let early = selecting(&["finish"], &out).output().unwrap();
            assert_eq!(early.status.code(), Some(1));
            let said = String::from_utf8(early.stderr).unwrap();
            assert!(
                said.contains(&format!("{parts} of its {parts} parts")),
                "{said}"
            );
        }
        launcher.run(&stage, missing);
        // Once more: it is done already.
        assert!(launcher.launch(&stage, 0).wait().unwrap().success());
        stages.push(stage);
        assert!(stages.len() < STAGES, "{stages:?}");
    }
    assert!(launcher.killed.into_inner() > 3);
    for name in [
        "scan",
        "label",
        "assign",
        "duplicates",
        "count",
        "rank",
        "survivors",
        "keys",
    ] {
        let of = |stage: &&String| stage.split_once('/').unwrap().1.starts_with(name);
        assert!(stages.iter().any(|stage| of(&stage)), "{name}: {stages:?}");
    }

    // Nobody else may begin there, with other options least of all.
    said(selecting(&["finish"], &out));
    assert!(results(&out) == results(&whole));
    assert!(!out.join("work").exists());
    let mut other = selecting(&["plan-parts"], &out);
    assert_eq!(
        other.args(["--seed", "5"]).output().unwrap().status.code(),
        Some(1)
    );
    assert_eq!(said(selecting(&["plan-parts"], &out)), "");
}

#[test]
fn what_a_launcher_can_mend_and_what_it_cannot_have_other_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let line = said(selecting(&["plan-parts"], &out));
    let (stage, parts) = line.trim().split_once(' ').unwrap();
    let code = |stage: &str, part: &str| {
        let mut command = coreset(&["run-part"], &out);
        let output = command
            .args(["--stage", stage, "--part", part])
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    assert_eq!(code(stage, "0").0, Some(0));
    let (found, said) = code("scan-0123456789abcdef/scan", "0");
    assert!(
        found == Some(75) && said.contains("no such stage yet"),
        "{said}"
    );
    let (found, said) = code(stage, parts);
    assert!(
        found == Some(1) && said.contains(&format!("no part {parts}")),
        "{said}"
    );
    assert_eq!(code(stage, "first").0, Some(2));
    for outside in ["../../x", "/etc/passwd", ""] {
        let (found, said) = code(outside, "0");
        assert!(matches!(found, Some(1 | 75)), "{outside}: {said}");
    }

    // A bit of what is done is flipped.
    let folder = out.join("work").join(stage.split_once('/').unwrap().0);
    let path = folder.join("scan-00000.done");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[40] ^= 4;
    std::fs::write(&path, bytes).unwrap();
    let (found, said) = code(stage, "0");
    assert!(found == Some(1) && said.contains("damaged"), "{said}");
}
