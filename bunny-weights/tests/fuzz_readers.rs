//! Damaged files of weights: whatever the damage, an error or tensors that are whole; no panic, and
//! no more memory than a multiple of the file.
//!
//! Each test reads 20,000 files, or `BUNNY_FUZZ_INPUTS`, from a fixed seed, or from
//! `BUNNY_FUZZ_SEED`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use bunny_weights::TensorFiles;

/// Counts the memory that this thread has in use, and the most it had.
struct Counting;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: everything is passed on to the system's allocator; the counters do not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.get().wrapping_add(layout.size());
        LIVE.set(live);
        PEAK.set(PEAK.get().max(live));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get().wrapping_sub(layout.size()));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints")
}

/// All fixtures with one of these endings.
fn seeds(endings: &[&str]) -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let mut folders = vec![fixtures()];
    while let Some(folder) = folders.pop() {
        let mut paths: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                folders.push(path);
            } else if endings
                .iter()
                .any(|ending| path.to_str().unwrap().ends_with(ending))
            {
                seeds.push(fs::read(path).unwrap());
            }
        }
    }
    assert!(!seeds.is_empty());
    seeds
}

/// Places worth damaging: most of an archive is padding and numbers.
fn place(random: &mut Random, file: &[u8]) -> usize {
    for _ in 0..8 {
        let at = random.below(file.len());
        if !matches!(file.get(at), None | Some(0 | b'Z')) {
            return at;
        }
    }
    random.below(file.len())
}

fn damage(random: &mut Random, file: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    const WIDE: [u64; 8] = [
        0,
        1,
        0x7f,
        0xff,
        0x7fff_ffff,
        0xffff_ffff,
        i64::MAX as u64,
        u64::MAX,
    ];
    let at = place(random, file);
    let length = 1 + random.below(24);
    let end = (at + length).min(file.len());
    match random.below(10) {
        0 => file.truncate(at),
        1 => drop(file.drain(at.min(end)..end)),
        2 => {
            let copy = file[at.min(end)..end].to_vec();
            let to = place(random, file);
            file.splice(to..to, copy);
        }
        3 => {
            let other = random.pick(seeds);
            let from = place(random, other);
            let copy = other[from..(from + length).min(other.len())].to_vec();
            file.splice(at.min(end)..end, copy);
        }
        4 => {
            let number = random.pick(&WIDE).to_le_bytes();
            let width = *random.pick(&[1, 2, 4, 8]);
            for (byte, new) in file.iter_mut().skip(at).zip(&number[..width]) {
                *byte = *new;
            }
        }
        5 => {
            // Digits of JSON: offsets, shapes.
            let digits: Vec<usize> = (at..file.len().min(at + 200))
                .filter(|&digit| file[digit].is_ascii_digit())
                .collect();
            if let Some(&digit) = digits.first() {
                let number = random.pick(&WIDE).to_string();
                file.splice(digit..=digit, number.into_bytes());
            }
        }
        6 => {
            let byte = *random.pick(b"\"{}[],:0-9.eE\\(.)ae}]tuRQqhJKMXcb\x80\x85\x8a\x93\x94\n");
            if let Some(old) = file.get_mut(at) {
                *old = byte;
            }
        }
        _ => {
            if let Some(byte) = file.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
    }
}

/// Runs `read` on damaged seeds.
fn fuzz(name: &str, seeds: &[Vec<u8>], mut read: impl FnMut(&mut Random, Vec<u8>) -> bool) {
    let variable = |name| {
        std::env::var(name)
            .ok()
            .and_then(|value: String| value.parse().ok())
    };
    let inputs = variable("BUNNY_FUZZ_INPUTS").unwrap_or(20_000);
    let seed = variable("BUNNY_FUZZ_SEED").unwrap_or(1);
    let mut whole = 0u64;
    for input in 0..inputs {
        let mut random = Random(seed ^ (input << 16));
        let mut file = random.pick(seeds).clone();
        for _ in 0..=random.below(4) {
            damage(&mut random, &mut file, seeds);
        }
        let size = file.len();
        let before = LIVE.get();
        PEAK.set(before);
        whole += u64::from(read(&mut random, file));
        let used = PEAK.get() - before;
        assert!(
            used <= (1 << 20) + 200 * size,
            "{name} {input}: {used} bytes for {size}"
        );
    }
    println!("{name}: {inputs} inputs, {whole} of them read");
    assert!(
        whole > 0 && whole < inputs,
        "the damage is neither nothing nor everything"
    );
}

/// Whether a file is read, in which case all its tensors must be whole.
fn is_read(files: Result<TensorFiles, impl std::fmt::Display>) -> bool {
    match files {
        Ok(files) => {
            for name in files.names() {
                let tensor = files.get(name).unwrap();
                let elements: usize = tensor.shape.iter().product();
                assert_eq!(tensor.bytes.len(), elements * tensor.dtype.size());
            }
            true
        }
        Err(error) => {
            let line = error.to_string();
            assert!(!line.contains('\n') && line.len() < 2000, "{line}");
            false
        }
    }
}

#[test]
fn damaged_safetensors_are_refused_or_whole() {
    let seeds = seeds(&[".safetensors"]);
    fuzz("safetensors", &seeds, |random, mut file| {
        // The header's length, kept right half of the time, so that damage gets past it.
        if random.below(2) == 0
            && let Some(end) = file.windows(2).rposition(|pair| pair == b"}}")
            && end > 6
        {
            file[..8].copy_from_slice(&(end as u64 + 2 - 8).to_le_bytes());
        }
        is_read(TensorFiles::from_bytes("x.safetensors", file.into()))
    });
}

#[test]
fn damaged_pickles_are_refused_or_whole() {
    let seeds = seeds(&[".pt", ".pth", ".bin"]);
    fuzz("pickle", &seeds, |_, file| {
        is_read(TensorFiles::from_bytes("x.pt", file.into()))
    });
}

#[test]
fn damaged_indices_are_refused_or_whole() {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixtures().join("sharded")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let index = folder.path().join("model.safetensors.index.json");
    let seeds = seeds(&["model.safetensors.index.json"]);
    fuzz("index", &seeds, |_, file| {
        // Removed first: some file systems bring a file that is overwritten to the disk at once.
        let _ = fs::remove_file(&index);
        fs::write(&index, file).unwrap();
        is_read(TensorFiles::open_folder(folder.path()))
    });
}

#[test]
fn random_instructions_are_refused_or_whole() {
    const OPCODES: &[u8] = b"(.GJKMNQRXabcehjqrstu]})\x80\x85\x86\x87\x88\x89\x8a\x8c\x93\x94\x95";
    // The pickles of real archives, as stores of sensible runs of instructions.
    let pickles: Vec<Vec<u8>> = seeds(&[".pt"])
        .into_iter()
        .filter_map(|file| {
            let start = file.windows(4).position(|window| window == b"\x80\x02}q")?;
            let end = file.windows(4).position(|window| window == b"PK\x07\x08")?;
            file.get(start..end).map(<[u8]>::to_vec)
        })
        .collect();
    // The older format needs no directory: a pickle of one's own can stand in its place.
    let legacy = fs::read(fixtures().join("legacy.pt")).unwrap();
    let object = legacy
        .windows(4)
        .rposition(|window| window == b"\x80\x02}q")
        .unwrap();
    fuzz("instructions", &pickles, |random, mut pickle| {
        for _ in 0..random.below(4) {
            let at = random.below(pickle.len() + 1);
            let run: Vec<u8> = (0..random.below(12))
                .map(|_| *random.pick(OPCODES))
                .collect();
            pickle.splice(at..at, run);
        }
        if random.below(8) == 0 {
            pickle = b"\x80\x02}q\0.".to_vec();
        }
        let file = [&legacy[..object], &pickle, b"\x80\x02].", &legacy[object..]].concat();
        is_read(TensorFiles::from_bytes("x.pt", file.into()))
    });
}
