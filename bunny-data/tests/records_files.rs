//! Records and pictures as Python's libraries write them (tests/reference/records.py).

use std::fs;
use std::path::{Path, PathBuf};

use bunny_data::DataError;
use bunny_data::images::{ImageSource, dimensions};
use bunny_data::record::RecordFile;
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/records")
        .join(name)
}

fn expected() -> Value {
    serde_json::from_slice(&fs::read(fixture("expected.json")).unwrap()).unwrap()
}

#[test]
fn parquet_of_every_compression_reads_as_python_wrote_it() {
    let expected = expected();
    let expected = expected["records"].as_array().unwrap();
    for name in ["snappy.parquet", "zstd.parquet", "gzip.parquet"] {
        let file = RecordFile::open(fixture(name)).unwrap();
        assert_eq!(file.len(), 300);
        // In both directions, so that windows are met from either side.
        for index in (0..300).chain((0..300).rev().step_by(37)) {
            assert_eq!(
                serde_json::to_value(file.get(index).unwrap()).unwrap(),
                expected[index],
                "{name} {index}"
            );
        }
        assert!(matches!(file.get(300), Err(DataError::NoSuchRecord { .. })));
    }
}

#[test]
fn an_embedded_image_column_gives_its_bytes() {
    let file = RecordFile::open(fixture("embedded.parquet")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let images = ImageSource::open(folder.path()).unwrap();
    let record = file.get(3).unwrap();
    let [name] = record.images() else { panic!() };
    assert_eq!(*images.read(name).unwrap(), *b"\xff\xd8\x00");
}

#[test]
fn indented_json_reads_as_python_wrote_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("indented.json");
    fs::copy(fixture("indented.json"), &path).unwrap();
    let file = RecordFile::open(&path).unwrap();
    assert_eq!(file.len(), 20);
    for (index, expected) in expected()["records"].as_array().unwrap()[..20]
        .iter()
        .enumerate()
    {
        assert_eq!(
            &serde_json::to_value(file.get(index).unwrap()).unwrap(),
            expected
        );
    }
}

#[test]
fn archives_of_every_format_give_the_same_pictures() {
    let expected = expected();
    for name in ["ustar.tar", "gnu.tar", "pax.tar"] {
        let images = ImageSource::open(fixture(name)).unwrap();
        for (path, picture) in expected["pictures"].as_object().unwrap() {
            // With the one folder of the archive, and as records name it.
            for path in [path.clone(), format!("top/{path}"), format!("./{path}")] {
                let bytes = images.read(&path).unwrap();
                assert_eq!(bytes.len() as u64, picture["bytes"], "{name} {path}");
                let sum: u64 = bytes.iter().map(|byte| u64::from(*byte)).sum();
                assert_eq!(sum, picture["sum"], "{name} {path}");
            }
        }
        assert_eq!(
            dimensions(&images.read("folder/b.png").unwrap()),
            Some((31, 17))
        );
        assert!(!images.contains("link.jpg") && !images.contains("top"));
        assert!(matches!(
            images.read("none.jpg"),
            Err(DataError::NoPicture { .. })
        ));
    }
}

#[test]
fn shards_are_found_by_range_and_by_star() {
    let folder = tempfile::tempdir().unwrap();
    for shard in 0..3 {
        fs::copy(
            fixture("gnu.tar"),
            folder.path().join(format!("pictures-{shard:05}.tar")),
        )
        .unwrap();
    }
    for pattern in ["pictures-{00000..00002}.tar", "*.tar", "pictures-*"] {
        assert!(
            ImageSource::open(folder.path().join(pattern))
                .unwrap()
                .contains("a.jpg"),
            "{pattern}"
        );
    }
    // As img2dataset leaves a folder; one with pictures in it is no folder of shards.
    fs::write(folder.path().join("00000_stats.json"), "{}").unwrap();
    assert!(ImageSource::open(folder.path()).unwrap().contains("a.jpg"));
    fs::create_dir(folder.path().join("images")).unwrap();
    assert!(!ImageSource::open(folder.path()).unwrap().contains("a.jpg"));
    for pattern in [
        "pictures-{00000..00003}.tar",
        "*.zip",
        "pictures-{a..b}.tar",
    ] {
        let error = ImageSource::open(folder.path().join(pattern)).unwrap_err();
        assert!(matches!(error, DataError::Io { .. }), "{error}");
    }
}

#[test]
fn every_cut_of_an_archive_is_an_error_or_whole_members() {
    let whole = fs::read(fixture("gnu.tar")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.tar");
    // Past the last member only the blocks of zeros are lost, which some writers leave out.
    let last = whole.iter().rposition(|byte| *byte != 0).unwrap();
    for end in (1..last).step_by(97) {
        fs::write(&path, &whole[..end]).unwrap();
        match ImageSource::open(&path) {
            Ok(_) => assert_eq!(end % 512, 0, "cut at {end}"),
            Err(error) => assert!(matches!(error, DataError::Tar { .. }), "{error}"),
        }
    }
}

#[test]
fn names_that_lead_out_of_the_folder_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("images")).unwrap();
    fs::write(folder.path().join("secret.jpg"), "x").unwrap();
    let images = ImageSource::open(folder.path().join("images")).unwrap();
    for name in ["../secret.jpg", "a/../../secret.jpg"] {
        assert!(!images.contains(name));
        assert!(matches!(
            images.read(name),
            Err(DataError::NoPicture { .. })
        ));
    }
}

#[test]
fn an_absolute_name_is_that_of_a_file_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("images")).unwrap();
    fs::write(folder.path().join("elsewhere.jpg"), "x").unwrap();
    let images = ImageSource::open(folder.path().join("images")).unwrap();
    let name = |file| folder.path().join(file).to_str().unwrap().to_owned();
    assert!(images.contains(&name("elsewhere.jpg")));
    assert_eq!(*images.read(&name("elsewhere.jpg")).unwrap(), *b"x");
    assert!(!images.contains(&name("none.jpg")));
}
