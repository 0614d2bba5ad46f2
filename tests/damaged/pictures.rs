//! Pictures of every kind.

use std::fs;

use bunny_core::input::image::{DecodeOptions, decode};
use serde_json::Value;

use crate::{
    damage::Seed,
    driver::{Allowed, files_below, fuzz, root},
};

/// Pixels of the largest picture that is decoded here.
const PIXELS: u64 = 1 << 18;

/// Eight bytes a pixel while decoding and three of the result, twice over for a copy, and what decoders
/// keep whatever the size: tables, windows, 65,535 rows of a TIFF with a strip each.
const ALLOWED: Allowed = Allowed {
    fixed: (8 + 3) * 2 * PIXELS as usize + (24 << 20),
    per_byte: 8,
};

/// JPEG files of every kind, some of them damaged as they are.
fn jpegs() -> impl Iterator<Item = Vec<u8>> {
    let folder = root().join("bunny-core/tests/fixtures/pictures");
    let entries = fs::read(folder.join("jpegs.json")).unwrap();
    let entries: Vec<Value> = serde_json::from_slice(&entries).unwrap();
    let bytes = fs::read(folder.join("jpegs.bin")).unwrap();
    let mut at = 0;
    entries.into_iter().map(move |entry| {
        let from = at;
        at += entry["length"].as_u64().unwrap() as usize;
        bytes[from..at].to_vec()
    })
}

#[test]
fn pictures() {
    let options = DecodeOptions {
        max_pixels: PIXELS,
        upright: true,
    };
    let files = files_below(&root().join("bunny-core/tests/fixtures/pictures/files"));
    let files = files.into_iter().map(|file| fs::read(file).unwrap());
    let seeds: Vec<Seed> = files.chain(jpegs()).map(Seed::from).collect();
    fuzz("pictures", ALLOWED, &seeds, |_, bytes| {
        decode(bytes, options)
            .map(drop)
            .map_err(|error| error.to_string())
    });
}
