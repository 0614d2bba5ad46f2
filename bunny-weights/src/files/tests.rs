use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::error::{CheckpointError, HeaderError, IndexError, PickleError};

/// A file or folder that torch, safetensors or peft wrote (`tests/reference/checkpoints.py`).
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/checkpoints")
        .join(name)
}

#[derive(serde::Deserialize)]
struct Expected {
    dtype: String,
    shape: Vec<usize>,
    bytes: String,
}

fn expected() -> BTreeMap<String, serde_json::Value> {
    serde_json::from_slice(&fs::read(fixture("expected.json")).unwrap()).unwrap()
}

fn open(path: &Path) -> Result<TensorFiles, CheckpointError> {
    if path.is_dir() {
        TensorFiles::open_folder(path)
    } else {
        TensorFiles::open_file(path)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A copy of a fixture folder that a test may spoil.
fn copy_of(name: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

#[test]
fn what_python_wrote_is_read_to_the_byte() {
    let mut cases = expected();
    cases.remove("skipped");
    cases.remove("adapter");
    assert!(cases.len() >= 15);
    for (case, tensors) in cases {
        let tensors: BTreeMap<String, Expected> = serde_json::from_value(tensors).unwrap();
        let files = open(&fixture(&case)).unwrap();
        assert!(files.names().eq(tensors.keys()), "{case}");
        for (name, expected) in tensors {
            let tensor = files.get(&name).unwrap();
            assert_eq!(tensor.name, name);
            assert_eq!(tensor.dtype.name(), expected.dtype, "{case} {name}");
            assert_eq!(tensor.shape, expected.shape, "{case} {name}");
            assert_eq!(hex(&tensor.bytes), expected.bytes, "{case} {name}");
            assert_eq!(files.shape(&name), Some(&tensor.shape[..]));
            assert_eq!(files.dtype(&name), Some(tensor.dtype));
            assert_eq!(files.file(&name), Some(&*tensor.file));
        }
    }
}

#[test]
fn contiguous_tensors_are_the_mapped_file() {
    for case in ["every_dtype.safetensors", "every_dtype.pt", "legacy.pt"] {
        let files = open(&fixture(case)).unwrap();
        let (first, again) = (files.get("of.F32").unwrap(), files.get("of.F32").unwrap());
        assert_eq!(first.bytes.as_ptr(), again.bytes.as_ptr(), "{case}");
    }
    let files = open(&fixture("odd_layouts.pt")).unwrap();
    let (base, rows) = (files.get("base").unwrap(), files.get("rows").unwrap());
    assert_eq!(
        rows.bytes.as_ptr().addr(),
        base.bytes.as_ptr().addr() + 2 * 8 * 4
    );
}

#[test]
fn tensors_of_archives_and_safetensors_may_be_used_in_place() {
    for case in ["every_dtype.safetensors", "every_dtype.pt"] {
        let files = open(&fixture(case)).unwrap();
        assert!(
            files
                .names()
                .all(|name| files.get(name).unwrap().is_aligned()),
            "{case}"
        );
    }
}

#[test]
fn reading_ahead_changes_nothing_but_the_time() {
    let files = open(&fixture("sharded")).unwrap();
    let before = files.get("model.layers.4.weight").unwrap();
    files.read_ahead();
    assert_eq!(
        files.get("model.layers.4.weight").unwrap().bytes,
        before.bytes
    );
}

#[test]
fn a_tensor_at_an_odd_place_is_read_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.safetensors");
    let header = br#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(1.5f32.to_le_bytes());
    fs::write(&path, file).unwrap();
    let tensor = open(&path).unwrap().get("w").unwrap();
    assert_eq!(*tensor.bytes, 1.5f32.to_le_bytes());
    assert!(!tensor.is_aligned());
}

#[test]
fn what_lay_beside_a_wrapper_key_is_listed() {
    let beside = expected().remove("skipped").unwrap();
    let beside: Vec<String> = serde_json::from_value(beside).unwrap();
    for wrapper in ["model", "module", "state_dict"] {
        let files = open(&fixture(&format!("wrapped_{wrapper}.pt"))).unwrap();
        let mut skipped = files.skipped().to_vec();
        skipped.sort();
        assert_eq!(skipped, beside);
    }
}

#[test]
fn what_is_no_state_dict_of_plain_tensors_is_refused_by_name() {
    let global = |module: &str, name: &str| PickleError::Global {
        module: module.into(),
        name: name.into(),
    };
    for (case, expected) in [
        ("namespace", global("argparse", "Namespace")),
        ("whole_module", global("__main__", "Small")),
        ("complex", global("torch", "ComplexFloatStorage")),
        ("float8", global("torch._utils", "_rebuild_tensor_v3")),
        ("sparse", global("torch._utils", "_rebuild_sparse_tensor")),
        (
            "number",
            PickleError::NotATensor {
                name: "step".into(),
                kind: "a whole number",
            },
        ),
        (
            "nested",
            PickleError::NotATensor {
                name: "weight".into(),
                kind: "a dictionary",
            },
        ),
        (
            "numbered",
            PickleError::KeyNotText {
                kind: "a whole number",
            },
        ),
        ("list", PickleError::NotAStateDict { kind: "a list" }),
        ("bare", PickleError::NotAStateDict { kind: "a tensor" }),
        (
            "expanded",
            PickleError::Expanded {
                tensor: "weight".into(),
            },
        ),
        (
            "negated",
            PickleError::LazyView {
                tensor: "weight".into(),
            },
        ),
    ] {
        let path = fixture(&format!("refused/{case}.pt"));
        match open(&path).unwrap_err() {
            CheckpointError::Pickle { path: at, fault } => {
                assert_eq!((at, fault), (path, expected))
            }
            other => panic!("{case}: {other}"),
        }
    }
}

#[test]
fn a_missing_shard_is_named() {
    for (case, shard) in [
        ("sharded", "model-00002-of-00003.safetensors"),
        ("sharded_bin", "pytorch_model-00002-of-00003.bin"),
    ] {
        let folder = copy_of(case);
        fs::remove_file(folder.path().join(shard)).unwrap();
        let error = open(folder.path()).unwrap_err();
        assert!(
            matches!(
                &error,
                CheckpointError::Index { fault: IndexError::MissingShard { shard: named }, .. }
                    if named == shard
            ),
            "{error}"
        );
    }
}

#[test]
fn a_tensor_that_its_shard_lacks_is_named() {
    let folder = copy_of("sharded");
    let shard = "model-00002-of-00003.safetensors";
    let other = folder.path().join("model-00003-of-00003.safetensors");
    fs::copy(other, folder.path().join(shard)).unwrap();
    let CheckpointError::Index { fault, .. } = open(folder.path()).unwrap_err() else {
        panic!()
    };
    let tensor = "model.layers.2.weight".to_string();
    assert_eq!(
        fault,
        IndexError::MissingTensor {
            shard: shard.into(),
            tensor,
            more: 1
        }
    );
}

#[test]
fn tensors_that_the_index_does_not_know_are_listed_and_not_loaded() {
    let folder = copy_of("sharded");
    let index = folder.path().join("model.safetensors.index.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    json["weight_map"]
        .as_object_mut()
        .unwrap()
        .remove("model.layers.3.weight")
        .unwrap();
    fs::write(&index, json.to_string()).unwrap();
    let files = open(folder.path()).unwrap();
    assert_eq!(files.unlisted(), ["model.layers.3.weight"]);
    assert!(!files.contains("model.layers.3.weight"));
    assert_eq!(files.names().len(), 4);
}

#[test]
fn a_malformed_index_is_refused_for_what_is_wrong_with_it() {
    let json = |reason: &str| IndexError::Json {
        reason: reason.into(),
    };
    let outside = |shard: &str| IndexError::OutsideFolder {
        shard: shard.into(),
    };
    for (index, expected) in [
        (
            r#"{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}"#,
            IndexError::DuplicateTensor { tensor: "a".into() },
        ),
        (
            r#"{"weight_map": {"a": "../x.safetensors"}}"#,
            outside("../x.safetensors"),
        ),
        (
            r#"{"weight_map": {"a": "/etc/x.safetensors"}}"#,
            outside("/etc/x.safetensors"),
        ),
        (
            r#"{"weight_map": {"a": "a\\x.safetensors"}}"#,
            outside("a\\x.safetensors"),
        ),
        (r#"{"weight_map": {"a": ".."}}"#, outside("..")),
        (r#"{"weight_map": {"a": ""}}"#, outside("")),
        (
            r#"{}"#,
            json("missing field `weight_map` at line 1 column 2"),
        ),
        (
            r#"{"weight_map": {"a": 1}}"#,
            json("invalid type: integer `1`, expected a string at line 1 column 22"),
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
        let CheckpointError::Index { fault, .. } = open(folder.path()).unwrap_err() else {
            panic!("{index}")
        };
        assert_eq!(fault, expected);
    }
}

#[test]
fn a_single_file_is_preferred_to_shards_and_safetensors_to_pickles() {
    let folder = copy_of("sharded");
    fs::copy(
        fixture("ordered.bin"),
        folder.path().join("pytorch_model.bin"),
    )
    .unwrap();
    assert!(
        open(folder.path())
            .unwrap()
            .contains("model.layers.0.weight")
    );
    let single = folder.path().join("model.safetensors");
    fs::copy(fixture("every_dtype.safetensors"), single).unwrap();
    assert!(open(folder.path()).unwrap().contains("of.F32"));
}

#[test]
fn a_folder_without_weights_says_what_was_looked_for() {
    let empty = tempfile::tempdir().unwrap();
    let error = open(empty.path()).unwrap_err().to_string();
    assert!(
        error.contains("looked for model.safetensors, pytorch_model.bin"),
        "{error}"
    );
    let adapter = open(&fixture("adapter")).unwrap_err().to_string();
    assert!(
        adapter.ends_with("this is an adapter, which needs its base model"),
        "{adapter}"
    );
    let nowhere = TensorFiles::open_folder(empty.path().join("nowhere")).unwrap_err();
    assert!(
        nowhere.to_string().ends_with("there is no such folder"),
        "{nowhere}"
    );
}

#[test]
fn several_files_are_one_unless_they_share_a_name() {
    let paths = [fixture("ordered.bin"), fixture("every_dtype.safetensors")];
    let files = TensorFiles::open_files(&paths).unwrap();
    assert!(files.contains("linear.weight") && files.contains("of.F32"));
    assert_eq!(files.metadata()["format"], "pt");
    let error = TensorFiles::open_files([&paths[0], &fixture("wrapped_model.pt")]).unwrap_err();
    assert!(
        matches!(error, CheckpointError::DuplicateTensor { .. }),
        "{error}"
    );
}

#[test]
fn tensors_can_be_renamed_and_left_out_but_not_merged() {
    let open = || open(&fixture("ordered.bin")).unwrap();
    let linear = open()
        .renamed(|name| name.strip_prefix("linear.").map(str::to_string))
        .unwrap();
    assert!(linear.names().eq(["bias", "weight"]));
    let error = open().renamed(|_| Some("same".into())).unwrap_err();
    assert!(
        matches!(error, CheckpointError::DuplicateTensor { .. }),
        "{error}"
    );
}

#[test]
fn errors_are_one_line_however_odd_the_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.safetensors");
    let name = format!("line\\nbreak{}", "x".repeat(1000));
    let header = format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,3]}}}}"#);
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.extend([0; 3]);
    fs::write(&path, file).unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(
        error,
        CheckpointError::Header {
            fault: HeaderError::WrongSize { .. },
            ..
        }
    ));
    let line = error.to_string();
    assert!(!line.contains('\n') && line.len() < 600, "{line}");
    assert!(line.contains(&*path.to_string_lossy()), "{line}");
}

#[test]
fn an_ending_that_says_nothing_is_refused() {
    let error = open(Path::new("weights.gguf")).unwrap_err();
    assert!(
        matches!(error, CheckpointError::UnknownEnding { .. }),
        "{error}"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = open(Path::new("nowhere/model.safetensors")).unwrap_err();
    assert!(
        error.to_string().starts_with("nowhere/model.safetensors: "),
        "{error}"
    );
}
