//! The layouts that sets of embeddings come in.

mod coreset_common;
#[path = "coreset_common/layouts.rs"]
mod layouts;

use std::path::Path;

use bunny_data::Result;
use bunny_data::coreset::{CoresetOptions, Invalid, OutputOptions};
use bunny_data::embeddings::{EmbeddingOptions, EmbeddingSet};
use bunny_data::store::Folders;
use coreset_common::{Machine, fixture, results, run};
use layouts::layouts;

fn chosen() -> CoresetOptions {
    let mut options = CoresetOptions {
        invalid: Invalid::Drop,
        ..CoresetOptions::default()
    };
    options.clusters.count = Some(2);
    options.clusters.iterations = 2;
    options
}

#[test]
fn every_layout_holds_the_same_set() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = None;
    for (i, folder) in layouts(&fixture("small"), dir.path()).iter().enumerate() {
        let out = dir.path().join(format!("out-{i}"));
        run(
            folder,
            &out,
            &chosen(),
            &OutputOptions::default(),
            Machine::default(),
        )
        .unwrap();
        let keys = results(&out)
            .into_iter()
            .find(|(name, _)| name == "keys.txt")
            .unwrap()
            .1;
        assert!(!keys.is_empty());
        assert_eq!(
            *expected.get_or_insert(keys.clone()),
            keys,
            "{}",
            folder.display()
        );
    }
}

fn open(folder: &Path) -> Result<EmbeddingSet> {
    EmbeddingSet::open(&Folders::new(folder, folder), &EmbeddingOptions::default())
}

#[test]
fn metadata_beside_some_shards_alone_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let stored = &layouts(&fixture("small"), dir.path())[1];
    for other in ["00aa.npz", "00cd.npz"] {
        let path = stored.join(other);
        std::fs::copy(stored.join("00ab.npz"), &path).unwrap();
        let error = open(stored).unwrap_err();
        assert!(
            error.to_string().starts_with(&path.display().to_string()),
            "{error}"
        );
        std::fs::remove_file(path).unwrap();
    }
    // None at all is a set whose keys are its row numbers.
    std::fs::remove_file(stored.join("00ab.parquet")).unwrap();
    let set = open(stored).unwrap();
    assert_eq!(set.key_column, None);
}
