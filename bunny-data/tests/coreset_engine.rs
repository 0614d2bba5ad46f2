//! Engines that are not this crate's: tasks that are sent as text to other processes, on folders
//! that stand elsewhere there, give the same bytes. This test starts itself again as the worker.

mod coreset_common;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use bunny_data::coreset::engine::{AnyTask, Engine, Local, Take};
use bunny_data::coreset::{
    CoresetOptions, Division, OutputOptions, Report, Selection, Silent, TileSize, Window, Worker,
};
use bunny_data::store::{Folders, Store};
use bunny_data::{DataError, Result, TaskFault};
use coreset_common::{fixture, options, results};
use serde_json::Value;

/// Says to the child which folder is its mailbox.
const MAIL: &str = "BUNNY_ENGINE_MAIL";

const WORKER: Worker<'_> = Worker {
    memory: 64 << 20,
    tile: TileSize {
        rows: 128,
        columns: 256,
    },
    progress: &Silent,
};

/// Parts of a shard or of so many rows of the sample, and buckets of a few clusters.
const SMALL: Division = Division {
    part_rows: 100,
    bucket_bytes: 4 << 10,
};

fn chosen() -> CoresetOptions {
    let mut options = options("mixture");
    // Trained here, so that rows of the sample are labelled in parts too.
    options.clusters.centroids = None;
    options.clusters.count = Some(12);
    (options.clusters.epochs, options.clusters.iterations) = (2, 2);
    options.clusters.rows_per_centroid = 20;
    options.windows.score = Some(Window::new(1000, 9000));
    options.windows.centroid = Some(Window::new(500, 9000));
    options.sample = Some(40);
    options
}

fn select(engine: &dyn Engine, out: &Path, division: Division) -> Result<Report> {
    let selection = Selection {
        store: &Folders::new(fixture("mixture"), out.join("work")),
        out,
        keep_work: true,
        force: false,
        division,
        options: &chosen(),
        outputs: &OutputOptions::default(),
    };
    selection.run(engine)
}

fn local() -> Local<'static> {
    Local::new(NonZeroUsize::new(2), WORKER).unwrap()
}

/// The files whose names start with a dot, in all stages.
fn hidden(out: &Path) -> Vec<PathBuf> {
    let paths = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let is_hidden = |path: &PathBuf| path.file_name().unwrap().as_encoded_bytes()[0] == b'.';
    let stages = paths(&out.join("work"));
    let all = stages.iter().flat_map(|folder| paths(folder));
    all.filter(is_hidden).collect()
}

/// Sends every part to a process of its own.
struct Processes {
    /// Where the mailboxes are.
    mail: PathBuf,
    /// Where the children find the set, and the work files.
    folders: [PathBuf; 2],
    sent: Mutex<Vec<String>>,
}

impl Engine for Processes {
    fn map(&self, task: &AnyTask, _store: &dyn Store, take: Take<'_>) -> Result<()> {
        let text = task.to_json()?;
        let number = {
            let mut sent = self.sent.lock().unwrap();
            sent.push(text.clone());
            sent.len()
        };
        for part in 0..task.parts() {
            let mail = self.mail.join(format!("{number}-{part}"));
            std::fs::create_dir_all(&mail).unwrap();
            let [embeddings, work] = &self.folders;
            let order = serde_json::json!({
                "task": text, "part": part, "embeddings": embeddings, "work": work,
            });
            std::fs::write(mail.join("order.json"), order.to_string()).unwrap();
            let child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "a_worker_in_a_process_of_its_own"])
                .env(MAIL, &mail)
                .output()
                .unwrap();
            let noise = String::from_utf8_lossy(&child.stderr);
            assert!(child.status.success(), "{noise}");
            let answer = std::fs::read(mail.join("answer.json")).unwrap();
            take(String::from_utf8(answer).unwrap())?;
        }
        Ok(())
    }

    fn drive(&self, work: &mut (dyn FnMut(&Worker<'_>) + Send)) {
        work(&WORKER);
    }
}

/// The child: does nothing unless it is told where its mailbox is.
#[test]
fn a_worker_in_a_process_of_its_own() {
    let Some(mail) = std::env::var_os(MAIL).map(PathBuf::from) else {
        return;
    };
    let order: Value =
        serde_json::from_slice(&std::fs::read(mail.join("order.json")).unwrap()).unwrap();
    let text = |name: &str| order[name].as_str().unwrap();
    let task = AnyTask::from_json(text("task")).unwrap();
    let store = Folders::new(text("embeddings"), text("work"));
    let part = order["part"].as_u64().unwrap() as usize;
    // Other threads, tiles and memory than the driver's.
    let worker = Worker {
        memory: 1 << 20,
        tile: TileSize {
            rows: 7,
            columns: 32,
        },
        progress: &Silent,
    };
    let engine = Local::new(NonZeroUsize::new(1), worker).unwrap();
    let answer = engine.run(|worker| task.run(part, worker, &store)).unwrap();
    std::fs::write(mail.join("answer.json"), answer).unwrap();
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copy = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy_folder(&path, &copy),
            false => drop(std::fs::copy(&path, &copy).unwrap()),
        }
    }
}

#[cfg(unix)]
#[test]
fn tasks_that_are_sent_to_other_processes_give_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = [dir.path().join("mnt/set"), dir.path().join("mnt/work")];
    copy_folder(&fixture("mixture"), &elsewhere[0]);
    let out = dir.path().join("out");
    std::os::unix::fs::symlink(out.join("work"), &elsewhere[1]).unwrap();
    let engine = Processes {
        mail: dir.path().join("mail"),
        folders: elsewhere,
        sent: Mutex::default(),
    };
    let report = select(&engine, &out, SMALL).unwrap();
    let whole = dir.path().join("whole");
    assert_eq!(select(&local(), &whole, SMALL).unwrap(), report);
    assert!(results(&out) == results(&whole));
    assert_eq!(hidden(&out), [""; 0].map(PathBuf::from));

    // What is sent is small, and says of no folder where it is.
    let sent = engine.sent.into_inner().unwrap();
    let mut names: Vec<String> = Vec::new();
    for text in &sent {
        assert!(text.len() < 8 << 10, "{} bytes: {text}", text.len());
        for folder in [dir.path(), &fixture("mixture")] {
            assert!(!text.contains(folder.to_str().unwrap()), "{text}");
        }
        let task = AnyTask::from_json(text).unwrap();
        assert_eq!(task.to_json().unwrap(), *text);
        names.push(task.name().to_owned());
        assert!(task.parts() > 1, "{text}");
    }
    names.sort();
    names.dedup();
    let all = [
        "assign",
        "count",
        "duplicates",
        "keys",
        "label",
        "rank",
        "scan",
        "survivors",
    ];
    assert_eq!(names, all);
}

#[test]
fn how_the_work_is_divided_changes_no_result() {
    let dir = tempfile::tempdir().unwrap();
    let files = |name: &str, division| {
        let out = dir.path().join(name);
        select(&local(), &out, division).unwrap();
        let mut files = results(&out);
        // The report tells the hash of the set, which is made of those of its parts.
        files.retain(|(name, _)| !name.starts_with("report."));
        files
    };
    let expected = files("whole", Division::default());
    assert!(expected.len() >= 3);
    for (part_rows, bucket_bytes) in [(50, 1), (150, 4 << 10), (100, 256 << 20)] {
        let division = Division {
            part_rows,
            bucket_bytes,
        };
        assert!(files(&format!("{division:?}"), division) == expected);
    }
}

/// Runs every part twice at the same time, and once more, each from the task's text.
struct Thrice;

impl Engine for Thrice {
    fn map(&self, task: &AnyTask, store: &dyn Store, take: Take<'_>) -> Result<()> {
        let text = task.to_json()?;
        for part in 0..task.parts() {
            let run = || AnyTask::from_json(&text)?.run(part, &WORKER, store);
            let (a, b) = std::thread::scope(|scope| {
                let (a, b) = (scope.spawn(run), scope.spawn(run));
                (a.join().unwrap(), b.join().unwrap())
            });
            let value = a?;
            assert_eq!(value, b?);
            assert_eq!(value, run()?);
            take(value)?;
        }
        Ok(())
    }

    fn drive(&self, work: &mut (dyn FnMut(&Worker<'_>) + Send)) {
        work(&WORKER);
    }
}

#[test]
fn attempts_at_one_part_do_not_meet() {
    let dir = tempfile::tempdir().unwrap();
    let (out, whole) = (dir.path().join("out"), dir.path().join("whole"));
    select(&Thrice, &out, SMALL).unwrap();
    select(&local(), &whole, SMALL).unwrap();
    assert!(results(&out) == results(&whole));
    assert_eq!(hidden(&out), [""; 0].map(PathBuf::from));
}

#[test]
fn what_killed_attempts_left_is_removed_where_no_other_can_be_at_work() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path();
    select(&local(), out, SMALL).unwrap();
    let expected = results(out);
    let leave = || {
        for entry in std::fs::read_dir(out.join("work")).unwrap() {
            std::fs::write(entry.unwrap().path().join(".bunny-left.part"), "half").unwrap();
        }
        std::fs::remove_file(out.join("manifest.json")).unwrap();
        hidden(out).len()
    };
    let left = leave();
    assert!(left >= 6);
    select(&Thrice, out, SMALL).unwrap();
    assert_eq!(
        hidden(out).len(),
        left,
        "another's attempts may be under way"
    );
    leave();
    select(&local(), out, SMALL).unwrap();
    assert_eq!(hidden(out).len(), 0);
    assert!(results(out) == expected);
}

/// Hands over all results but the last, or the last one twice.
struct Careless {
    twice: bool,
}

impl Engine for Careless {
    fn map(&self, task: &AnyTask, store: &dyn Store, take: Take<'_>) -> Result<()> {
        for part in 0..task.parts() {
            let value = task.run(part, &WORKER, store)?;
            let times = match (part + 1 == task.parts(), self.twice) {
                (true, true) => 2,
                (true, false) => 0,
                _ => 1,
            };
            (0..times).try_for_each(|_| take(value.clone()))?;
        }
        Ok(())
    }

    fn drive(&self, work: &mut (dyn FnMut(&Worker<'_>) + Send)) {
        work(&WORKER);
    }
}

#[test]
fn an_engine_that_loses_a_result_or_brings_one_twice_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    for twice in [false, true] {
        let out = dir.path().join(twice.to_string());
        let error = select(&Careless { twice }, &out, SMALL).unwrap_err();
        let DataError::Task(TaskFault::Results { found, parts }) = error else {
            panic!("{error}");
        };
        assert_eq!(found, if twice { parts + 1 } else { parts - 1 });
    }
}

#[test]
fn a_task_that_is_not_understood_is_refused() {
    let refused = |text: &str| match AnyTask::from_json(text) {
        Err(error) => error.to_string(),
        Ok(task) => panic!("{task:?}"),
    };
    let newer = refused(r#"{"format_version": 3, "task": "dream"}"#);
    assert!(newer.contains("format_version 3 is newer"), "{newer}");
    assert!(refused(r#"{"format_version": 1, "task": "dream"}"#).contains("dream"));
    assert!(refused("keys.txt").starts_with("a task: "));
    // A key that leads out of the store's folders, and a part that is not there.
    let survivors = |folder: &str| {
        serde_json::json!({
            "format_version": 2, "task": "count", "by": "Score",
            "survivors": { "folder": folder, "buckets": 1, "cuts": [] },
            "stage": { "folder": "work/y", "name": "count-01", "fingerprint": "" },
        })
    };
    let store = Folders::new("set", "out/work");
    for folder in ["work/../../secret", "elsewhere/x", "work//etc", "/etc"] {
        let task = AnyTask::from_json(&survivors(folder).to_string()).unwrap();
        let error = task.run(0, &WORKER, &store).unwrap_err();
        assert!(matches!(error, DataError::Key(_)), "{folder}: {error}");
    }
    let task = AnyTask::from_json(&survivors("work/x").to_string()).unwrap();
    let error = task.run(1, &WORKER, &store).unwrap_err();
    assert!(error.to_string().ends_with("no part 1 of 1"), "{error}");
}
