//! A model that is saved and loaded again is the same model.
#![recursion_limit = "256"]

use std::path::{Path, PathBuf};

use bunny_core::{
    checkpoint::{ModelSource, Precision},
    generate::Pipeline,
};
use bunny_weights::{ModelFolder, StoredDtype, TensorFiles, folder::TOKENIZER_FILES};
use burn_flex::Flex;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/models")
        .join(name)
}

/// Saves the model of a fixture in shards and gives the files it was saved to.
fn saved(source: &ModelSource, folder: &Path, shard: u64) -> Vec<PathBuf> {
    let pipeline = Pipeline::<Flex>::load(source, Precision::F32, Default::default()).unwrap();
    let tokenizer = source.base.as_ref().unwrap_or(&source.model);
    let tokenizer = ModelFolder::new().with_files_of(tokenizer, TOKENIZER_FILES);
    let processor = &pipeline.image_processor;
    pipeline
        .model
        .save(folder, StoredDtype::F32, shard, &tokenizer, processor)
        .unwrap()
}

/// All tensors of the one that the other has too, compared to the bit; gives their number.
fn same_tensors(one: &TensorFiles, other: &TensorFiles) -> usize {
    let shared: Vec<&str> = one.names().filter(|name| other.contains(name)).collect();
    for name in &shared {
        let (one, other) = (one.get(name).unwrap(), other.get(name).unwrap());
        assert_eq!(one.shape, other.shape, "{name}");
        assert_eq!(one.bytes, other.bytes, "{name}");
    }
    shared.len()
}

/// Cases that are whole models, one of each family and of each kind of tower.
const WHOLE: [&str; 7] = [
    "phi-siglip",
    "phi2-siglip-trimmed",
    "stablelm-eva",
    "llama-siglip",
    "qwen2-clip",
    "minicpm-siglip",
    "phi3-siglip-s2",
];

#[test]
fn what_is_saved_is_what_was_loaded() {
    for name in WHOLE {
        let folder = tempfile::tempdir().unwrap();
        let source = ModelSource::merged(fixture(name));
        let files = saved(&source, folder.path(), 100_000);
        assert!(
            files
                .iter()
                .any(|file| file.ends_with("model.safetensors.index.json")),
            "{name}"
        );

        let original = TensorFiles::open_folder(fixture(name)).unwrap();
        let copy = TensorFiles::open_folder(folder.path()).unwrap();
        // Every tensor is written under the name it was read from; of the original, only what the
        // model never uses is left behind.
        assert_eq!(same_tensors(&copy, &original), copy.names().len(), "{name}");
        assert!(
            original
                .names()
                .all(|tensor| { copy.contains(tensor) || tensor.contains("vision_tower") })
        );

        // The copy opens by itself, and is then saved as the same again.
        let again = tempfile::tempdir().unwrap();
        saved(&ModelSource::merged(folder.path()), again.path(), u64::MAX);
        let again = TensorFiles::open_folder(again.path()).unwrap();
        assert_eq!(same_tensors(&again, &copy), copy.names().len(), "{name}");
    }
}

#[test]
fn the_saved_configuration_says_what_was_read() {
    for name in WHOLE {
        let folder = tempfile::tempdir().unwrap();
        let source = ModelSource::merged(fixture(name));
        saved(&source, folder.path(), u64::MAX);
        let mut copy = ModelSource::merged(folder.path()).configuration().unwrap();
        let original = source.configuration().unwrap();
        // The tower's folder may have another name.
        copy.vision_tower = original.vision_tower.clone();
        assert_eq!(copy, original, "{name}");
    }
}

#[test]
fn a_merged_adapter_is_saved_as_plain_weights() {
    let case = fixture("phi-siglip-lora");
    let source = ModelSource {
        model: case.join("bunny-lora"),
        base: Some(case.join("base")),
        vision_tower: Some(case.join("siglip-tower")),
    };
    let folder = tempfile::tempdir().unwrap();
    saved(&source, folder.path(), u64::MAX);
    let merged = TensorFiles::open_folder(folder.path()).unwrap();
    let base = TensorFiles::open_folder(case.join("base")).unwrap();
    assert!(merged.names().all(|name| !name.contains("lora")));
    let weight = "model.layers.0.self_attn.q_proj.weight";
    assert_ne!(
        merged.get(weight).unwrap().bytes,
        base.get(weight).unwrap().bytes
    );
    ModelSource::merged(folder.path()).open().unwrap();
}
