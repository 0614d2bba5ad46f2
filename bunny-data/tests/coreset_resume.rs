//! A selection that is killed anywhere goes on when it is started again, and ends with the same
//! bytes. This test starts itself again as the process that is killed.
//!
//! `BUNNY_KILL_SECONDS` raises the time it may take from 30 seconds.

mod coreset_common;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bunny_data::DataError;
use bunny_data::coreset::engine::Local;
use bunny_data::coreset::{
    Centroids, CoresetOptions, Division, Geometry, MissingImages, OutputOptions, Paths, Progress,
    Silent, TileSize, Window, Worker,
};
use coreset_common::{Machine, fixture, options, results, run};

/// Kills, at most.
const KILLS: u64 = 20;

/// Says to the child where to write.
const OUT: &str = "BUNNY_RESUME_OUT";

fn chosen() -> CoresetOptions {
    let mut options = options("giant");
    // Trained here, so that the rounds of k-means are interrupted too.
    options.clusters.centroids = None;
    options.clusters.count = Some(6);
    (options.clusters.epochs, options.clusters.iterations) = (3, 4);
    options.clusters.rows_per_centroid = 60;
    options.windows.score = Some(Window::new(1000, 9000));
    options.windows.centroid = Some(Window::new(500, 9000));
    options.sample = Some(60);
    options
}

fn select(out: &Path) {
    // Single rows at a time, so that there is something to interrupt.
    let machine = Machine {
        threads: 1,
        tile: (1, 1),
        ..Machine::default()
    };
    run(
        &fixture("giant"),
        out,
        &chosen(),
        &OutputOptions::default(),
        machine,
    )
    .unwrap();
}

/// The child: does nothing unless it is told where to write.
#[test]
fn a_selection_in_a_process_of_its_own() {
    if let Some(out) = std::env::var_os(OUT) {
        select(Path::new(&out));
    }
}

#[test]
fn a_killed_selection_goes_on_and_ends_with_the_same_bytes() {
    let cap = std::env::var("BUNNY_KILL_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let deadline = Instant::now() + Duration::from_secs(cap.unwrap_or(30));
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let start = Instant::now();
    select(&whole);
    let length = start.elapsed().max(Duration::from_millis(20));
    let expected = results(&whole);
    assert!(
        !whole.join("work").exists(),
        "work files stay only where they are asked for"
    );

    let (mut kills, mut rounds) = (0, 0_u64);
    while kills < KILLS && Instant::now() < deadline {
        let out = dir.path().join(format!("killed-{rounds}"));
        loop {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "a_selection_in_a_process_of_its_own",
                    "--test-threads=1",
                ])
                .env(OUT, &out)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            // Anywhere within the time a whole selection takes, by a written-down draw.
            let draw = (rounds * 7919 + kills * 104_729 + 13) % 1000;
            std::thread::sleep(length.mul_f64(draw as f64 / 1000.0));
            if kills >= KILLS || child.try_wait().unwrap().is_some() {
                assert!(child.wait().unwrap().success());
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
        }
        assert!(results(&out) == expected, "after {kills} kills");
        rounds += 1;
    }
    println!("{kills} kills in {rounds} selections of {length:?}");
    assert!(kills > 0, "nothing was killed");
}

#[test]
fn other_options_and_other_input_are_not_taken_for_done() {
    let dir = tempfile::tempdir().unwrap();
    let outputs = OutputOptions::default();
    let select = |out: &Path, options: &CoresetOptions| {
        run(
            &fixture("mixture"),
            out,
            options,
            &outputs,
            Machine::default(),
        )
        .unwrap()
    };
    let first = options("mixture");
    let mut second = first.clone();
    second.duplicates.threshold = 0.7;
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    select(&a, &first);
    let expected = results(&a);
    select(&b, &second);
    assert!(results(&b) != expected);
    // The same folder again, with other options, and back.
    select(&b, &first);
    assert!(results(&b) == expected);
    let done = select(&b, &first);
    assert_eq!(done, select(&a, &first));
    // A result that was removed is made again.
    std::fs::remove_file(b.join("keys.txt")).unwrap();
    select(&b, &first);
    assert!(results(&b) == expected);
}

/// The same selection in two folders: one that was used before, and a fresh one.
fn same_as_fresh(used: &Path, options: &CoresetOptions, outputs: &OutputOptions) {
    let fresh = tempfile::tempdir().unwrap();
    for out in [used, fresh.path()] {
        run(
            &fixture("mixture"),
            out,
            options,
            outputs,
            Machine::default(),
        )
        .unwrap();
    }
    assert!(results(used) == results(fresh.path()));
}

#[test]
fn other_centroids_under_the_same_name_are_not_taken_for_done() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("centroids.npy");
    let given = Centroids::read(
        fixture("mixture").join("centroids.npy"),
        24,
        Geometry::Euclidean,
    );
    let given = given.unwrap();
    given.write(&path).unwrap();
    let out = dir.path().join("out");
    let mut options = options("mixture");
    options.clusters.centroids = Some(path.clone());
    same_as_fresh(&out, &options, &OutputOptions::default());
    let before = results(&out);

    let half = given.values()[..given.values().len() / 24 / 2 * 24].to_vec();
    Centroids::new(half, 24, Geometry::Euclidean)
        .write(&path)
        .unwrap();
    same_as_fresh(&out, &options, &OutputOptions::default());
    assert!(results(&out) != before);

    options.clusters.start_from = options.clusters.centroids.take();
    same_as_fresh(&out, &options, &OutputOptions::default());
    let before = results(&out);
    given.write(&path).unwrap();
    same_as_fresh(&out, &options, &OutputOptions::default());
    assert!(results(&out) != before);
}

#[test]
fn pictures_that_came_or_went_are_looked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let (out, images) = (dir.path().join("out"), dir.path().join("images"));
    std::fs::create_dir(&images).unwrap();
    let mut options = options("mixture");
    options.windows.centroid = None;
    let outputs = OutputOptions {
        images: Some(images.clone()),
        missing_images: MissingImages::Skip,
    };
    same_as_fresh(&out, &options, &OutputOptions::default());
    let keys = std::fs::read_to_string(out.join("keys.txt")).unwrap();
    let names: Vec<String> = keys.lines().map(|key| format!("{key}.jpg")).collect();
    let shown = || {
        let text = std::fs::read_to_string(out.join("pretrain.json")).unwrap();
        let records: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        let image = |record: &serde_json::Value| record["image"].as_str().unwrap().to_owned();
        records.iter().map(image).collect::<Vec<_>>()
    };
    // One comes; another comes in its stead, so that as many are missing as before.
    for name in &names[..2] {
        std::fs::write(images.join(name), "").unwrap();
        same_as_fresh(&out, &options, &outputs);
        assert_eq!(shown(), [name.as_str()]);
        std::fs::remove_file(images.join(name)).unwrap();
    }
    // A selection without pictures leaves no list of them beside its keys.
    same_as_fresh(&out, &options, &OutputOptions::default());
    assert!(!out.join("pretrain.json").exists());
}

#[test]
fn a_run_that_ends_between_its_keys_and_its_report_leaves_nothing_that_passes_for_finished() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path();
    let first = options("mixture");
    let mut second = first.clone();
    second.duplicates.threshold = 0.7;
    let outputs = OutputOptions::default();
    same_as_fresh(out, &first, &outputs);
    // A folder in the place of the last file ends the second run after the others.
    let last = out.join("report.html");
    let report = std::fs::read(&last).unwrap();
    std::fs::remove_file(&last).unwrap();
    std::fs::create_dir(&last).unwrap();
    run(
        &fixture("mixture"),
        out,
        &second,
        &outputs,
        Machine::default(),
    )
    .unwrap_err();
    std::fs::remove_dir(&last).unwrap();
    std::fs::write(&last, report).unwrap();
    same_as_fresh(out, &first, &outputs);
}

#[test]
fn work_files_that_a_killed_run_left_behind_its_results_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (options, outputs) = (options("mixture"), OutputOptions::default());
    same_as_fresh(dir.path(), &options, &outputs);
    let work = dir.path().join("work");
    std::fs::create_dir_all(work.join("scan-0123456789abcdef")).unwrap();
    same_as_fresh(dir.path(), &options, &outputs);
    assert!(!work.exists());
}

#[test]
fn a_manifest_that_is_not_a_selections_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("manifest.json");
    std::fs::write(&path, r#"{"format_version": 1, "seed": 3}"#).unwrap();
    let (options, outputs) = (options("mixture"), OutputOptions::default());
    let error = run(
        &fixture("mixture"),
        dir.path(),
        &options,
        &outputs,
        Machine::default(),
    );
    let error = error.unwrap_err().to_string();
    assert!(
        error.starts_with(&path.display().to_string()) && error.ends_with("remove this file"),
        "{error}"
    );
    assert!(path.is_file());
}

/// Copies the output folder whenever a round of k-means is done, before it is written down.
struct Snapshots {
    out: PathBuf,
    to: PathBuf,
    stage: Mutex<String>,
    taken: AtomicUsize,
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

impl Progress for Snapshots {
    fn begin(&self, stage: &str, _total: u64) {
        *self.stage.lock().unwrap() = stage.to_owned();
    }

    fn advance(&self, _units: u64) {
        if *self.stage.lock().unwrap() == "k-means" {
            let number = self.taken.fetch_add(1, Relaxed);
            copy_folder(&self.out, &self.to.join(format!("{number:02}")));
        }
    }
}

/// The names in the folder of k-means that start so.
fn training_files(out: &Path, kind: &str) -> Vec<PathBuf> {
    let paths = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let of = |path: &PathBuf, kind: &str| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with(kind)
    };
    let folders = paths(&out.join("work"))
        .into_iter()
        .filter(|path| of(path, "kmeans-"));
    folders
        .flat_map(|folder| paths(&folder))
        .filter(|path| of(path, kind))
        .collect()
}

#[test]
fn training_keeps_one_round_and_one_sample_and_goes_on_from_any_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let (out, to) = (dir.path().join("out"), dir.path().join("snapshots"));
    let snapshots = Snapshots {
        out: out.clone(),
        to: to.clone(),
        stage: Mutex::default(),
        taken: AtomicUsize::new(0),
    };
    let worker = Worker {
        memory: Machine::default().memory,
        tile: TileSize::default(),
        progress: &snapshots,
    };
    let paths = Paths {
        embeddings: fixture("giant"),
        out: out.clone(),
        work: None,
        keep_work: true,
        force: false,
        division: Division::default(),
    };
    let engine = Local::new(NonZeroUsize::new(1), worker).unwrap();
    let outputs = OutputOptions::default();
    bunny_data::coreset::select(&engine, &paths, &chosen(), &outputs).unwrap();
    let expected = results(&out);
    assert_eq!(training_files(&out, "round-").len(), 1);
    assert_eq!(training_files(&out, "sample-").len(), 1);

    let taken = snapshots.taken.into_inner();
    // One as training begins, and one in each round; an epoch that settles has fewer rounds.
    assert!((4..=13).contains(&taken), "{taken}");
    for number in 0..taken {
        let out = to.join(format!("{number:02}"));
        for kind in ["round-", "sample-"] {
            let files = training_files(&out, kind);
            assert!(files.len() <= 1, "{files:?}");
        }
        // As a kill before what came earlier was removed: an older round, and another sample.
        if let [round] = &training_files(&out, "round-")[..] {
            std::fs::copy(round, round.with_file_name("round-00000.npy")).unwrap();
        }
        if let [sample] = &training_files(&out, "sample-")[..] {
            std::fs::copy(sample, sample.with_file_name("sample-099.npy")).unwrap();
        }
        select(&out);
        assert!(results(&out) == expected, "from snapshot {number}");
    }
}

/// All files below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(files_below(&path)),
            false => files.push(path),
        }
    }
    files.sort();
    files
}

#[test]
fn a_flipped_bit_in_any_work_file_is_told_or_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let machine = Machine::default();
    let paths = Paths {
        embeddings: fixture("giant"),
        out: out.clone(),
        work: None,
        keep_work: true,
        force: false,
        division: Division {
            part_rows: 50,
            bucket_bytes: 4 << 10,
        },
    };
    let worker = Worker {
        memory: machine.memory,
        tile: TileSize::default(),
        progress: &Silent,
    };
    let engine = Local::new(NonZeroUsize::new(1), worker).unwrap();
    let outputs = OutputOptions::default();
    let select = || bunny_data::coreset::select(&engine, &paths, &chosen(), &outputs);
    select().unwrap();
    let expected = results(&out);
    let (mut told, mut unread) = (0, Vec::new());
    for path in files_below(&out.join("work")) {
        let good = std::fs::read(&path).unwrap();
        for place in 0..5 {
            let at = (good.len() - 1) * place / 4;
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            std::fs::write(&path, &bad).unwrap();
            // All that reads this file is done again.
            std::fs::remove_file(out.join("manifest.json")).unwrap();
            let again = select();
            std::fs::write(&path, &good).unwrap();
            match again {
                Ok(_) => unread.push(path.clone()),
                Err(error) => {
                    assert!(
                        matches!(error, DataError::Work { .. }),
                        "byte {at} of {}: {error}",
                        path.display()
                    );
                    let said = error.to_string();
                    assert!(said.starts_with(&path.display().to_string()), "{said}");
                    told += 1;
                    select().unwrap();
                }
            }
            assert!(results(&out) == expected, "byte {at} of {}", path.display());
        }
    }
    assert!(told > 100, "{told} told, not those of {unread:?}");
}

#[test]
fn a_flipped_bit_of_a_run_is_told_by_the_stage_that_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path();
    let outputs = OutputOptions::default();
    let paths = Paths {
        embeddings: fixture("giant"),
        out: out.to_owned(),
        work: None,
        keep_work: true,
        force: false,
        division: Division::default(),
    };
    let worker = Worker {
        memory: Machine::default().memory,
        tile: TileSize::default(),
        progress: &Silent,
    };
    let engine = Local::new(NonZeroUsize::new(1), worker).unwrap();
    bunny_data::coreset::select(&engine, &paths, &chosen(), &outputs).unwrap();
    let files = files_below(&out.join("work"));
    let run = files
        .iter()
        .find(|path| path.ends_with("run-00000.bin"))
        .unwrap();
    let mut bytes = std::fs::read(run).unwrap();
    let at = bytes.len() / 3;
    bytes[at] ^= 32;
    std::fs::write(run, bytes).unwrap();
    // Another threshold: the rows are in their clusters already, duplicates are looked for again.
    std::fs::remove_file(out.join("manifest.json")).unwrap();
    let mut other = chosen();
    other.duplicates.threshold = 0.9;
    let error = bunny_data::coreset::select(&engine, &paths, &other, &outputs).unwrap_err();
    let said = error.to_string();
    assert!(
        said.starts_with(&run.display().to_string()) && said.contains("damaged"),
        "{said}"
    );
}
