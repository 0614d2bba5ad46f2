//! The whole selection against `tests/reference/coreset.py`: a direct version in NumPy, quadratic
//! and in float64, on seeded sets with planted copies, chains, ties, a giant cluster and unusable
//! rows. The kept keys have to be equal, not close.

mod coreset_common;

use std::collections::BTreeMap;
use std::fs::File;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, UInt32Type, UInt64Type};
use bunny_data::coreset::{
    CoresetOptions, DuplicateOptions, Geometry, OutputOptions, WindowOptions,
};
use coreset_common::{Machine, fixture, options, results, run};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    options: Choices,
    result: Expected,
}

#[derive(Deserialize)]
struct Choices {
    seed: u64,
    geometry: Geometry,
    score_window: Option<bunny_data::coreset::Window>,
    centroid_window: Option<bunny_data::coreset::Window>,
    sample: Option<u64>,
    #[serde(flatten)]
    duplicates: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct Expected {
    counts: [u64; 5],
    keys: Vec<String>,
    rows: Vec<u64>,
    clusters: Vec<u32>,
    components: Vec<u64>,
    sizes: Vec<u64>,
    scores: Vec<f64>,
    centroid_scores: Vec<f64>,
    distances: Vec<f64>,
}

fn cases(set: &str) -> BTreeMap<String, Case> {
    let text = std::fs::read_to_string(fixture(set).join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn chosen(set: &str, case: &Case) -> CoresetOptions {
    let choices = &case.options;
    let duplicates = serde_json::to_value(&choices.duplicates).unwrap();
    let mut options = options(set);
    options.seed = choices.seed;
    options.clusters.geometry = choices.geometry;
    options.duplicates = serde_json::from_value::<DuplicateOptions>(duplicates).unwrap();
    options.windows = WindowOptions {
        score: choices.score_window,
        centroid: choices.centroid_window,
    };
    options.sample = choices.sample;
    options
}

/// Both sum in float64, the reference exactly: a few units in the last place apart.
fn close(found: &[f64], expected: &[f64]) -> bool {
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-14;
    found.len() == expected.len() && found.iter().zip(expected).all(near)
}

fn agrees(set: &str) {
    for (name, case) in cases(set) {
        let out = tempfile::tempdir().unwrap();
        let options = chosen(set, &case);
        let outputs = OutputOptions::default();
        let report = run(
            &fixture(set),
            out.path(),
            &options,
            &outputs,
            Machine::default(),
        )
        .unwrap();
        let expected = &case.result;
        let counts: Vec<u64> = report.steps().iter().map(|step| step.kept).collect();
        assert_eq!(counts, expected.counts, "{set}, {name}");
        let keys = std::fs::read_to_string(out.path().join("keys.txt")).unwrap();
        assert_eq!(
            keys.lines().collect::<Vec<_>>(),
            expected.keys,
            "{set}, {name}"
        );

        let file = File::open(out.path().join("kept.parquet")).unwrap();
        let mut reader = ParquetRecordBatchReaderBuilder::try_new(file)
            .unwrap()
            .build()
            .unwrap();
        let Some(batch) = reader.next() else {
            assert!(expected.keys.is_empty());
            continue;
        };
        let batch = batch.unwrap();
        let words = |column: &str| batch[column].as_primitive::<UInt64Type>().values().to_vec();
        let reals = |column: &str| {
            batch[column]
                .as_primitive::<Float64Type>()
                .values()
                .to_vec()
        };
        assert_eq!(words("row"), expected.rows, "{set}, {name}");
        assert_eq!(words("component"), expected.components, "{set}, {name}");
        assert_eq!(words("component_size"), expected.sizes, "{set}, {name}");
        let clusters = batch["cluster"].as_primitive::<UInt32Type>().values();
        assert_eq!(clusters, &expected.clusters, "{set}, {name}");
        assert!(
            close(&reals("image_text_cosine"), &expected.scores),
            "{set}, {name}"
        );
        assert!(
            close(&reals("image_centroid_cosine"), &expected.centroid_scores),
            "{set}, {name}"
        );
        assert!(
            close(&reals("centroid_distance"), &expected.distances),
            "{set}, {name}"
        );
    }
}

#[test]
fn a_small_set_is_selected_as_the_reference_selects() {
    agrees("small");
}

#[test]
fn a_mixture_in_several_files_is_selected_as_the_reference_selects() {
    agrees("mixture");
}

#[test]
fn a_giant_cluster_is_selected_as_the_reference_selects() {
    agrees("giant");
}

#[test]
fn a_set_with_unusable_rows_is_selected_as_the_reference_selects() {
    agrees("broken");
}

#[test]
fn threads_tiles_and_memory_do_not_change_a_byte() {
    for (set, name) in [
        ("giant", "sampled"),
        ("mixture", "semdedup-random"),
        ("broken", "paper"),
    ] {
        let case = &cases(set)[name];
        let options = chosen(set, case);
        let bytes = |machine| {
            let out = tempfile::tempdir().unwrap();
            run(
                &fixture(set),
                out.path(),
                &options,
                &OutputOptions::default(),
                machine,
            )
            .unwrap();
            results(out.path())
        };
        let expected = bytes(Machine::default());
        assert!(expected.len() >= 4);
        for threads in [1, 2, 7] {
            // 96 KiB of memory sends the state of the clusters to disk.
            for (tile, memory) in [
                ((1, 1), 64 << 20),
                ((5, 16), 96 << 10),
                ((300, 33), 1 << 20),
            ] {
                let machine = Machine {
                    threads,
                    tile,
                    memory,
                };
                assert!(bytes(machine) == expected, "{set}, {machine:?}");
            }
        }
    }
}

#[test]
fn kmeans_is_that_of_the_reference() {
    let rows = fixture("kmeans").join("rows.npy");
    for (iterations, after) in [(1, "after-1.npy"), (6, "after-6.npy")] {
        let dir = tempfile::tempdir().unwrap();
        let set = dir.path().join("set/img_emb");
        std::fs::create_dir_all(&set).unwrap();
        std::fs::copy(&rows, set.join("img_emb_0.npy")).unwrap();
        let mut options = CoresetOptions::default();
        options.clusters.count = Some(9);
        options.clusters.start_from = Some(fixture("kmeans").join("start.npy"));
        options.clusters.iterations = iterations;
        // 300 rows, fewer than 256 for each of 9 centroids: the sample is the set.
        options.windows.score = None;
        let out = dir.path().join("out");
        let outputs = OutputOptions::default();
        run(
            &dir.path().join("set"),
            &out,
            &options,
            &outputs,
            Machine::default(),
        )
        .unwrap();
        let found = std::fs::read(out.join("centroids.npy")).unwrap();
        let expected = std::fs::read(fixture("kmeans").join(after)).unwrap();
        assert_eq!(
            found[found.len() - 9 * 48..],
            expected[expected.len() - 9 * 48..]
        );
    }
}
