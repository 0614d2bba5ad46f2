//! Damaged pictures: no panic, and no more memory than the limit allows.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use bunny_core::input::image::{DecodeOptions, decode};
use serde_json::Value;

/// Counts what is allocated now, and the most there was.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is passed on to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Numbers that look random (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// A few bytes changed, mostly near the beginning where the headers are; sometimes cut or grown.
fn damage(whole: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..=random.below(6) {
        let reach = [24, 64, bytes.len()][random.below(3)].min(bytes.len());
        let at = random.below(reach);
        bytes[at] = match random.below(4) {
            0 => 0,
            1 => 0xff,
            2 => bytes[at] ^ (1 << random.below(8)),
            _ => random.below(256) as u8,
        };
    }
    match random.below(8) {
        0 => bytes.truncate(1 + random.below(bytes.len())),
        1 => bytes.extend_from_within(random.below(bytes.len())..),
        _ => {}
    }
    bytes
}

/// JPEG files of every kind, some of them damaged as they are.
fn jpegs(folder: &Path) -> impl Iterator<Item = (String, Vec<u8>)> {
    let entries = fs::read(folder.join("jpegs.json")).unwrap();
    let entries: Vec<Value> = serde_json::from_slice(&entries).unwrap();
    let bytes = fs::read(folder.join("jpegs.bin")).unwrap();
    let mut at = 0;
    entries.into_iter().map(move |entry| {
        let from = at;
        at += entry["length"].as_u64().unwrap() as usize;
        (entry["name"].to_string(), bytes[from..at].to_vec())
    })
}

#[test]
fn damaged_files_neither_panic_nor_take_memory_beyond_the_limit() {
    const EACH: usize = 400;
    let options = DecodeOptions {
        max_pixels: 1 << 18,
        upright: true,
    };
    // Eight bytes a pixel while decoding and three of the result, twice over for a copy, and what
    // decoders keep whatever the size: tables, windows, 65,535 rows of a TIFF with a strip each.
    let allowed = (8 + 3) * 2 * (1 << 18) + (24 << 20);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures");
    let mut paths: Vec<_> = fs::read_dir(folder.join("files"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let mut files: Vec<(String, Vec<u8>, usize)> = paths
        .iter()
        .map(|path| (path.display().to_string(), fs::read(path).unwrap(), EACH))
        .collect();
    files.extend(jpegs(&folder).map(|(name, whole)| (name, whole, EACH / 8)));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut tried, mut decoded, mut most) = (0, 0, 0);
    for (name, whole, times) in files {
        for _ in 0..times {
            let bytes = damage(&whole, &mut random);
            let before = NOW.load(Ordering::Relaxed);
            MOST.store(before, Ordering::Relaxed);
            let outcome = std::panic::catch_unwind(|| decode(&bytes, options).is_ok());
            let taken = MOST.load(Ordering::Relaxed) - before;
            let Ok(outcome) = outcome else {
                panic!("{name}: panicked on {bytes:?}")
            };
            assert!(taken <= allowed, "{name}: took {taken} bytes for {bytes:?}");
            most = most.max(taken);
            decoded += usize::from(outcome);
            tried += 1;
        }
    }
    println!(
        "{tried} damaged files tried, {decoded} decoded all the same, at most {most} bytes taken"
    );
    assert!(tried >= 25_000 && decoded > 0 && decoded < tried);
}
