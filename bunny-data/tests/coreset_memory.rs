//! A selection stays within the memory it is given, however large the set is.
#![cfg(target_os = "linux")]

mod coreset_common;

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bunny_data::coreset::{CoresetOptions, OutputOptions};
use coreset_common::{Machine, run};
use half::f16;

/// Says to the child where the set is.
const SET: &str = "BUNNY_MEMORY_SET";

const ROWS: usize = 300_000;
const DIMS: usize = 128;

/// Bytes the selection may use; the set takes five times as much.
const MEMORY: u64 = 32 << 20;

/// What a process has beside: its code, stacks, and buffers of a fixed size.
const BESIDE: u64 = 24 << 20;

/// SplitMix64's last step.
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// Rows around 100 centres of very unequal weight, so that one cluster is large; a third of them
/// equal to an earlier row.
fn write_set(folder: &Path) {
    for (name, salt) in [("img_emb", 0_u64), ("text_emb", 1 << 40)] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
        let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        let header =
            format!("{{'descr': '<f2', 'fortran_order': False, 'shape': ({ROWS}, {DIMS}), }}");
        bytes.extend(format!("{header:<117}\n").as_bytes());
        for row in 0..ROWS as u64 {
            let row = if mix(row).is_multiple_of(3) {
                row / 2
            } else {
                row
            };
            let centre = (mix(row ^ 0x55) % 100).min(mix(row ^ 0xAA) % 100) / 3;
            for i in 0..DIMS as u64 {
                let unit = |word: u64| (mix(word) >> 40) as f32 / (1 << 23) as f32 - 1.0;
                let value = unit(centre << 20 | i | 1 << 60) + unit(row << 10 | i | salt);
                bytes.extend(f16::from_f32(0.07 * value).to_le_bytes());
            }
        }
        std::fs::write(folder.join(name).join(format!("{name}_0.npy")), bytes).unwrap();
    }
}

/// Anonymous and shared memory of this process: what is its own, and cannot be dropped.
fn own_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.unwrap_or(0) << 10
    };
    field("RssAnon:") + field("RssShmem:")
}

/// The child: does nothing unless it is told where the set is.
#[test]
fn a_selection_in_a_process_of_its_own() {
    let Some(set) = std::env::var_os(SET) else {
        return;
    };
    let set = Path::new(&set);
    let mut options = CoresetOptions::default();
    options.clusters.count = Some(40);
    options.clusters.iterations = 5;
    let machine = Machine {
        memory: MEMORY,
        ..Machine::default()
    };
    let (done, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                peak.fetch_max(own_memory(), Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let out = set.join("out");
        let report = run(set, &out, &options, &OutputOptions::default(), machine);
        done.store(true, Relaxed);
        assert!(report.unwrap().reduced.identical > ROWS as u64 / 10);
    });
    println!("{} KiB of its own at most", peak.load(Relaxed) >> 10);
    assert!(peak.load(Relaxed) < MEMORY + BESIDE);
}

#[test]
fn memory_stays_within_what_was_given() {
    let dir = tempfile::tempdir().unwrap();
    write_set(dir.path());
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_selection_in_a_process_of_its_own",
            "--nocapture",
        ])
        .env(SET, dir.path())
        .output()
        .unwrap();
    print!("{}", String::from_utf8_lossy(&child.stdout));
    let noise = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{noise}");
}
