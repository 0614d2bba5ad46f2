//! Broken bytes into every reader: never a panic, never more memory than the bytes warrant, and an
//! error that names the file. Seeded; `BUNNY_FUZZ_INPUTS` makes it more than 5,000 inputs a
//! format.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bunny_data::DataError;
use bunny_data::images::{ImageSource, PictureCheck, dimensions, faults};
use bunny_data::record::RecordFile;

/// SplitMix64, so that a seed gives the same inputs everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// A few changes of the kinds that downloads, editors and disks make.
fn mutate(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        let end = (at + 1 + random.below(64)).min(bytes.len());
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = random.next() as u8,
            3 => bytes[at..end].fill(0),
            4 => drop(bytes.drain(at..end)),
            5 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            6 => bytes[at] = b"{}[]\",:\\\n0"[random.below(10)],
            _ => bytes[at..end].fill(0xFF),
        }
    }
    bytes
}

fn inputs() -> u64 {
    let inputs = std::env::var("BUNNY_FUZZ_INPUTS");
    inputs.map_or(5_000, |inputs| inputs.parse().expect("a number of inputs"))
}

/// A folder in memory where the system has one: syncing to a disk would take most of the time.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// Writes mutations of `seeds` to a file, one after another, and reads each by `read`.
fn fuzz(what: &str, extension: &str, seeds: &[Vec<u8>], read: impl Fn(&Path)) {
    let folder = folder();
    let path = folder.path().join(format!("fuzzed.{extension}"));
    let mut random = Random(0xB0A7);
    let (start, inputs) = (Instant::now(), inputs());
    for _ in 0..inputs {
        let seed = &seeds[random.below(seeds.len())];
        fs::write(&path, mutate(seed, &mut random)).unwrap();
        // An index of an earlier input must not stand for this one; now and then it is left to try.
        if random.below(4) > 0 {
            let _ = fs::remove_file(folder.path().join(format!("fuzzed.{extension}.idx")));
        }
        read(&path);
    }
    println!(
        "{what}: {inputs} inputs in {:.1?}, peak memory {} MiB",
        start.elapsed(),
        peak_mib()
    );
    assert!(peak_mib() < 1024, "{what}: {} MiB", peak_mib());
}

/// The most memory this process has had at once.
fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .map_or(0, |kib| kib >> 10)
}

fn fixture(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records");
    fs::read(folder.join(name)).unwrap()
}

fn names_file(error: &DataError, path: &Path) {
    let text = error.to_string();
    assert!(
        text.contains(&path.display().to_string()) && !text.contains('\n'),
        "{text}"
    );
}

fn read_records(path: &Path) {
    match RecordFile::open(path) {
        Ok(file) => {
            for index in 0..file.len().min(200) {
                if let Err(error) = file.get(index) {
                    names_file(&error, path);
                }
            }
        }
        Err(error) => names_file(&error, path),
    }
}

#[test]
fn broken_json_gives_errors_with_their_place() {
    let array = fixture("indented.json");
    let values: Vec<serde_json::Value> = serde_json::from_slice(&array).unwrap();
    let lines: Vec<u8> = values
        .iter()
        .flat_map(|value| format!("{value}\n").into_bytes())
        .collect();
    fuzz(
        "json",
        "json",
        &[array, lines, b"[]".to_vec()],
        read_records,
    );
}

/// Says to the child that it is one.
const CHILD: &str = "BUNNY_FUZZ_PARQUET";

/// The child: does nothing unless it is told to.
#[test]
fn broken_parquet_in_a_process_of_its_own() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let seeds = [
        "snappy.parquet",
        "zstd.parquet",
        "gzip.parquet",
        "embedded.parquet",
    ]
    .map(fixture);
    fuzz("parquet", "parquet", &seeds, read_records);
}

#[test]
fn broken_parquet_gives_errors_and_no_noise() {
    // The Parquet reader panics on some broken files: caught, and not a word of it on stderr.
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "broken_parquet_in_a_process_of_its_own"])
        .args(["--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let (out, noise) = (
        String::from_utf8_lossy(&child.stdout),
        String::from_utf8_lossy(&child.stderr),
    );
    print!("{out}");
    assert!(child.status.success(), "{noise}");
    assert_eq!(noise, "");
}

#[test]
fn broken_archives_and_pictures_give_errors() {
    let tars = ["ustar.tar", "gnu.tar", "pax.tar"].map(fixture);
    let names = ["a.jpg", "folder/b.png", "größe.webp"];
    fuzz("tar", "tar", &tars, |path| match ImageSource::open(path) {
        Ok(images) => {
            for name in names {
                match images.read(name) {
                    Ok(bytes) => {
                        faults(name, &bytes, PictureCheck::Decode);
                        dimensions(&bytes);
                    }
                    Err(error) => names_file(&error, path),
                }
            }
        }
        Err(error) => names_file(&error, path),
    });
}
