//! Weights in integers as compressed-tensors' own library writes them, and damaged ones.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::{TensorFiles, convert};

fn fixture(name: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/packed");
    PathBuf::from(folder).join(name)
}

fn config(name: &str) -> Value {
    let text = std::fs::read(fixture(&format!("{name}.json"))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn open(name: &str) -> (TensorFiles, BTreeMap<String, PackedTensor>) {
    let files = TensorFiles::open_file(fixture(&format!("{name}.safetensors"))).unwrap();
    let read = PackedConfig::read(&config(name)).unwrap();
    read.take_from(files).unwrap()
}

fn expected(name: &str) -> BTreeMap<String, Vec<f32>> {
    let files = fixture(&format!("{name}.expected.safetensors"));
    let files = TensorFiles::open_file(files).unwrap();
    let numbers = |name: &str| {
        let tensor = files.get(name).unwrap();
        convert::to_f32(&tensor.bytes, tensor.dtype).unwrap()
    };
    let names = files.names();
    names
        .map(|name| (name.to_string(), numbers(name)))
        .collect()
}

/// What rows that products take stand for, in the plainest way.
fn opened(rows: &PackedRows, [out, inner]: [usize; 2], group: usize) -> Vec<f32> {
    let groups = inner.div_ceil(group);
    let scale = |at: usize| {
        let bytes = [rows.scales[2 * at], rows.scales[2 * at + 1]];
        f16::from_le_bytes(bytes).to_f32()
    };
    let code = |row: usize, at: usize| match rows.bits {
        8 => f32::from(rows.codes[row * inner + at] as i8),
        _ => {
            let byte = rows.codes[row * 4 * inner.div_ceil(8) + at / 2];
            f32::from(byte >> (4 * (at % 2)) & 15) - 8.0
        }
    };
    let places = (0..out).flat_map(|row| (0..inner).map(move |at| (row, at)));
    places
        .map(|(row, at)| code(row, at) * scale(row * groups + at / group))
        .collect()
}

#[test]
fn what_the_library_wrote_is_what_is_read() {
    for (name, layers) in [("words", 9), ("bytes", 4)] {
        let ((floats, packed), expected) = (open(name), expected(name));
        assert_eq!(floats.names().collect::<Vec<_>>(), ["left.weight"]);
        assert_eq!(packed.len(), layers, "{name}");
        for (name, tensor) in &packed {
            let [out, _] = tensor.sides();
            assert_eq!(tensor.floats(0..out), expected[name], "{name}");
            let [first, last] = [tensor.floats(0..2), tensor.floats(2..out)];
            assert_eq!([first, last].concat(), expected[name], "{name} in parts");
        }
    }
}

#[test]
fn products_take_the_same_numbers() {
    for name in ["words", "bytes"] {
        let (_, packed) = open(name);
        let expected = expected(name);
        for (name, tensor) in packed {
            let ([out, inner], group) = (tensor.sides(), tensor.group());
            let rows = tensor.rows(1..out);
            // Groups of 16, and zero points of eight bits.
            let has_none = name.starts_with("sym4_16") || name.starts_with("asym8");
            assert_eq!(rows.is_none(), has_none, "{name}");
            let Some(rows) = rows else { continue };
            let found = opened(&rows, [out - 1, inner], group);
            for (found, expected) in found.iter().zip(&expected[&name][inner..]) {
                // Scales in f32 are rounded to eleven digits; all others are what they are.
                let room = match tensor.float_type() {
                    StoredDtype::F32 => expected.abs() * 2f32.powi(-11),
                    _ => 0.0,
                };
                assert!((found - expected).abs() <= room, "{name}");
            }
        }
    }
}

#[test]
fn what_products_take_as_it_lies_is_not_copied() {
    let path = fixture("words.safetensors");
    let files = TensorFiles::open_file(path).unwrap();
    let stored = files.get("sym4_32.weight_packed").unwrap();
    let read = PackedConfig::read(&config("words")).unwrap();
    let (_, packed) = read.take_from(files).unwrap();
    let rows = packed["sym4_32.weight"].rows(0..5).unwrap();
    assert_eq!(rows.codes.as_ptr(), stored.bytes.as_ptr());
    let rows = packed["sym4_32.weight"].rows(2..5).unwrap();
    assert_eq!(rows.codes.as_ptr(), stored.bytes[2 * 48..].as_ptr());
}

/// The file of a layer with `change` made to it, and what is said against it.
fn refused(name: &str, change: impl FnOnce(&mut Vec<StoredTensor>)) -> String {
    let files = TensorFiles::open_file(fixture(&format!("{name}.safetensors"))).unwrap();
    let mut tensors: Vec<StoredTensor> = files
        .names()
        .map(|tensor| files.get(tensor).unwrap())
        .collect();
    change(&mut tensors);
    let files = TensorFiles::from_tensors(tensors).unwrap();
    let read = PackedConfig::read(&config(name)).unwrap();
    let error = read.take_from(files).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

#[test]
fn every_malformed_part_is_named() {
    type Change = fn(&mut StoredTensor);
    let cut: Change = |tensor| {
        let rows = tensor.shape[0];
        let row = tensor.bytes.len() / rows;
        tensor.shape[0] = rows - 1;
        tensor.bytes.truncate(row * (rows - 1));
    };
    let other_type: Change = |tensor| tensor.dtype = StoredDtype::F32;
    let wide_type: Change = |tensor| {
        tensor.dtype = StoredDtype::I64;
    };
    let below_zero: Change =
        |tensor| tensor.bytes = [-1i64, 96].map(i64::to_le_bytes).concat().into();
    for (file, name, change, says) in [
        (
            "words",
            "sym4_32.weight_packed",
            cut,
            "I32 [4, 12], expected I32 [5, 12] or [5, 24]",
        ),
        ("words", "sym4_32.weight_packed", other_type, "F32 [5, 12]"),
        (
            "words",
            "sym4_32.weight_scale",
            cut,
            "expected floats [5, 1] or [5, 2] or [5, 3]",
        ),
        ("words", "sym4_32.weight_scale", wide_type, "I64 [5, 3]"),
        (
            "words",
            "sym4_32.weight_shape",
            cut,
            "I64 [1], expected I64 [2]",
        ),
        (
            "words",
            "sym4_32.weight_shape",
            below_zero,
            "a side below zero",
        ),
        (
            "words",
            "asym4_32.weight_zero_point",
            cut,
            "I32 [1, 3], expected I8 [13, 3] or I32 [2, 3]",
        ),
        ("bytes", "sym8_128.weight_scale", cut, "BF16 [4, 2]"),
        ("bytes", "asym8_row.weight_zero_point", cut, "I8 [4, 1]"),
    ] {
        let error = refused(file, |tensors| {
            let tensor = tensors.iter_mut().find(|tensor| tensor.name == name);
            change(tensor.unwrap());
        });
        assert!(error.contains(name) && error.contains(says), "{error}");
    }
    for (file, name) in [
        ("words", "sym4_32.weight_scale"),
        ("words", "sym4_32.weight_shape"),
        ("bytes", "sym8_row.weight_scale"),
    ] {
        let error = refused(file, |tensors| tensors.retain(|tensor| tensor.name != name));
        assert!(error.contains(&format!("`{name}` is missing")), "{error}");
    }
    let error = refused("words", |tensors| {
        let mut order = tensors[0].clone();
        order.name = "sym4_32.weight_g_idx".into();
        tensors.push(order);
    });
    assert!(error.contains("actorder"), "{error}");
}

#[test]
fn what_is_said_and_not_read_is_named() {
    let with = |path: &str, value: Value| {
        let mut config = config("words");
        *config.pointer_mut(path).unwrap() = value;
        PackedConfig::read(&config).unwrap_err().to_string()
    };
    for (path, value, says) in [
        ("/quant_method", json!("gptq"), "quant_method` is `gptq`"),
        ("/format", json!("nvfp4-pack-quantized"), "format` is"),
        (
            "/kv_cache_scheme",
            json!({"num_bits": 8}),
            "kv_cache_scheme`",
        ),
        (
            "/config_groups/group_0/weights/num_bits",
            json!(3),
            "group_0.weights.num_bits` is 3",
        ),
        (
            "/config_groups/group_0/weights/type",
            json!("float"),
            "type` is `float`",
        ),
        (
            "/config_groups/group_0/weights/strategy",
            json!("block"),
            "strategy` is `block`",
        ),
        (
            "/config_groups/group_0/weights/group_size",
            json!(0),
            "group_size` is 0",
        ),
        (
            "/config_groups/group_0/format",
            json!("marlin-24"),
            "group_0.format` is",
        ),
    ] {
        let error = with(path, value);
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn what_is_written_is_read() {
    let groups = [
        PackedGroup {
            bits: 4,
            group: Some(32),
            layers: vec!["model[.]layers[.]".into()],
        },
        PackedGroup {
            bits: 8,
            group: None,
            layers: vec!["lm_head$".into()],
        },
    ];
    let written = PackedConfig::write(IntegerFormat::Words, &groups, &[]);
    let read = PackedConfig::read(&written).unwrap();
    assert_eq!(
        read,
        PackedConfig {
            bits: vec![4, 8],
            groups: vec![32]
        }
    );
    let plan = plan_packed("a.weight", [5, 77], IntegerFormat::Words, 4, 32);
    let shapes: Vec<_> = plan
        .iter()
        .map(|(_, tensor)| (&*tensor.name, &tensor.shape[..]))
        .collect();
    assert_eq!(
        shapes,
        [
            ("a.weight_packed", &[5, 10][..]),
            ("a.weight_scale", &[5, 3]),
            ("a.weight_shape", &[2]),
        ]
    );
}
