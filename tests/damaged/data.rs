//! What is learnt from: records, archives of pictures, embeddings, and a selection's own work files.

#[path = "../../bunny-data/tests/coreset_common/layouts.rs"]
mod layouts;

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use bunny_data::{
    coreset::{
        CoresetOptions, Division, Invalid, OutputOptions, Paths, Silent, TileSize, Worker,
        engine::Local, select,
    },
    embeddings::{EmbeddingOptions, EmbeddingSet},
    images::{ImageSource, PictureCheck, dimensions, faults},
    record::RecordFile,
    store::Folders,
};
use layouts::layouts;

use crate::{
    damage::Seed,
    driver::{Allowed, copy_folder, files_below, folder, fuzz, root, write_anew},
};

/// Pages and columns are unpacked as a whole.
const ALLOWED: Allowed = Allowed {
    fixed: 192 << 20,
    per_byte: 200,
};

fn fixtures() -> PathBuf {
    root().join("bunny-data/tests/fixtures")
}

fn named(names: &[&str]) -> Vec<Seed> {
    let read = |name: &&str| fs::read(fixtures().join(name)).unwrap().into();
    names.iter().map(read).collect()
}

/// Reads all records of a file; an error has to name it.
fn read_records(path: &Path) -> Result<(), String> {
    let read = || {
        let file = RecordFile::open(path)?;
        for index in 0..file.len().min(200) {
            file.get(index)?;
        }
        Ok(())
    };
    read().map_err(|error: bunny_data::DataError| naming(path, error.to_string()))
}

fn naming(path: &Path, line: String) -> String {
    assert!(line.contains(&path.display().to_string()), "{line}");
    line
}

/// Writes each input under a name of that ending.
fn fuzz_files(
    name: &'static str,
    ending: &str,
    seeds: &[Seed],
    read: impl Fn(&Path) -> Result<(), String>,
) {
    let folder = folder();
    let path = folder.path().join(format!("damaged.{ending}"));
    fuzz(name, ALLOWED, seeds, |_, bytes| {
        write_anew(&path, bytes);
        read(&path)
    });
}

#[test]
fn records_as_json() {
    let array = fs::read(fixtures().join("records/indented.json")).unwrap();
    let values: Vec<serde_json::Value> = serde_json::from_slice(&array).unwrap();
    let lines: String = values.iter().map(|value| format!("{value}\n")).collect();
    // As OpenAI's, LLaMA-Factory's, transformers' and ShareGPT's files have them.
    let others = r#"[
        {"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"<image>What?"},
          {"role":"assistant","content":"A cat."}],"images":["a.jpg"]},
        {"messages":[{"role":"user","content":[{"type":"image","image":"b.png"},{"type":"text","text":"Why?"}]},
          {"role":"assistant","content":[{"type":"text","text":"So."}]}]},
        {"conversations":[{"from":"system","value":"Be kind."},{"from":"human","value":"Hi"},
          {"from":"gpt","value":"Hello"}],"system":"Be short."},
        {"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"c.webp"}}]},
          {"role":"assistant","content":"Yes"}]}]"#;
    let seeds = [
        array,
        lines.into_bytes(),
        others.as_bytes().to_vec(),
        b"[]".to_vec(),
    ];
    fuzz_files(
        "records as JSON",
        "json",
        &seeds.map(Seed::from),
        read_records,
    );
}

#[test]
fn records_as_parquet() {
    let seeds = named(&[
        "records/snappy.parquet",
        "records/zstd.parquet",
        "records/gzip.parquet",
        "records/embedded.parquet",
        "tables/json.parquet",
        "tables/json_turns.parquet",
        "tables/images.parquet",
        "tables/bytes.parquet",
    ]);
    fuzz_files("records as Parquet", "parquet", &seeds, read_records);
}

#[test]
fn archives_of_pictures() {
    let seeds = named(&["records/ustar.tar", "records/gnu.tar", "records/pax.tar"]);
    let names = ["a.jpg", "folder/b.png", "größe.webp"];
    fuzz_files("archives of pictures", "tar", &seeds, |path| {
        let read = || {
            let images = ImageSource::open(path)?;
            for name in names {
                let bytes = images.read(name)?;
                faults(name, &bytes, PictureCheck::Decode);
                dimensions(&bytes);
            }
            Ok(())
        };
        read().map_err(|error: bunny_data::DataError| naming(path, error.to_string()))
    });
}

fn options() -> CoresetOptions {
    let mut options = CoresetOptions {
        invalid: Invalid::Drop,
        ..CoresetOptions::default()
    };
    options.clusters.count = Some(2);
    options.clusters.iterations = 2;
    options
}

fn selection(embeddings: &Path, out: &Path, keep_work: bool) -> Result<(), bunny_data::DataError> {
    let worker = Worker {
        memory: 64 << 20,
        tile: TileSize {
            rows: 128,
            columns: 256,
        },
        progress: &Silent,
    };
    let paths = Paths {
        embeddings: embeddings.to_owned(),
        out: out.to_owned(),
        work: None,
        keep_work,
        force: true,
        division: Division::default(),
    };
    let engine = Local::new(NonZeroUsize::new(1), worker)?;
    select(&engine, &paths, &options(), &OutputOptions::default()).map(drop)
}

#[test]
fn embeddings() {
    let work = folder();
    let layouts = layouts(&fixtures().join("coreset/small"), work.path());
    let files: Vec<PathBuf> = layouts
        .iter()
        .flat_map(|layout| files_below(layout))
        .collect();
    let whole: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    let seeds: Vec<Seed> = whole.iter().map(|bytes| bytes.clone().into()).collect();
    let mut tried = 0_u64;
    fuzz("embeddings", ALLOWED, &seeds, |random, damaged| {
        tried += 1;
        let alike = |at: &usize| {
            let same = whole[*at].iter().zip(damaged).take_while(|(a, b)| a == b);
            same.count()
        };
        let at = match random.once_in(8) {
            true => random.below(files.len()),
            false => (0..files.len()).max_by_key(alike).unwrap(),
        };
        write_anew(&files[at], damaged);
        let layout = layouts
            .iter()
            .find(|layout| files[at].starts_with(layout))
            .unwrap();
        // Most go no further than opening; every 16th through a whole selection.
        let set = EmbeddingSet::open(&Folders::new(layout, layout), &EmbeddingOptions::default());
        let read = match set {
            Err(error) => Err(error),
            Ok(_) if tried.is_multiple_of(16) => {
                let out = work.path().join("out");
                let _ = fs::remove_dir_all(&out);
                selection(layout, &out, false)
            }
            Ok(set) => set
                .unpack(&Folders::new(layout, work.path()), "work/unpacked")
                .map(drop),
        };
        let _ = fs::remove_dir_all(work.path().join("unpacked"));
        let _ = fs::remove_dir_all(work.path().join("work"));
        write_anew(&files[at], &whole[at]);
        read.map_err(|error| {
            let line = error.to_string();
            let names = line.contains(&work.path().display().to_string());
            assert!(names || line.starts_with("--clusters"), "{line}");
            line
        })
    });
}

#[test]
fn work_files_of_a_coreset() {
    let work = folder();
    let layout = &layouts(&fixtures().join("coreset/small"), work.path())[0];
    let out = work.path().join("out");
    selection(layout, &out, true).unwrap();
    let whole = work.path().join("whole");
    fs::rename(&out, &whole).unwrap();
    // As if it had been stopped: its results are not there yet.
    for file in files_below(&whole) {
        if file.parent() == Some(&whole) {
            fs::remove_file(file).unwrap();
        }
    }
    let files = files_below(&whole);
    assert!(files.len() > 5, "{files:?}");
    let seeds: Vec<Seed> = files
        .iter()
        .map(|file| fs::read(file).unwrap().into())
        .collect();
    fuzz(
        "work files of a coreset",
        ALLOWED,
        &seeds,
        |random, damaged| {
            let at = random.below(files.len());
            let _ = fs::remove_dir_all(&out);
            copy_folder(&whole, &out);
            let file = out.join(files[at].strip_prefix(&whole).unwrap());
            write_anew(&file, damaged);
            selection(layout, &out, true).map_err(|error| error.to_string())
        },
    );
}
