//! Files as gguf's own package writes them, what it makes of blocks, and damaged headers.
//! `tests/reference/gguf_files.py` made the fixtures.

use std::path::PathBuf;

use serde_json::Value as Json;

use super::*;
use crate::{convert, error::GgufError};

const KINDS: [TensorType; 11] = [
    TensorType::F32,
    TensorType::F16,
    TensorType::BF16,
    TensorType::Q4_0,
    TensorType::Q4_1,
    TensorType::Q5_0,
    TensorType::Q5_1,
    TensorType::Q8_0,
    TensorType::Q4K,
    TensorType::Q5K,
    TensorType::Q6K,
];

fn fixture(name: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/gguf");
    PathBuf::from(folder).join(name)
}

fn opened() -> GgufFile {
    GgufFile::open(fixture("every-type.gguf")).unwrap()
}

/// What gguf's package makes of the tensors of the file.
fn expected(kind: TensorType) -> Vec<f32> {
    let bytes = std::fs::read(fixture(&format!("{}.f32", kind.name()))).unwrap();
    convert::to_f32(&bytes, crate::StoredDtype::F32).unwrap()
}

fn numbers(tensor: &GgufTensor) -> Vec<f32> {
    let mut numbers = vec![0.0; tensor.shape.iter().product()];
    tensor.kind.open(&tensor.bytes, &mut numbers);
    numbers
}

#[test]
fn a_file_of_gguf_s_own_package_is_read_whole() {
    let file = opened();
    let said: Json =
        serde_json::from_slice(&std::fs::read(fixture("every-type.json")).unwrap()).unwrap();
    let text = |key: &str| file.metadata()[key].text().unwrap();
    assert_eq!(text("general.architecture"), said["architecture"]);
    assert_eq!(text("text"), said["text"]);
    for key in ["u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64"] {
        let number = file.metadata()[key].integer().unwrap();
        assert_eq!(number.to_string(), said[key].to_string(), "{key}");
    }
    assert_eq!(file.metadata()["bool"], Value::Bool(true));
    assert_eq!(file.metadata()["f32"], Value::F32(0.1));
    assert_eq!(file.metadata()["f64"], Value::F64(0.1));
    let texts = file.metadata()["texts"].array().unwrap();
    let texts: Vec<&str> = texts.texts().unwrap().collect();
    assert_eq!(serde_json::json!(texts), said["texts"]);
    let integers = file.metadata()["integers"].array().unwrap();
    let integers: Vec<i64> = integers.integers().unwrap().collect();
    assert_eq!(serde_json::json!(integers), said["integers"]);
    let floats = file.metadata()["floats"].array().unwrap();
    assert_eq!(floats.floats().unwrap().collect::<Vec<_>>(), [0.5, -1.5]);
    // As numpy says it.
    assert_eq!(file.get("F16").unwrap().shape, [3, 512]);
    assert_eq!(file.names().len(), KINDS.len());
}

#[test]
fn blocks_of_every_type_are_the_numbers_that_gguf_makes_of_them() {
    let file = opened();
    for kind in KINDS {
        let tensor = file.get(kind.name()).unwrap();
        assert_eq!(tensor.kind, kind);
        let (found, expected) = (numbers(tensor), expected(kind));
        assert_eq!(found.len(), expected.len());
        // To the bit, zeros of either sign being equal.
        let differ = found.iter().zip(&expected).position(|(a, b)| a != b);
        assert_eq!(differ, None, "{}", kind.name());
    }
}

#[test]
fn numbers_are_rounded_to_the_blocks_that_gguf_makes_of_them() {
    let file = opened();
    let source = numbers(file.get("F32").unwrap());
    for kind in [
        TensorType::Q8_0,
        TensorType::Q4_0,
        TensorType::Q5_0,
        TensorType::BF16,
    ] {
        let blocks = round_rows(kind, &source, 512).unwrap();
        assert!(
            blocks == file.get(kind.name()).unwrap().bytes,
            "{}",
            kind.name()
        );
    }
}

/// What rounding loses, root mean square, as a share of the numbers.
fn lost(kind: TensorType, numbers: &[f32], row: usize) -> f64 {
    let blocks = round_rows(kind, numbers, row).unwrap();
    let mut opened = vec![0.0; numbers.len()];
    kind.open(&blocks, &mut opened);
    let square = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
    let off: f64 = opened.iter().zip(numbers).map(square).sum();
    let own: f64 = numbers.iter().map(|x| f64::from(*x).powi(2)).sum();
    (off / own).sqrt()
}

#[test]
fn k_blocks_lose_less_than_plain_ones_of_as_many_bits() {
    let uniform = |at| (bunny_base::random::mix(at) >> 40) as f32 / (1 << 24) as f32 - 0.5;
    // Four of them are a bell.
    let bell = |at: u64| (0..4).map(|part| uniform(4 * at + part)).sum();
    let numbers: Vec<f32> = (0..64 * 256).map(bell).collect();
    let [q4_0, q4_k, q6_k, q8_0] = [
        TensorType::Q4_0,
        TensorType::Q4K,
        TensorType::Q6K,
        TensorType::Q8_0,
    ]
    .map(|kind| lost(kind, &numbers, 256));
    // Fifteen steps between the least and the greatest of 32 rather than around zero; of Q6_K, 64 steps.
    assert!(q4_k < 0.95 * q4_0, "{q4_k} and {q4_0}");
    assert!(q6_k < q4_k / 3.0 && q6_k > q8_0, "{q6_k}");
}

#[test]
fn odd_rows_are_held_all_the_same() {
    for kind in KINDS {
        if matches!(kind, TensorType::Q4_1 | TensorType::Q5_1 | TensorType::Q5K) {
            continue;
        }
        let zeros = [0.0; 256];
        let mut tiny = [0.0; 256];
        tiny[7] = -1e-30;
        let same = [0.5; 256];
        let mut outlier = [0.001; 256];
        outlier[100] = 1e4;
        for numbers in [zeros, tiny, same, outlier] {
            let mut opened = [f32::NAN; 256];
            kind.open(&round_rows(kind, &numbers, 256).unwrap(), &mut opened);
            let greatest = numbers.iter().fold(0f32, |most, x| most.max(x.abs()));
            // A step of four bits, of the largest range that a block may have, and the least f16.
            let most = greatest / 7.0 + 6e-8;
            for (number, opened) in numbers.iter().zip(opened) {
                assert!((number - opened).abs() <= most, "{}", kind.name());
            }
        }
        for (number, problem) in [
            (f32::NAN, "not finite"),
            (f32::INFINITY, "not finite"),
            (1e38, "too large"),
        ] {
            if matches!(kind, TensorType::F32 | TensorType::BF16) && number.is_finite() {
                continue;
            }
            let mut numbers = [0.0; 512];
            numbers[300] = number;
            let fault = round_rows(kind, &numbers, 256).unwrap_err();
            assert_eq!(fault.row, 1, "{}", kind.name());
            assert!(fault.problem.contains(problem), "{}: {fault}", kind.name());
        }
    }
}

/// A file with one tensor of four numbers.
fn small() -> (Vec<u8>, Metadata) {
    let metadata = Metadata::from([("a".into(), Value::U32(7))]);
    let plan = [PlannedBlocks {
        name: "t".into(),
        kind: TensorType::F32,
        shape: vec![2, 2],
    }];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.gguf");
    write_file::<CheckpointError>(&path, &metadata, &plan, |_, sink| {
        sink.put(&[1; 9])?;
        sink.put(&[2; 7])
    })
    .unwrap()
    .publish()
    .unwrap();
    (std::fs::read(path).unwrap(), metadata)
}

fn read(bytes: &[u8]) -> Result<GgufFile, GgufError> {
    match GgufFile::from_bytes("x.gguf", bytes.to_vec().into()) {
        Ok(file) => Ok(file),
        Err(CheckpointError::Gguf { fault, .. }) => Err(fault),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn what_is_written_is_read() {
    let (bytes, metadata) = small();
    let file = read(&bytes).unwrap();
    assert_eq!(file.metadata(), &metadata);
    let tensor = file.get("t").unwrap();
    assert_eq!(
        (&tensor.shape[..], tensor.kind),
        (&[2, 2][..], TensorType::F32)
    );
    assert_eq!(tensor.bytes[..], [[1; 9].as_slice(), &[2; 7]].concat());
    assert_eq!(bytes.len() % 32, 0);
}

#[test]
fn a_file_that_ends_early_is_cut() {
    let (bytes, _) = small();
    for length in 0..bytes.len() - 16 {
        let fault = read(&bytes[..length]).unwrap_err();
        let is_right = match fault {
            GgufError::NotGguf => length < 4,
            GgufError::Cut { at } => at <= length,
            GgufError::Count { bytes, .. } => bytes == length,
            GgufError::DataCut { found, .. } => found == length,
            _ => false,
        };
        assert!(is_right, "{length}: {fault}");
    }
    // The padding behind the last tensor says nothing.
    assert!(read(&bytes[..bytes.len() - 16]).is_ok());
}

/// The file with other bytes from `at` on.
fn with(at: usize, new: &[u8]) -> Result<GgufFile, GgufError> {
    let (mut bytes, _) = small();
    bytes[at..at + new.len()].copy_from_slice(new);
    read(&bytes)
}

#[test]
fn every_part_of_a_header_is_held_against_the_file() {
    // magic 4, version 4, tensors 8, keys 8; key 8 + 1, type 4, value 4; name 8 + 1, dimensions 4,
    // sizes 8 + 8, type 4, offset 8
    let (count, keys, key, value) = (8, 16, 24, 33);
    let (name, sizes) = (value + 8, value + 8 + 9 + 4);
    let (kind, offset) = (sizes + 16, sizes + 20);
    let fault = |at: usize, new: &[u8]| with(at, new).unwrap_err();
    assert_eq!(fault(0, b"g"), GgufError::NotGguf);
    assert_eq!(fault(4, &[1]), GgufError::Version { version: 1 });
    assert_eq!(fault(4, &[0, 0, 0, 3]), GgufError::BigEndian);
    let many = u64::MAX.to_le_bytes();
    assert!(matches!(
        fault(count, &many),
        GgufError::Count {
            what: "tensors",
            ..
        }
    ));
    assert!(matches!(
        fault(keys, &many),
        GgufError::Count { what: "keys", .. }
    ));
    assert!(matches!(fault(key, &many), GgufError::Cut { .. }));
    assert_eq!(fault(key + 8, &[0xff]), GgufError::NotUtf8 { at: key });
    let unknown = GgufError::ValueType {
        key: "a".into(),
        id: 13,
    };
    assert_eq!(fault(value, &[13]), unknown);
    assert!(matches!(fault(name, &many), GgufError::Cut { .. }));
    for dimensions in [0, 5, 255] {
        assert!(matches!(
            fault(name + 9, &[dimensions]),
            GgufError::Shape { .. }
        ));
    }
    for size in [0, u64::MAX, 1 << 62, 1 << 60] {
        let found = fault(sizes, &size.to_le_bytes());
        let is_right = matches!(found, GgufError::Shape { .. } | GgufError::DataCut { .. });
        assert!(is_right, "{size}: {found}");
    }
    let found = fault(kind, &[10]);
    assert!(
        found.to_string().contains("`t` holds Q2_K numbers"),
        "{found}"
    );
    let row = GgufError::Row {
        tensor: "t".into(),
        row: 2,
        kind: "Q4_K",
        block: 256,
    };
    assert_eq!(fault(kind, &[12]), row);
    assert!(matches!(fault(offset, &[8]), GgufError::Misaligned { .. }));
    assert!(matches!(fault(offset, &[32]), GgufError::DataCut { .. }));
    let last = (u64::MAX - 31).to_le_bytes();
    assert!(matches!(fault(offset, &last), GgufError::DataCut { .. }));
}

/// The header of a file of such keys and tensors, each a name, one size and an offset.
fn header(keys: &[(&str, Value)], tensors: &[(&str, u64, u64)]) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((keys.len() as u64).to_le_bytes());
    for (key, value) in keys {
        metadata::put_text(&mut bytes, key);
        bytes.extend(value.id().to_le_bytes());
        value.put(&mut bytes);
    }
    for (name, size, offset) in tensors {
        metadata::put_text(&mut bytes, name);
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(size.to_le_bytes());
        bytes.extend(0u32.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(64) + 256, 0);
    bytes
}

#[test]
fn names_are_given_once_and_tensors_share_no_bytes() {
    let fault = |keys: &[_], tensors: &[_]| read(&header(keys, tensors)).unwrap_err();
    let key = || ("a", Value::U32(1));
    let twice = GgufError::DuplicateKey { key: "a".into() };
    assert_eq!(fault(&[key(), key()], &[]), twice);
    let twice = GgufError::DuplicateTensor { tensor: "t".into() };
    assert_eq!(fault(&[], &[("t", 1, 0), ("t", 1, 32)]), twice);
    let over = GgufError::Overlap {
        first: "t".into(),
        second: "s".into(),
    };
    assert_eq!(fault(&[], &[("s", 1, 32), ("t", 9, 0)]), over);
    assert!(read(&header(&[], &[("s", 1, 32), ("t", 8, 0)])).is_ok());
}

#[test]
fn parts_lists_of_lists_and_odd_alignments_are_refused() {
    let fault = |key: &str, value| read(&header(&[(key, value)], &[])).unwrap_err();
    assert_eq!(
        fault("split.count", Value::U16(3)),
        GgufError::Split { parts: 3 }
    );
    let nested = Array {
        kind: metadata::id::ARRAY,
        count: 0,
        bytes: Bytes::new(),
    };
    assert!(matches!(
        fault("a", nested.into()),
        GgufError::Nested { .. }
    ));
    for alignment in [0, 3, 1 << 17, u32::MAX] {
        let found = fault("general.alignment", alignment.into());
        assert!(
            matches!(found, GgufError::Value { .. }),
            "{alignment}: {found}"
        );
    }
    let other = header(&[("general.alignment", 64u32.into())], &[("t", 4, 64)]);
    assert!(read(&other).is_ok());
    let many = Array {
        kind: metadata::id::STRING,
        count: 1 << 60,
        bytes: Bytes::new(),
    };
    assert!(matches!(fault("a", many.into()), GgufError::Count { .. }));
}

#[test]
fn what_the_format_cannot_hold_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let planned = |name: &str, shape: &[usize]| PlannedBlocks {
        name: name.into(),
        kind: TensorType::Q8_0,
        shape: shape.to_vec(),
    };
    let long = "n".repeat(64);
    for (plan, reason) in [
        (
            vec![planned("t", &[32]), planned("t", &[32])],
            "planned twice",
        ),
        (vec![planned(&long, &[32])], "63 bytes"),
        (vec![planned("t", &[])], "dimensions"),
        (vec![planned("t", &[0, 32])], "dimensions"),
        (vec![planned("t", &[2, 48])], "whole blocks"),
    ] {
        let written = write_file::<CheckpointError>(&path, &Metadata::new(), &plan, |_, _| Ok(()));
        let error = written.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    let plan = [planned("t", &[2, 32])];
    let short =
        write_file::<CheckpointError>(&path, &Metadata::new(), &plan, |_, sink| sink.put(&[0; 67]));
    let error = short.unwrap_err().to_string();
    assert!(
        error.contains("planned with 68 bytes and came with 67"),
        "{error}"
    );
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}
