//! Files of tensors: an error, or tensors that are whole.

use std::{fs, path::PathBuf};

use bunny_weights::{
    CheckpointError, TensorFiles,
    adapter::Adapter,
    gguf::GgufFile,
    packed::{PackedTensor, RowOrder},
};

use crate::{
    damage::Seed,
    driver::{Allowed, copy_folder, files_below, folder, fuzz, root, write_anew},
};

/// As many bytes as a header can describe tensors in.
const ALLOWED: Allowed = Allowed {
    fixed: 1 << 20,
    per_byte: 200,
};

fn checkpoints() -> PathBuf {
    root().join("bunny-weights/tests/fixtures/checkpoints")
}

fn seeds(endings: &[&str]) -> Vec<Seed> {
    let files = files_below(&checkpoints()).into_iter();
    let wanted = files.filter(|file| {
        let name = file.to_str().unwrap();
        endings.iter().any(|ending| name.ends_with(ending))
    });
    wanted.map(|file| fs::read(file).unwrap().into()).collect()
}

/// All tensors of files that were read must be whole.
fn whole(files: Result<TensorFiles, CheckpointError>) -> Result<(), String> {
    let files = files.map_err(|error| error.to_string())?;
    for name in files.names() {
        let tensor = files.get(name).unwrap();
        let elements: usize = tensor.shape.iter().product();
        assert_eq!(tensor.bytes.len(), elements * tensor.dtype.size());
    }
    Ok(())
}

#[test]
fn safetensors() {
    let seeds = seeds(&[".safetensors"]);
    fuzz("safetensors", ALLOWED, &seeds, |random, file| {
        let mut file = file.to_vec();
        // The header's length, kept right half of the time, so that damage gets past it.
        if random.once_in(2)
            && let Some(end) = file.windows(2).rposition(|pair| pair == b"}}")
            && end > 6
        {
            file[..8].copy_from_slice(&(end as u64 + 2 - 8).to_le_bytes());
        }
        whole(TensorFiles::from_bytes("x.safetensors", file.into()))
    });
}

#[test]
fn gguf() {
    let fixture = root().join("bunny-weights/tests/fixtures/gguf/every-type.gguf");
    let seeds = [fs::read(fixture).unwrap().into()];
    fuzz("gguf", ALLOWED, &seeds, |_, file| {
        let file = GgufFile::from_bytes("x.gguf", file.to_vec().into());
        let file = file.map_err(|error| error.to_string())?;
        for value in file.metadata().values() {
            if let Some(array) = value.array() {
                assert!(
                    array
                        .texts()
                        .is_none_or(|texts| texts.count() == array.len())
                );
            }
        }
        for name in file.names() {
            let tensor = file.get(name).unwrap();
            let orders = [RowOrder::Same, RowOrder::Laced { heads: 2 }];
            for order in orders {
                if let Some(packed) = PackedTensor::of_blocks("x", tensor, order) {
                    let [out, inner] = packed.sides();
                    assert_eq!(packed.floats(out - 1..out).len(), inner);
                    assert_eq!(packed.rows(0..1).is_some(), packed.is_integers());
                }
            }
        }
        Ok(())
    });
}

#[test]
fn pickles() {
    let seeds = seeds(&[".pt", ".pth", ".bin"]);
    fuzz("pickles", ALLOWED, &seeds, |_, file| {
        whole(TensorFiles::from_bytes("x.pt", file.to_vec().into()))
    });
}

#[test]
fn instructions_of_pickles() {
    const OPCODES: &[u8] = b"(.GJKMNQRXabcehjqrstu]})\x80\x85\x86\x87\x88\x89\x8a\x8c\x93\x94\x95";
    // The pickles of real archives, as stores of sensible runs of instructions.
    let files = seeds(&[".pt"]).into_iter();
    let pickles = files.filter_map(|file| {
        let file = file.bytes;
        let start = file.windows(4).position(|window| window == b"\x80\x02}q")?;
        let end = file.windows(4).position(|window| window == b"PK\x07\x08")?;
        Some(file.get(start..end)?.to_vec().into())
    });
    let pickles: Vec<Seed> = pickles.collect();
    // The older format needs no directory: a pickle of one's own can stand in its place.
    let legacy = fs::read(checkpoints().join("legacy.pt")).unwrap();
    let object = legacy
        .windows(4)
        .rposition(|window| window == b"\x80\x02}q");
    let object = object.unwrap();
    fuzz(
        "instructions of pickles",
        ALLOWED,
        &pickles,
        |random, pickle| {
            let mut pickle = pickle.to_vec();
            for _ in 0..random.below(4) {
                let at = random.below(pickle.len() + 1);
                let run: Vec<u8> = (0..random.below(12))
                    .map(|_| *random.pick(OPCODES))
                    .collect();
                pickle.splice(at..at, run);
            }
            if random.once_in(8) {
                pickle = b"\x80\x02}q\0.".to_vec();
            }
            let file = [&legacy[..object], &pickle, b"\x80\x02].", &legacy[object..]].concat();
            whole(TensorFiles::from_bytes("x.pt", file.into()))
        },
    );
}

#[test]
fn indices_of_shards() {
    let folder = folder();
    copy_folder(&checkpoints().join("sharded"), folder.path());
    let index = folder.path().join("model.safetensors.index.json");
    let seeds = seeds(&["model.safetensors.index.json"]);
    fuzz("indices of shards", ALLOWED, &seeds, |_, file| {
        write_anew(&index, file);
        whole(TensorFiles::open_folder(folder.path()))
    });
}

#[test]
fn adapters() {
    let folder = folder();
    copy_folder(&checkpoints().join("adapter"), folder.path());
    let files = files_below(folder.path());
    let seeds: Vec<Seed> = files
        .iter()
        .map(|file| fs::read(file).unwrap().into())
        .collect();
    fuzz("adapters", ALLOWED, &seeds, |random, damaged| {
        // In the place of any of its files, mostly of its configuration.
        let config = files
            .iter()
            .position(|file| file.ends_with("adapter_config.json"))
            .unwrap();
        let is_json = damaged.first() == Some(&b'{');
        let at = if is_json {
            config
        } else {
            random.below(files.len())
        };
        write_anew(&files[at], damaged);
        let opened = Adapter::open(folder.path());
        let read = match &opened {
            Ok(adapter) => {
                for target in adapter.targets() {
                    let layer = adapter.get(target).unwrap();
                    let rank = adapter.config().rank_of(target);
                    assert_eq!((layer.a.shape[0], layer.b.shape[1]), (rank, rank));
                }
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        };
        drop(opened);
        write_anew(&files[at], &seeds[at].bytes);
        read
    });
}
