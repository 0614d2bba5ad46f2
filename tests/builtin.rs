//! The built-in model through the command line: it answers at once, it is a checkpoint like any
//! other, and it knows its world.

mod program;

use std::{
    fs,
    path::{Path, PathBuf},
};

use program::{bunny, text};
use serde_json::Value;

/// What a command that went well prints.
fn said(arguments: &[&str]) -> String {
    let output = bunny(arguments);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/pictures/shapes.jpg")
}

/// Asks about the sample picture, with more arguments before.
fn asked(more: &[&str], questions: &[&str]) -> Vec<String> {
    let sample = sample();
    let mut arguments = vec!["chat"];
    arguments.extend(more);
    arguments.extend(["--image", text(&sample), "--format", "json"]);
    for question in questions {
        arguments.extend(["--prompt", question]);
    }
    said(&arguments)
        .lines()
        .map(|turn| {
            let turn: Value = serde_json::from_str(turn).unwrap();
            turn["text"].as_str().unwrap().to_owned()
        })
        .collect()
}

#[test]
fn it_tells_what_is_in_the_sample_without_being_named() {
    // The picture shows a rainbow ring, a yellow triangle, a black diamond and a purple 921.
    let short =
        |question: &str| format!("{question}\nAnswer the question using a single word or phrase.");
    let questions = [
        "What colour is the triangle?",
        "What is the black shape?",
        "Is there a red star?",
        "How many shapes are there?",
    ]
    .map(short);
    let answers = asked(&[], &questions.each_ref().map(String::as_str));
    assert_eq!(answers, ["yellow", "diamond", "no", "3"]);
}

#[test]
fn unpacked_it_is_a_checkpoint_that_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("small-bunny");
    let written = said(&["model", "unpack", text(&out)]);
    let size: u64 = written
        .lines()
        .map(|file| fs::metadata(file).unwrap().len())
        .sum();
    assert!(size <= 6_000_000, "{size} bytes");
    let question = ["What is in the picture?"];
    assert_eq!(
        asked(&["--model", text(&out)], &question),
        asked(&[], &question)
    );

    let again = bunny(&["model", "unpack", text(&out)]);
    assert_eq!(again.status.code(), Some(1));
    let inspected = |model: &str| {
        let report = said(&["model", "inspect", model, "--format", "json"]);
        let mut report: Value = serde_json::from_str(&report).unwrap();
        report.as_object_mut().unwrap().remove("model");
        report
    };
    assert_eq!(inspected(text(&out)), inspected("builtin"));
}

#[test]
fn it_knows_a_world_that_it_has_never_seen() {
    let folder = tempfile::tempdir().unwrap();
    let world = folder.path().join("world");
    // Another seed than that of the world it learnt from and was examined on.
    said(&[
        "data",
        "synth",
        "--out",
        text(&world),
        "--pairs",
        "1",
        "--conversations",
        "1",
        "--questions",
        "330",
        "--seed",
        "4711",
    ]);
    let right = |blind: &[&str]| {
        let arguments = [
            "eval",
            "picture-world",
            "--data",
            text(&world),
            "--format",
            "json",
        ];
        let report: Value = serde_json::from_str(&said(&[&arguments[..], blind].concat())).unwrap();
        report["overall"]["accuracy"].as_f64().unwrap()
    };
    let (seeing, blind) = (right(&[]), right(&["--blind"]));
    // A wide margin on 330 questions: what this guards against is a model that lost its eyes.
    assert!(
        seeing > 0.8 && blind < 0.45,
        "seeing {seeing}, blind {blind}"
    );
}
