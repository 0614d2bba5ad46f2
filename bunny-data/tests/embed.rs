//! Embedding with a model that is none: what is read, what is left out, and what an end in the middle
//! leaves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bunny_data::DataError;
use bunny_data::embed::{
    EmbedOptions, EmbedReport, EmbedSource, Encoder, EncoderError, SourceOptions, embed,
};
use bunny_data::embeddings::NpyHeader;
use half::f16;

/// Counts bytes: a vector of two numbers, what is read and its end.
#[derive(Default)]
struct Counting {
    /// Batches before it fails.
    lasts: Option<usize>,
    batches: AtomicUsize,
}

impl Encoder for Counting {
    type Picture = Vec<u8>;

    fn fingerprint(&self) -> &str {
        "counting"
    }

    fn dims(&self) -> usize {
        2
    }

    fn prepare(&self, bytes: &[u8]) -> Result<Vec<u8>, EncoderError> {
        match bytes {
            b"broken" => Err("it is broken".into()),
            b"panic" => panic!("as decoders do"),
            _ => Ok(bytes.to_vec()),
        }
    }

    fn pictures(&self, pictures: &[Vec<u8>]) -> Result<Vec<f32>, EncoderError> {
        if self
            .lasts
            .is_some_and(|lasts| self.batches.fetch_add(1, Relaxed) >= lasts)
        {
            return Err("the device is gone".into());
        }
        let vector = |bytes: &Vec<u8>| {
            let last = bytes.last().copied().unwrap_or_default();
            [bytes.len() as f32, f32::from(last)]
        };
        Ok(pictures.iter().flat_map(vector).collect())
    }

    fn captions(&self, captions: &[String]) -> Result<Vec<f32>, EncoderError> {
        let vector = |text: &String| match text.trim() {
            "nowhere" => [0.0, f32::NAN],
            text => [text.len() as f32, 3.0],
        };
        Ok(captions.iter().flat_map(vector).collect())
    }
}

fn shard(path: &Path, members: &[(&str, &str)]) {
    let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, text) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        archive
            .append_data(&mut header, name, text.as_bytes())
            .unwrap();
    }
    archive.finish().unwrap();
}

fn source(path: &Path, part_files: usize) -> EmbedSource {
    let options = SourceOptions {
        part_files,
        ..SourceOptions::default()
    };
    EmbedSource::open(path, &options).unwrap()
}

fn run(path: &Path, out: &Path, encoder: &Counting) -> Result<EmbedReport, DataError> {
    let options = EmbedOptions {
        batch: 2,
        ..EmbedOptions::default()
    };
    embed(&source(path, 1), out, encoder, &options, &|_| {})
}

/// Every file below a folder, by its path there.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match path.is_dir() {
            true => {
                let below = files(&path).into_iter();
                all.extend(below.map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
            }
            false => {
                all.insert(name, fs::read(path).unwrap());
            }
        }
    }
    all
}

fn rows(bytes: &[u8]) -> Vec<[f32; 2]> {
    let header = NpyHeader::parse(bytes, Path::new("rows")).unwrap();
    let number = |bytes: &[u8]| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
    let rows: Vec<[f32; 2]> = bytes[header.data_offset..]
        .chunks_exact(4)
        .map(|row| [number(&row[..2]), number(&row[2..])])
        .collect();
    assert_eq!(rows.len() as u64, header.rows);
    rows
}

#[test]
fn what_is_no_pair_is_left_out_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    let members = [
        ("a/1.jpg", "123"),
        ("a/1.txt", "whole"),
        ("a/1.json", r#"{"caption": "not this one", "width": 3}"#),
        ("a/2.seg.png", "a mask"),
        ("a/2.WEBP", "12"),
        ("a/2.json", r#"{"caption": "in JSON"}"#),
        ("a/3.jpg", "broken"),
        ("a/3.txt", "x"),
        ("a/4.png", "panic"),
        ("a/4.txt", "x"),
        ("a/5.png", "no caption"),
        ("a/6.txt", "no picture"),
        ("a/7.png", "blank"),
        ("a/7.txt", " \n"),
        ("a/8.png", "no direction"),
        ("a/8.txt", "nowhere"),
    ];
    shard(&folder.path().join("0.tar"), &members);
    let out = folder.path().join("out");
    let report = run(&folder.path().join("0.tar"), &out, &Counting::default()).unwrap();
    let counts = report.counts.unwrap();
    assert_eq!((counts.pairs, counts.broken), (2, 3));
    assert_eq!((counts.without_caption, counts.without_picture), (2, 1));
    let listed: Vec<(&str, &str)> = report
        .broken
        .iter()
        .map(|broken| (&*broken.image_path, &*broken.problem))
        .collect();
    assert_eq!(
        listed,
        [
            ("a/3", "it is broken"),
            ("a/4", "its decoder broke"),
            ("a/8", "the vector of its caption has no direction"),
        ]
    );
    let made = files(&out);
    // (3, '3') and (2, '2'), of length 1.
    let direction =
        |x: f32, y: f32| [x, y].map(|number| f16::from_f32(number / x.hypot(y)).to_f32());
    let images = [direction(3.0, 51.0), direction(2.0, 50.0)];
    assert_eq!(rows(&made["img_emb/img_emb_0.npy"]), images);
    let texts = [direction(5.0, 3.0), direction(7.0, 3.0)];
    assert_eq!(rows(&made["text_emb/text_emb_0.npy"]), texts);
}

#[test]
fn an_end_in_the_middle_costs_the_part_and_no_byte() {
    let folder = tempfile::tempdir().unwrap();
    let tars = folder.path().join("tars");
    fs::create_dir(&tars).unwrap();
    for number in 0..11 {
        let name = |at: usize, ending: &str| format!("{number:02}{at}.{ending}");
        let names: Vec<[String; 2]> = (0..5)
            .map(|at| [name(at, "png"), name(at, "txt")])
            .collect();
        let members = names.iter().flatten().map(|name| (&**name, &**name));
        shard(
            &tars.join(format!("{number:05}.tar")),
            &members.collect::<Vec<_>>(),
        );
    }
    let (straight, halting) = (
        folder.path().join("straight"),
        folder.path().join("halting"),
    );
    run(&tars, &straight, &Counting::default()).unwrap();
    assert_eq!(
        files(&straight)
            .keys()
            .filter(|name| name.ends_with(".npy"))
            .count(),
        22
    );
    assert!(straight.join("metadata/metadata_07.parquet").exists());
    let mut goes = 0;
    loop {
        goes += 1;
        let encoder = Counting {
            lasts: Some(7),
            ..Counting::default()
        };
        match run(&tars, &halting, &encoder) {
            Ok(_) => break,
            Err(error) => assert!(error.to_string().ends_with("the device is gone"), "{error}"),
        }
    }
    // Of seven batches six make two parts of three.
    assert_eq!(goes, 6);
    assert_eq!(files(&halting), files(&straight));
    // A newer layout, another encoder's, or another division is told.
    let error = embed(
        &source(&tars, 2),
        &halting,
        &Counting::default(),
        &EmbedOptions::default(),
        &|_| {},
    );
    assert!(matches!(error, Err(DataError::OtherEmbeddings { .. })));
    let manifest = halting.join("embed.json");
    let newer = fs::read_to_string(&manifest).unwrap();
    let newer = newer.replace("\"format_version\": 1", "\"format_version\": 2");
    fs::write(&manifest, newer).unwrap();
    let error = run(&tars, &halting, &Counting::default());
    assert!(matches!(error, Err(DataError::Newer { .. })));
}

#[test]
fn pictures_inside_parquet_are_read_where_they_lie() {
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tables/image.parquet");
    let folder = tempfile::tempdir().unwrap();
    let report = run(&table, folder.path(), &Counting::default()).unwrap();
    let counts = report.counts.unwrap();
    assert!(counts.pairs > 0, "{counts:?}");
    let made = files(folder.path());
    let images = rows(&made["img_emb/img_emb_0.npy"]);
    assert_eq!(images.len() as u64, counts.pairs);
}

#[test]
fn a_source_without_a_pair_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let error = EmbedSource::open(&empty, &SourceOptions::default()).unwrap_err();
    assert!(matches!(error, DataError::NothingToEmbed { .. }), "{error}");
    let mute = folder.path().join("mute");
    fs::create_dir(&mute).unwrap();
    fs::write(mute.join("a.png"), "x").unwrap();
    let error = run(&mute, &folder.path().join("out"), &Counting::default()).unwrap_err();
    assert!(error.to_string().contains("1 have no caption"), "{error}");
}
