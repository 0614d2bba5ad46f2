//! JPEG files of every kind against Pillow; `tests/reference/jpegs.py` made them.
//!
//! `JPEGS` names another folder of its making.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use bunny_core::input::image::{DecodeOptions, ImageError, decode};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn folder() -> PathBuf {
    env::var_os("JPEGS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures"),
        PathBuf::from,
    )
}

/// Every file, and what Pillow made of it.
fn files() -> Vec<(Value, Vec<u8>)> {
    let entries = fs::read(folder().join("jpegs.json")).unwrap();
    let entries: Vec<Value> = serde_json::from_slice(&entries).unwrap();
    let bytes = fs::read(folder().join("jpegs.bin")).unwrap();
    let mut rest = bytes.as_slice();
    let files: Vec<_> = entries
        .into_iter()
        .map(|entry| {
            let (file, after) = rest.split_at(entry["length"].as_u64().unwrap() as usize);
            rest = after;
            (entry, file.to_vec())
        })
        .collect();
    assert!(rest.is_empty());
    files
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first file of a kind.
fn file(kind: &str) -> Vec<u8> {
    let mut files = files().into_iter();
    let found = files.find(|(entry, _)| entry["name"].as_str().unwrap().starts_with(kind));
    found.unwrap().1
}

#[test]
fn what_pillow_takes_has_its_bytes_and_what_it_refuses_is_refused() {
    let (mut taken, mut refused) = (0, 0);
    let mut wrong = Vec::new();
    for (entry, file) in files() {
        let options = DecodeOptions {
            upright: entry["upright"] == true,
            ..DecodeOptions::default()
        };
        let found = std::panic::catch_unwind(|| decode(&file, options));
        let name = &entry["name"];
        match (found, entry["sha256"].as_str()) {
            (Ok(Ok(picture)), Some(expected)) => {
                taken += 1;
                let size = (entry["width"].as_u64(), entry["height"].as_u64());
                let (width, height) = picture.dimensions();
                if size != (Some(width.into()), Some(height.into()))
                    || sha256(picture.as_raw()) != expected
                {
                    wrong.push(format!("{name}: other bytes"));
                }
            }
            (Ok(Err(_)), None) => refused += 1,
            (Ok(Err(error)), Some(_)) => wrong.push(format!("{name}: {error}")),
            (Ok(Ok(_)), None) => wrong.push(format!("{name}: taken, not {}", entry["refused"])),
            (Err(_), _) => wrong.push(format!("{name}: panicked")),
        }
    }
    println!("{taken} files taken, {refused} refused");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(taken >= 180 && refused >= 30, "{taken} {refused}");
}

/// A file whose frame is of another kind.
fn with_frame(marker: u8) -> Vec<u8> {
    let mut file = file("wide-steps");
    let frame = file.windows(2).position(|bytes| bytes == [0xff, 0xc0]);
    file[frame.unwrap() + 1] = marker;
    file
}

#[test]
fn kinds_that_are_not_read_are_refused_by_name() {
    for (marker, expected) in [
        (0xc9, "JPEG with arithmetic coding"),
        (0xca, "JPEG with arithmetic coding"),
        (0xc3, "lossless JPEG"),
        (0xc5, "hierarchical JPEG"),
    ] {
        match decode(&with_frame(marker), DecodeOptions::default()) {
            Err(ImageError::Unsupported { what }) => assert_eq!(what, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn a_file_of_many_scans_that_bring_nothing_is_not_read_to_its_end() {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures/files/progressive.jpg");
    let file = fs::read(file).unwrap();
    let is_scan = |bytes: &&[u8]| *bytes == [0xff, 0xda];
    assert_eq!(file.windows(2).filter(is_scan).count(), 10);
    let last = file.windows(2).rposition(|bytes| bytes == [0xff, 0xda]);
    let (before, scan) = file[..file.len() - 2].split_at(last.unwrap());
    let of_scans = |count: usize| [before, &scan.repeat(count - 9), &[0xff, 0xd9]].concat();
    assert!(decode(&of_scans(100), DecodeOptions::default()).is_ok());
    match decode(&of_scans(101), DecodeOptions::default()) {
        Err(ImageError::Unsupported { what }) => assert_eq!(what, "a JPEG of more than 100 scans"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_is_cut_off_in_its_scan_is_named_so() {
    let whole = file("by-pillow");
    let scan = whole.windows(2).position(|bytes| bytes == [0xff, 0xda]);
    for kept in scan.unwrap() + 2..whole.len() {
        let error = decode(&whole[..kept], DecodeOptions::default()).unwrap_err();
        assert!(matches!(error, ImageError::CutOff), "{kept}: {error}");
    }
}
