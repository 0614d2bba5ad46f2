//! Killed at whatever moment and started again until it is done, work leaves the bytes of work that
//! nobody disturbed, and nothing half-written beside them. Five trials a kind, a hundred with `BUNNY_LONG`.

#[path = "../bunny-weights/tests/hub_server/mod.rs"]
mod hub_server;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use bunny_base::random::mix_all;
use hub_server::HubServer;

/// Files by their path below a folder.
type Files = BTreeMap<String, Vec<u8>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn bunny(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bunny-cli"));
    command
        .args(arguments.split(' '))
        .current_dir(root())
        .env("HF_HUB_OFFLINE", "1")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

fn succeeds(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// All files below a folder, by path; hidden ones too.
fn files_below(folder: &Path) -> Files {
    let (mut found, mut folders) = (Files::new(), vec![folder.to_owned()]);
    while let Some(place) = folders.pop() {
        for entry in fs::read_dir(&place).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
                    found.insert(name.to_owned(), fs::read(&path).unwrap());
                }
            }
        }
    }
    found
}

/// Waits for a child at most so long; whether it has ended.
fn ended_within(child: &mut Child, time: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < time {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        thread::sleep(Duration::from_micros(500));
    }
    false
}

/// Runs `work` in a new folder undisturbed, and then in others, killed over and over at moments spread
/// over the time it takes. What `kept` leaves of its files is the same in all.
fn same_bytes(
    what: &str,
    work: impl Fn(&Path) -> Command,
    kept: impl Fn(&str, &mut Vec<u8>) -> bool,
) {
    let files = |folder: &Path| {
        let mut files = files_below(folder);
        files.retain(|name, bytes| kept(name, bytes));
        files
    };
    let undisturbed = tempfile::tempdir().unwrap();
    let start = Instant::now();
    succeeds(&work(undisturbed.path()).output().unwrap());
    let takes = start.elapsed();
    let expected = files(undisturbed.path());
    assert!(!expected.is_empty());

    let trials = match std::env::var_os("BUNNY_LONG") {
        Some(_) => 100,
        None => 5,
    };
    let (mut kills, start) = (0, Instant::now());
    for trial in 0..trials {
        let folder = tempfile::tempdir().unwrap();
        // In the end it is left alone.
        for attempt in 0.. {
            let mut child = work(folder.path()).spawn().unwrap();
            let share = mix_all(&[trial, attempt]) as f64 / u64::MAX as f64;
            if attempt == 4 || ended_within(&mut child, takes.mul_f64(1.2 * share)) {
                let output = child.wait_with_output().unwrap();
                succeeds(&output);
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
        }
        let found = files(folder.path());
        let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected), "{what}, trial {trial}");
        for (name, bytes) in &found {
            assert!(
                *bytes == expected[name],
                "{what}, trial {trial}: {name} differs"
            );
        }
    }
    println!(
        "{what}: {trials} of {trials} right, {kills} kills, {:.0?}",
        start.elapsed()
    );
    assert!(kills > 0);
}

#[test]
fn training() {
    let work = |folder: &Path| {
        let mut command = bunny(
            "train recipes/tiny.toml --resume --no-scan --set max_steps=6 --set save_steps=2 --out",
        );
        command.arg(folder);
        command
    };
    same_bytes("training", work, |name, bytes| {
        if name.ends_with("metrics.jsonl") {
            // Each step once; how long it took is another matter.
            let text = String::from_utf8_lossy(bytes);
            let steps = text
                .lines()
                .map(|line| line.split(",\"samples_per_second").next().unwrap());
            *bytes = steps.collect::<Vec<_>>().join("\n").into_bytes();
        }
        // A checkpoint names the folder that its projector comes from.
        !name.ends_with("trainer_state.json")
    });
}

/// An `.npy` file of rows of 16 numbers around 40 centres.
fn embeddings(rows: u64, salt: u64) -> Vec<u8> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, 16), }}");
    let padding = 64 - (10 + header.len() + 1) % 64;
    header.push_str(&" ".repeat(padding));
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.into_bytes());
    for row in 0..rows {
        for at in 0..16 {
            let draw = |place: &[u64]| mix_all(place) as f32 / u64::MAX as f32 - 0.5;
            let number = draw(&[row % 40, at]) + 0.3 * draw(&[row, at, salt]);
            file.extend(number.to_le_bytes());
        }
    }
    file
}

#[test]
fn coreset() {
    let set = tempfile::tempdir().unwrap();
    for (salt, kind) in ["img_emb", "text_emb"].into_iter().enumerate() {
        fs::create_dir(set.path().join(kind)).unwrap();
        let file = set.path().join(kind).join(format!("{kind}_0.npy"));
        fs::write(file, embeddings(20_000, salt as u64)).unwrap();
    }
    let work = |folder: &Path| {
        let mut command =
            bunny("data coreset --clusters 30 --sample 500 --memory 64MB --embeddings");
        command.arg(set.path()).arg("--out").arg(folder);
        command
    };
    // The manifest tells of times and places.
    same_bytes("coreset", work, |name, _| name != "manifest.json");
}

#[test]
fn download() {
    let model = root().join("tests/fixtures/models/phi-siglip");
    let mut files = files_below(&model);
    files.retain(|name, _| !name.starts_with("expected"));
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let hub = HubServer::start("org/model", commit, files.clone());
    hub.pace(Duration::from_millis(4));
    let work = |folder: &Path| {
        let mut command = bunny("chat --model org/model --max-new-tokens 2 --prompt Hi");
        command
            .env_remove("HF_HUB_OFFLINE")
            .env_remove("HF_HUB_CACHE")
            .env("HF_ENDPOINT", hub.endpoint())
            .env("HF_HOME", folder);
        command
    };
    same_bytes("download", work, |name, _| !name.ends_with(".lock"));
    let folder = tempfile::tempdir().unwrap();
    succeeds(&work(folder.path()).output().unwrap());
    let found = files_below(folder.path());
    for (name, bytes) in &files {
        let place = format!("hub/models--org--model/snapshots/{commit}/{name}");
        assert!(found[&place] == *bytes, "{name}");
    }
}

#[test]
fn evaluation() {
    let questions = tempfile::tempdir().unwrap();
    let file = questions.path().join("questions.jsonl");
    let asked = [
        "What is in the picture?",
        "What number is written in the picture?",
        "Where is the black diamond?",
        "Describe it.",
    ];
    let lines = (0..40).map(|at| {
        let question = asked[at % asked.len()];
        let image = if at % 3 == 0 {
            ""
        } else {
            ",\"image\":\"shapes.jpg\""
        };
        format!("{{\"question_id\":{at},\"question\":\"{at}. {question}\"{image}}}\n")
    });
    fs::write(&file, lines.collect::<String>()).unwrap();
    let work = |folder: &Path| {
        let mut command = bunny("ask --images examples/pictures --max-new-tokens 40");
        command
            .arg(&file)
            .arg("--out")
            .arg(folder.join("answers.jsonl"));
        command
    };
    same_bytes("evaluation", work, |name, _| name == "answers.jsonl");
}
