//! Models in integers as a user makes, measures and asks them.

use std::path::Path;

use super::{bunny, complaint, fixture, json_lines, succeeds, text, train};

fn quantize<'a>(model: &'a str, out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let out = text(out);
    let mut arguments = vec![
        "model",
        "quantize",
        model,
        "--weights",
        "int4",
        "--out",
        out,
    ];
    arguments.extend(more);
    arguments
}

#[test]
fn a_model_is_quantised_opened_merged_and_measured() {
    let root = tempfile::tempdir().unwrap();
    let [packed, plain, merged] = ["packed", "plain", "merged"].map(|name| root.path().join(name));
    let report = bunny(&quantize("builtin", &packed, &["--format", "json"]));
    let report = &json_lines(&report)[0];
    assert_eq!(report["calibrated"], true);
    let layers = report["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 5 * 6 + 1);
    for layer in layers {
        let (own, of_outputs) = (&layer["error_of_weights"], &layer["error_of_outputs"]);
        assert!(
            own.as_f64().unwrap() < 0.12 && of_outputs.as_f64().unwrap() < 0.12,
            "{layer}"
        );
    }
    let mean = |report: &serde_json::Value| {
        let layers = report["layers"].as_array().unwrap().iter();
        let errors = layers.filter(|layer| layer["weights"] == "int4:32");
        errors
            .map(|layer| layer["error_of_outputs"].as_f64().unwrap())
            .sum::<f64>()
    };
    // What is weighted by what is to come loses less of that than of all alike.
    let weights = layers.iter().filter(|layer| layer["weights"] == "int4:32");
    let alike: f64 = weights
        .map(|layer| layer["error_of_weights"].as_f64().unwrap())
        .sum();
    assert!(mean(report) < alike, "{} and {alike}", mean(report));

    // It is written over by nobody who does not say so twice.
    let again = bunny(&quantize("builtin", &packed, &[]));
    assert!(complaint(&again).contains("--force"));
    let into_itself = bunny(&quantize(text(&packed), &packed, &["--force"]));
    assert!(complaint(&into_itself).contains("it is read"));

    // `merge` makes floats of it, or integers again.
    let (model, out) = (text(&packed), text(&plain));
    succeeds(&bunny(&["merge", "--model", model, "--out", out]));
    let out = text(&merged);
    succeeds(&bunny(&[
        "merge",
        "--model",
        model,
        "--weights",
        "int8",
        "--out",
        out,
    ]));
    let size = |folder: &Path| {
        std::fs::metadata(folder.join("model.safetensors"))
            .unwrap()
            .len()
    };
    assert!(size(&packed) < size(&merged) && size(&merged) < size(&plain));

    let quantized = ["--quantized", text(&packed), "--quantized", text(&plain)];
    let mut arguments = vec![
        "eval",
        "fidelity",
        "builtin",
        "--weights",
        "int8",
        "--weights",
        "int4",
        "--kv-cache-dtype",
        "int8",
    ];
    arguments.extend(quantized);
    arguments.extend(["--activations", "f32", "--format", "json"]);
    let report = &json_lines(&bunny(&arguments))[0];
    let formats = report["formats"].as_array().unwrap();
    let kl = |at: usize| formats[at]["mean_kl"].as_f64().unwrap();
    let [bf16, int8, int4, cache, searched, opened] = [0, 1, 2, 3, 4, 5].map(kl);
    assert!(bf16 < int8 && int8 < int4 && searched < int4, "{report}");
    // Its steps are finer than those of four bits, and steps there are.
    assert!(0.0 < cache && cache < int4, "{report}");
    // The same numbers, whose tables are in 16 bits.
    assert!((opened / searched - 1.0).abs() < 0.05, "{report}");
    assert_eq!(formats[1]["answers"], 18);
}

#[test]
fn a_model_in_integers_answers_on_any_backend_and_with_drafts() {
    let model = fixture("phi-siglip-int4");
    let expected = super::expected("phi-siglip-int4");
    let mut turns = expected["turns"].as_array().unwrap().iter();
    let turn = turns.find(|turn| turn["name"] == "text.0").unwrap();
    for more in [
        &[][..],
        &["--draft", "prompt"],
        &["--vision-weights", "int8"],
    ] {
        let mut arguments = vec![
            "chat",
            "--model",
            text(&model),
            "--prompt",
            "Why is the sky blue?",
            "--dtype",
            "f32",
            "--activations",
            "f32",
            "--max-new-tokens",
            "16",
            "--format",
            "json",
        ];
        arguments.extend(more);
        let answer = &json_lines(&bunny(&arguments))[0];
        assert_eq!(answer["generated_ids"], turn["generated_ids"], "{more:?}");
    }
}

#[test]
fn towers_in_integers_are_told_how_to_learn() {
    let out = tempfile::tempdir().unwrap();
    let said = complaint(&train(out.path(), &["--vision-weights", "int8"]));
    assert!(said.contains("freeze_mm_mlp_adapter = true"), "{said}");
    assert!(!said.contains("lora_enable"), "{said}");
}
