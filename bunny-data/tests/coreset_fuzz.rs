//! Broken embedding files are errors that name the file: never a panic, never memory without
//! bound. Mutations are seeded; `BUNNY_FUZZ_INPUTS` raises their number from 2,000.

mod coreset_common;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow_array::types::Float16Type;
use arrow_array::{ArrayRef, FixedSizeListArray, PrimitiveArray, RecordBatch, StringArray};
use arrow_schema::{DataType, Field};
use bunny_data::Result;
use bunny_data::coreset::{CoresetOptions, Invalid, OutputOptions};
use bunny_data::embeddings::{EmbeddingOptions, EmbeddingSet};
use bunny_data::store::Folders;
use coreset_common::{Machine, fixture, results, run};
use half::f16;
use parquet::arrow::ArrowWriter;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// A few changes of bytes, mostly where the structure is: the start and the end.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let length = bytes.len();
        let at = match random.below(3) {
            0 => random.below(length.min(200)),
            1 => length.saturating_sub(1 + random.below(length.min(300))),
            _ => random.below(length),
        };
        match random.below(6) {
            0 if length > 0 => bytes[at] ^= 1 << random.below(8),
            1 if length > 0 => bytes[at] = random.next() as u8,
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.next() as u8),
            4 => {
                let end = (at + 8).min(length);
                bytes[at..end].fill([0x00, 0xff, 0x7f, 0x80][random.below(4)]);
            }
            _ => {
                let digits = b"0123456789-(),'";
                if length > 0 {
                    bytes[at] = digits[random.below(digits.len())];
                }
            }
        }
    }
}

/// A zip file of members, deflated or stored.
fn zip(members: &[(&str, &[u8])], deflate: bool) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in members {
        let packed = if deflate {
            let mut encoder =
                flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        } else {
            bytes.to_vec()
        };
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        let mut common = vec![20, 0, 0, 0, if deflate { 8 } else { 0 }, 0, 0, 0, 0, 0];
        common.extend(crc.sum().to_le_bytes());
        common.extend((packed.len() as u32).to_le_bytes());
        common.extend((bytes.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend((out.len() as u32).to_le_bytes());
        directory.extend(name.as_bytes());
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(name.as_bytes());
        out.extend(packed);
    }
    let at = out.len() as u32;
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend((members.len() as u16).to_le_bytes());
    out.extend((members.len() as u16).to_le_bytes());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(at.to_le_bytes());
    out.extend([0, 0]);
    out
}

fn embedding_column(npy: &[u8], rows: usize) -> ArrayRef {
    let data = &npy[npy.len() - rows * 16..];
    let values: Vec<f16> = data
        .chunks(2)
        .map(|pair| f16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    let values = Arc::new(PrimitiveArray::<Float16Type>::from_iter_values(values));
    let item = Arc::new(Field::new("item", DataType::Float16, false));
    Arc::new(FixedSizeListArray::new(item, 8, values, None))
}

/// The `small` set in every layout: clip-retrieval's, DataComp's stored and deflated, Parquet's.
fn layouts(dir: &Path) -> Vec<std::path::PathBuf> {
    let small = fixture("small");
    let read = |name: &str| std::fs::read(small.join(name)).unwrap();
    let images = read("img_emb/img_emb_8.npy");
    let texts = read("text_emb/text_emb_8.npy");
    let metadata = read("metadata/metadata_8.parquet");
    let clip = dir.join("clip");
    for (folder, name, bytes) in [
        ("img_emb", "img_emb_8.npy", &images),
        ("text_emb", "text_emb_8.npy", &texts),
        ("metadata", "metadata_8.parquet", &metadata),
    ] {
        std::fs::create_dir_all(clip.join(folder)).unwrap();
        std::fs::write(clip.join(folder).join(name), bytes).unwrap();
    }
    let mut folders = vec![clip];
    for (name, deflate) in [("stored", false), ("deflated", true)] {
        let folder = dir.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let members: [(&str, &[u8]); 2] = [("l14_img.npy", &images), ("l14_txt.npy", &texts)];
        std::fs::write(folder.join("00ab.npz"), zip(&members, deflate)).unwrap();
        std::fs::write(folder.join("00ab.parquet"), &metadata).unwrap();
        folders.push(folder);
    }
    let folder = dir.join("columns");
    std::fs::create_dir_all(&folder).unwrap();
    let keys: Vec<String> = (0..61).map(|row| format!("{row:010}")).collect();
    let batch = RecordBatch::try_from_iter([
        ("key", Arc::new(StringArray::from(keys)) as ArrayRef),
        ("image_embedding", embedding_column(&images, 61)),
        ("text_embedding", embedding_column(&texts, 61)),
    ])
    .unwrap();
    let file = File::create(folder.join("part-0.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    folders.push(folder);
    folders
}

fn chosen() -> CoresetOptions {
    let mut options = CoresetOptions {
        invalid: Invalid::Drop,
        ..CoresetOptions::default()
    };
    options.clusters.count = Some(2);
    options.clusters.iterations = 2;
    options
}

#[test]
fn every_layout_holds_the_same_set() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = None;
    for (i, folder) in layouts(dir.path()).iter().enumerate() {
        let out = dir.path().join(format!("out-{i}"));
        run(
            folder,
            &out,
            &chosen(),
            &OutputOptions::default(),
            Machine::default(),
        )
        .unwrap();
        let keys = results(&out)
            .into_iter()
            .find(|(name, _)| name == "keys.txt")
            .unwrap()
            .1;
        assert!(!keys.is_empty());
        assert_eq!(
            *expected.get_or_insert(keys.clone()),
            keys,
            "{}",
            folder.display()
        );
    }
}

fn open(folder: &Path) -> Result<EmbeddingSet> {
    EmbeddingSet::open(&Folders::new(folder, folder), &EmbeddingOptions::default())
}

#[test]
fn metadata_beside_some_shards_alone_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let stored = &layouts(dir.path())[1];
    for other in ["00aa.npz", "00cd.npz"] {
        let path = stored.join(other);
        std::fs::copy(stored.join("00ab.npz"), &path).unwrap();
        let error = open(stored).unwrap_err();
        assert!(
            error.to_string().starts_with(&path.display().to_string()),
            "{error}"
        );
        std::fs::remove_file(path).unwrap();
    }
    // None at all is a set whose keys are its row numbers.
    std::fs::remove_file(stored.join("00ab.parquet")).unwrap();
    let set = open(stored).unwrap();
    assert_eq!(set.key_column, None);
}

#[test]
fn broken_files_are_errors_that_name_the_file() {
    let inputs = std::env::var("BUNNY_FUZZ_INPUTS");
    let inputs = inputs.map_or(2_000, |inputs| inputs.parse().expect("a number of inputs"));
    // In memory where the system has such a folder: syncing to a disk would take most of the time.
    let dir = tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap());
    let folders = layouts(dir.path());
    let mut random = Random(1);
    let mut refused = 0_u64;
    for tried in 1..=inputs {
        let folder = &folders[random.below(folders.len())];
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files.extend(
                    std::fs::read_dir(path)
                        .unwrap()
                        .map(|entry| entry.unwrap().path()),
                );
            } else {
                files.push(path);
            }
        }
        files.sort();
        let target = &files[random.below(files.len())];
        let original = std::fs::read(target).unwrap();
        let mut bytes = original.clone();
        mutate(&mut bytes, &mut random);
        std::fs::write(target, &bytes).unwrap();
        // Most go no further than opening; every 16th through a whole selection.
        let error = match open(folder) {
            Err(error) => Some(error),
            Ok(_) if u64::is_multiple_of(tried, 16) => {
                let out = dir.path().join("out");
                let _ = std::fs::remove_dir_all(&out);
                run(
                    folder,
                    &out,
                    &chosen(),
                    &OutputOptions::default(),
                    Machine::default(),
                )
                .err()
            }
            Ok(set) => set
                .unpack(&Folders::new(folder, dir.path()), "work/unpacked")
                .err(),
        };
        let _ = std::fs::remove_dir_all(dir.path().join("unpacked"));
        if let Some(error) = error {
            refused += 1;
            let message = error.to_string();
            let names_a_file = message.contains(&*dir.path().to_string_lossy());
            assert!(
                names_a_file || message.starts_with("--clusters"),
                "{}: {message}",
                target.display()
            );
            assert!(!message.contains('\n'), "{message}");
        }
        std::fs::write(target, original).unwrap();
    }
    println!("{inputs} broken inputs, {refused} refused, the others still readable");
    assert!(refused > 0 && inputs > refused);
}
