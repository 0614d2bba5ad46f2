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
fn what_it_cannot_do_is_said_once_to_whoever_names_no_model() {
    // With prompts, and with lines that are piped in.
    for more in [&["--prompt", "Hi", "--max-new-tokens", "2"][..], &[]] {
        let output = bunny(&[&["chat"], more].concat());
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{told}");
        assert_eq!(told.matches("knows its small world alone").count(), 1);
    }
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
fn in_gguf_it_says_the_same_and_is_taken_wherever_a_model_is() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let out = place("gguf");
    let written = said(&["export", "gguf", "builtin", "--out", text(&out)]);
    let names: Vec<_> = written
        .lines()
        .map(|file| Path::new(file).file_name().unwrap().to_str().unwrap())
        .collect();
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    assert!(card.contains("| licence | mit OR apache-2.0 |"), "{card}");
    let (model, projector) = ("bunny-builtin-f16.gguf", "mmproj-bunny-builtin-f16.gguf");
    assert_eq!(names, [model, projector, "Modelfile", "README.md"]);
    let questions = ["What is in the picture?", "And what is written there?"];
    let expected = asked(&[], &questions);
    let file = out.join(model);
    for named in [&out, &file] {
        assert_eq!(asked(&["--model", text(named)], &questions), expected);
    }
    let inspected = |model: &str| {
        let report = said(&["model", "inspect", model, "--format", "json"]);
        let mut report: Value = serde_json::from_str(&report).unwrap();
        report.as_object_mut().unwrap().remove("model");
        report
    };
    assert_eq!(inspected(text(&file)), inspected("builtin"));

    let merged = place("merged");
    said(&["merge", "--model", text(&file), "--out", text(&merged)]);
    assert_eq!(asked(&["--model", text(&merged)], &questions), expected);
    let quantised = place("int8");
    said(&[
        "model",
        "quantize",
        text(&file),
        "--weights",
        "int8",
        "--calibration",
        "none",
        "--out",
        text(&quantised),
    ]);
    assert!(quantised.join("model.safetensors").exists());
    let small = place("small");
    let more = [
        "export",
        "gguf",
        text(&file),
        "--weights",
        "q8_0",
        "--mmproj",
        "mlp",
    ];
    said(&[&more[..], &["--name", "again", "--out", text(&small)]].concat());
    assert!(small.join("again-q8_0.gguf").exists());

    // Where it lies nothing is written, whatever is said.
    let over = bunny(&[
        "export",
        "gguf",
        text(&file),
        "--force",
        "--out",
        text(&out),
    ]);
    assert_eq!(over.status.code(), Some(1));
    let refused = String::from_utf8_lossy(&over.stderr).into_owned();
    assert!(refused.contains("it is read"), "{refused}");
    let refused = bunny(&["export", "gguf", "builtin", "--out", text(&out)]);
    assert_eq!(refused.status.code(), Some(1));
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
