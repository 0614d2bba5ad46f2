//! A selection that is killed anywhere goes on when it is started again, and ends with the same
//! bytes. This test starts itself again as the process that is killed.
//!
//! `BUNNY_KILL_SECONDS` raises the time it may take from 30 seconds.

mod coreset_common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bunny_data::coreset::{CoresetOptions, OutputOptions, Window};
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
