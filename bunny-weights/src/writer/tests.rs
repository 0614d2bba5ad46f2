use std::fs;

use super::*;
use crate::TensorFiles;
use crate::error::CheckpointError;
use crate::files::tests::fixture;

fn plan_of(files: &TensorFiles) -> Vec<PlannedTensor> {
    files
        .names()
        .map(|name| PlannedTensor {
            name: name.to_string(),
            dtype: files.dtype(name).unwrap(),
            shape: files.shape(name).unwrap().to_vec(),
        })
        .collect()
}

fn read_from(
    files: &TensorFiles,
) -> impl FnMut(&PlannedTensor) -> Result<bytes::Bytes, CheckpointError> {
    |tensor| Ok(files.get(&tensor.name).unwrap().bytes)
}

fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn bytes_tensor(name: &str, length: usize) -> PlannedTensor {
    PlannedTensor {
        name: name.into(),
        dtype: StoredDtype::U8,
        shape: vec![length],
    }
}

#[test]
fn a_file_is_byte_for_byte_what_the_safetensors_library_writes() {
    let original = fixture("every_dtype.safetensors");
    let files = TensorFiles::open_file(&original).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("written.safetensors");
    let mut plan = plan_of(&files);
    plan.reverse();
    write_file(&path, &plan, read_from(&files)).unwrap();
    assert_eq!(fs::read(path).unwrap(), fs::read(original).unwrap());
}

#[test]
fn shards_and_index_are_byte_for_byte_what_huggingface_hub_writes() {
    let original = fixture("sharded");
    let files = TensorFiles::open_folder(&original).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let written = write_folder(folder.path(), &plan_of(&files), 300, read_from(&files)).unwrap();
    assert_eq!(listing(folder.path()), listing(&original));
    assert_eq!(written.len(), 4);
    for name in listing(&original)
        .iter()
        .filter(|name| name.ends_with(".safetensors"))
    {
        let [ours, theirs] = [folder.path(), &original].map(|at| fs::read(at.join(name)).unwrap());
        assert_eq!(ours, theirs, "{name}");
    }
    let [ours, theirs] = [folder.path(), &original].map(|at| -> serde_json::Value {
        let index = fs::read(at.join("model.safetensors.index.json")).unwrap();
        serde_json::from_slice(&index).unwrap()
    });
    assert_eq!(ours, theirs);
}

#[test]
fn what_fits_into_one_file_needs_no_index() {
    let files = TensorFiles::open_folder(fixture("sharded")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let plan = plan_of(&files);
    let written = write_folder(folder.path(), &plan, MAX_SHARD_SIZE, read_from(&files)).unwrap();
    assert_eq!(written, [folder.path().join("model.safetensors")]);
    assert_eq!(listing(folder.path()), ["model.safetensors"]);
}

#[test]
fn weights_that_were_there_are_replaced_whole() {
    let files = TensorFiles::open_folder(fixture("sharded")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    let plan = plan_of(&files);
    for (size, count) in [(300, 4), (150, 6), (MAX_SHARD_SIZE, 1), (300, 4)] {
        write_folder(folder.path(), &plan, size, read_from(&files)).unwrap();
        assert_eq!(
            listing(folder.path()).len(),
            count + 1,
            "{:?}",
            listing(folder.path())
        );
        let again = TensorFiles::open_folder(folder.path()).unwrap();
        assert!(again.names().eq(files.names()));
        assert!(again.unlisted().is_empty());
    }
}

#[test]
fn a_tensor_larger_than_a_shard_has_one_of_its_own() {
    let plan = [("a", 10), ("b", 100), ("c", 10), ("d", 10)].map(|(n, size)| bytes_tensor(n, size));
    let shards = shards(&plan, 20);
    let sizes: Vec<Vec<u64>> = shards
        .iter()
        .map(|shard| shard.iter().map(|tensor| tensor.size()).collect())
        .collect();
    assert_eq!(sizes, [vec![10], vec![100], vec![10, 10]]);
    assert_eq!(super::shards(&[], 20), [Vec::<&PlannedTensor>::new()]);
}

#[test]
fn nothing_is_left_behind_when_a_tensor_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let plan = [bytes_tensor("a", 4), bytes_tensor("b", 4)];
    let mut asked = 0;
    let error = write_folder(folder.path(), &plan, 4, |tensor| {
        asked += 1;
        match asked {
            1 => Ok(vec![0; 4]),
            _ => Err(CheckpointError::NoWeights {
                folder: tensor.name.clone().into(),
                hint: "",
            }),
        }
    })
    .unwrap_err();
    assert!(matches!(error, CheckpointError::NoWeights { folder, .. } if folder.ends_with("b")));
    assert!(listing(folder.path()).is_empty());
}

#[test]
fn an_interrupted_write_leaves_the_old_file_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    write_file(&path, &[bytes_tensor("a", 4)], |_| {
        Ok::<_, CheckpointError>([1u8; 4])
    })
    .unwrap();
    let old = fs::read(&path).unwrap();
    let short = write_file(&path, &[bytes_tensor("a", 5)], |_| {
        Ok::<_, CheckpointError>([1u8; 4])
    })
    .unwrap_err();
    assert!(
        matches!(
            short,
            CheckpointError::PlannedSize {
                planned: 5,
                found: 4,
                ..
            }
        ),
        "{short}"
    );
    assert_eq!(fs::read(&path).unwrap(), old);
    assert_eq!(listing(folder.path()), ["w.safetensors"]);
}

/// Set in a process whose files may not grow.
#[cfg(unix)]
const SMALL_FILES: &str = "BUNNY_TEST_OF_SMALL_FILES";

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_weights_that_were_there() {
    if let Some(folder) = std::env::var_os(SMALL_FILES) {
        // More than a file may have here, less than is written at a time.
        let plan = [bytes_tensor("a", 100_000)];
        let error = write_folder(folder, &plan, MAX_SHARD_SIZE, |_| {
            Ok::<_, CheckpointError>(vec![2; 100_000])
        })
        .unwrap_err();
        assert!(matches!(error, CheckpointError::Io { .. }), "{error}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    write_folder(
        folder.path(),
        &[bytes_tensor("a", 4)],
        MAX_SHARD_SIZE,
        |_| Ok::<_, CheckpointError>([1u8; 4]),
    )
    .unwrap();
    let old = fs::read(folder.path().join("model.safetensors")).unwrap();
    // A limit of one block stands for a disk that is full; without the trap it ends the process.
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -f 1; trap '' XFSZ; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("writer::tests::a_full_disk_leaves_the_weights_that_were_there")
        .env(SMALL_FILES, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
    assert_eq!(listing(folder.path()), ["model.safetensors"]);
    assert_eq!(
        fs::read(folder.path().join("model.safetensors")).unwrap(),
        old
    );
}

#[test]
fn a_plan_that_no_file_can_hold_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    for (plan, reason) in [
        (
            vec![bytes_tensor("a", 1), bytes_tensor("a", 1)],
            "it is planned twice",
        ),
        (
            vec![bytes_tensor("__metadata__", 1)],
            "the format keeps this name for remarks",
        ),
        (
            vec![bytes_tensor("a", usize::MAX)],
            "its shape is larger than any memory",
        ),
    ] {
        let read = |_: &PlannedTensor| -> Result<Vec<u8>, CheckpointError> { unreachable!() };
        let error = write_folder(folder.path(), &plan, 10, read).unwrap_err();
        assert!(
            matches!(&error, CheckpointError::Plan { reason: found, .. } if *found == reason),
            "{error}"
        );
    }
    assert!(listing(folder.path()).is_empty());
}
