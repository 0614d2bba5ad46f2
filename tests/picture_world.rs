//! The small world through the command line: drawn, checked, selected from, and asked about.

mod program;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use program::{bunny, text};
use serde_json::Value;

/// What a command that went well says in JSON.
fn report(arguments: &[&str]) -> Value {
    let output = bunny(&[arguments, &["--format", "json"]].concat());
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a failed command says, which must be one line.
fn complaint(arguments: &[&str]) -> String {
    let output = bunny(arguments);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/models/phi-siglip")
}

fn json(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn lines(path: impl AsRef<Path>) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A world in a folder of its own.
fn drawn(pairs: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let world = folder.path().join("world");
    let arguments = [
        "data",
        "synth",
        "--out",
        text(&world),
        "--pairs",
        pairs,
        "--conversations",
        "30",
        "--questions",
        "44",
        "--texts",
        "10",
        "--seed",
        "3",
    ];
    let manifest = report(&arguments);
    assert_eq!(manifest, json(world.join("manifest.json")));
    (folder, world)
}

#[test]
fn a_drawn_world_is_valid_and_is_not_drawn_over() {
    let (_folder, world) = drawn("40");
    for stage in ["pretrain", "finetune"] {
        let file = world.join(stage).with_extension("json");
        let images = world.join(stage).join("images");
        let found = report(&[
            "data",
            "validate",
            text(&file),
            "--images",
            text(&images),
            "--stage",
            stage,
            "--pictures",
            "decode",
        ]);
        assert_eq!(found["findings"], Value::Array(Vec::new()), "{stage}");
        assert!(found["records"].as_u64().unwrap() >= 30);
    }
    let texts = lines(world.join("texts.jsonl"));
    assert_eq!(texts.len(), 10);
    assert!(
        texts
            .iter()
            .all(|line| !line["text"].as_str().unwrap().is_empty())
    );
    let said = complaint(&["data", "synth", "--out", text(&world)]);
    assert!(said.contains("name a new folder"), "{said}");
}

#[test]
fn the_coreset_of_a_world_is_cleaner_than_the_world() {
    let (folder, world) = drawn("1500");
    let out = folder.path().join("coreset");
    let images = world.join("pretrain/images");
    report(&[
        "data",
        "coreset",
        "--embeddings",
        text(&world.join("embeddings")),
        "--out",
        text(&out),
        "--images",
        text(&images),
        "--clusters",
        "4",
        "--centroid-window",
        "none",
        // As in recipes/picture-world.sh.
        "--score-window",
        "5-60",
        "--sample",
        "200",
    ]);
    let all = json(world.join("pretrain.json"));
    let by_id: BTreeMap<&str, &Value> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|record| (record["id"].as_str().unwrap(), record))
        .collect();
    let truth = lines(world.join("pretrain_truth.jsonl"));
    let truth: BTreeMap<&str, &Value> = truth
        .iter()
        .map(|line| (line["id"].as_str().unwrap(), line))
        .collect();
    let chosen = json(out.join("pretrain.json"));
    let chosen = chosen.as_array().unwrap();
    assert_eq!(chosen.len(), 200);
    let mut contents = Vec::new();
    let mut fine = 0;
    for record in chosen {
        let id = record["id"].as_str().unwrap();
        assert_eq!(record, by_id[id], "the record as it was");
        fine += usize::from(truth[id]["kind"] == "right" || truth[id]["kind"] == "duplicate");
        contents.push(truth[id]["content"].as_u64().unwrap());
    }
    // Of the world, 70 % have a right caption.
    assert!(fine >= 190, "{fine} of 200 are right");
    contents.sort_unstable();
    contents.dedup();
    assert!(contents.len() >= 196, "{} of 200 differ", contents.len());
}

#[test]
fn a_model_is_asked_every_question_and_graded_by_type() {
    let (folder, world) = drawn("1");
    let (model, answers) = (model(), folder.path().join("answers.jsonl"));
    let ask = |more: &[&str]| {
        let arguments = [
            "eval",
            "picture-world",
            "--model",
            text(&model),
            "--data",
            text(&world),
            "--max-new-tokens",
            "4",
        ];
        report(&[&arguments, more].concat())
    };
    let seen = ask(&["--out", text(&answers), "--batch", "7"]);
    assert_eq!(seen["format_version"], 1);
    assert_eq!(seen["overall"]["questions"], 44);
    assert_eq!(seen["types"].as_object().unwrap().len(), 11);
    assert_eq!(seen["types"]["colour"]["questions"], 4);
    // The model is random: it knows nothing.
    assert!(seen["overall"]["accuracy"].as_f64().unwrap() < 0.2);
    let interval = &seen["overall"]["interval"];
    assert!(interval[0].as_f64().unwrap() < interval[1].as_f64().unwrap());

    let answers = lines(&answers);
    let test = json(world.join("test.json"));
    let right = answers.iter().filter(|line| line["right"] == true).count();
    assert_eq!(seen["overall"]["right"], right);
    for (line, question) in answers.iter().zip(test.as_array().unwrap()) {
        assert_eq!(line["id"], question["id"]);
        assert_eq!(line["expected"], question["answer"]);
        assert_eq!(line["image"], question["image"]);
    }

    // One at a time gives the same answers; of the blind, each sees another's picture.
    let (alone, blind) = (folder.path().join("alone"), folder.path().join("blind"));
    ask(&["--out", text(&alone), "--batch", "1", "--limit", "5"]);
    assert_eq!(lines(&alone)[..], answers[..5]);
    let blinded = ask(&["--out", text(&blind), "--blind"]);
    assert_eq!(blinded["blind"], true);
    assert_eq!(
        blinded["overall"]["questions"], 40,
        "what needs no picture is not asked"
    );
    let seeing: BTreeMap<&str, &Value> = answers
        .iter()
        .map(|line| (line["id"].as_str().unwrap(), &line["image"]))
        .collect();
    for line in lines(&blind) {
        let own = seeing[line["id"].as_str().unwrap()];
        assert!(line["image"].is_string() && line["image"] != *own);
    }

    let table = bunny(&[
        "eval",
        "picture-world",
        "--model",
        text(&model),
        "--data",
        text(&world),
        "--limit",
        "11",
    ]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(
        table.lines().any(|line| line.starts_with("overall ")),
        "{table}"
    );
    assert_eq!(
        table.lines().count(),
        14,
        "a head, 11 types, overall, speed"
    );
}

#[test]
fn what_is_not_a_world_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let model = model();
    let said = complaint(&[
        "eval",
        "picture-world",
        "--model",
        text(&model),
        "--data",
        text(folder.path()),
    ]);
    assert!(said.contains("manifest.json"), "{said}");
}
