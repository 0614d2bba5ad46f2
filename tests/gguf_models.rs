//! Models of the fixtures in GGUF: as they are written, and the numbers that they hold.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use bunny_core::checkpoint::{GgufExport, GgufProjector, GgufWeights, ModelSource, OpenModel};
use bunny_weights::{StoredDtype, TensorFiles, convert};
use tempfile::{TempDir, tempdir};

/// A model of the fixtures.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/models")
        .join(name)
}

/// A model that stands alone.
pub fn merged(folder: impl AsRef<Path>) -> OpenModel {
    ModelSource::merged(folder.as_ref()).open().unwrap()
}

/// How a model is written, under a short name.
pub fn export(weights: GgufWeights, projector: GgufProjector) -> GgufExport {
    GgufExport {
        name: "small".into(),
        weights,
        projector,
    }
}

/// Writes a model, into a folder of its own.
pub fn write(open: &OpenModel, weights: GgufWeights, projector: GgufProjector) -> TempDir {
    let folder = tempdir().unwrap();
    open.export_gguf(folder.path(), &export(weights, projector))
        .unwrap();
    folder
}

/// All numbers that a model reads, under their published names.
pub fn numbers(open: &OpenModel) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let folder = tempdir().unwrap();
    open.write_merged(folder.path(), StoredDtype::F32).unwrap();
    let files = TensorFiles::open_folder(folder.path()).unwrap();
    let tensor = |name: &str| {
        let tensor = files.get(name).unwrap();
        let numbers = convert::to_f32(&tensor.bytes, tensor.dtype).unwrap();
        (name.to_owned(), (tensor.shape, numbers))
    };
    // The norm behind the tower's layers is never applied, and files are without it.
    let names = files
        .names()
        .filter(|name| !name.contains("post_layernorm"));
    names.map(tensor).collect()
}

/// The file of a folder whose name begins so: a language model's with `small`, a projector's with `mmproj`.
pub fn file_named(folder: &Path, part: &str) -> PathBuf {
    let mut files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .find(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(part)
        })
        .unwrap()
}
