//! LLaVAs that transformers 4 and 5 have saved, and models written as LLaVAs;
//! `tests/reference/llava.py` made the fixtures with both.
#![cfg(feature = "flex")]
#![recursion_limit = "256"]

mod nearness;

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use bunny_core::{
    Error,
    checkpoint::{ModelSource, Precision},
    generate::{GenerationOptions, Pipeline},
    input::{
        image::{DecodeOptions, decode_file},
        tokenizer::Token,
    },
};
use bunny_weights::StoredDtype;
use burn::tensor::Tensor;
use burn_flex::Flex;
use safetensors::SafeTensors;
use serde_json::Value;

/// Largest difference in f32, relative to the largest number: sums in another order differ by about
/// 1e-6, and layers add up. The same bound holds every family against the same library (`parity.rs`).
const F32: f32 = 1e-4;

const SAVED: [&str; 4] = [
    "phi-siglip-4",
    "phi-siglip-5",
    "llama-clip-4",
    "llama-clip-5",
];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

fn load(source: &ModelSource) -> Pipeline<Flex> {
    Pipeline::load(source, Precision::F32, Default::default()).unwrap()
}

fn read(file: PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn picture(name: &str) -> image::RgbImage {
    let file = fixtures().join("models").join(name);
    decode_file(file, DecodeOptions::default()).unwrap()
}

fn numbers(tensors: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let view = tensors.tensor(name).unwrap();
    let (numbers, _) = view.data().as_chunks::<4>();
    numbers.iter().map(|&one| f32::from_le_bytes(one)).collect()
}

fn assert_near(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let off = nearness::off(found, expected);
    assert!(off < F32, "{what} is off by {off}");
}

fn values<const D: usize>(tensor: Tensor<Flex, D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// The features of a picture, and the logits of a prompt about it.
fn look(pipeline: &Pipeline<Flex>, name: &str, ids: &Value) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let pixels = pipeline.image_processor.process(&picture(name));
    let features = pipeline.model.encode_pictures(&[&pixels], &pipeline.device);
    let mut pictures = 0;
    let ids = ids.as_array().unwrap().iter();
    let tokens: Vec<Token> = ids
        .map(|id| match id.as_i64().unwrap() {
            -200 => {
                pictures += 1;
                Token::Picture(pictures - 1)
            }
            id => Token::Text(id as u32),
        })
        .collect();
    let embeds = pipeline
        .model
        .embed(&tokens, vec![features.clone()])
        .unwrap();
    let hidden = pipeline.model.forward(embeds).squeeze_dim::<2>(0);
    let logits = pipeline.model.language_model.logits(hidden);
    (pixels.data, values(features), values(logits))
}

#[test]
fn what_transformers_has_saved_answers_as_it_does_there() {
    for name in SAVED {
        let folder = fixtures().join("llava").join(name);
        let expected = read(folder.join("expected.json"));
        let tensors = std::fs::read(folder.join("expected.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&tensors).unwrap();
        let source = ModelSource::merged(&folder);
        let config = source.configuration().unwrap();
        let pipeline = load(&source);
        assert_eq!(pipeline.model.config().vision, config.vision, "{name}");

        let turns = expected["turns"].as_array().unwrap();
        let first = &turns[0];
        let file = first["picture"].as_str().unwrap();
        let (pixels, features, logits) = look(&pipeline, file, &first["input_ids"]);
        assert_near(
            &format!("{name}: pixels"),
            &pixels,
            &numbers(&tensors, "pixels"),
        );
        assert_near(
            &format!("{name}: features"),
            &features,
            &numbers(&tensors, "features"),
        );
        assert_near(
            &format!("{name}: logits"),
            &logits,
            &numbers(&tensors, "logits"),
        );

        let options = GenerationOptions {
            max_new_tokens: expected["max_new_tokens"].as_u64().unwrap() as usize,
            ..Default::default()
        };
        for turn in turns {
            let mut chat = pipeline.chat();
            let shown = [picture(turn["picture"].as_str().unwrap())];
            let question = turn["question"].as_str().unwrap();
            let answer = chat
                .ask(question, &shown, &options, |_| ControlFlow::Continue(()))
                .unwrap();
            assert_eq!(answer.prompt, turn["prompt"].as_str().unwrap(), "{name}");
            let ids: Vec<i64> = answer
                .prompt_tokens
                .iter()
                .map(|one| one.input_id())
                .collect();
            assert_eq!(Value::from(ids), turn["input_ids"], "{name}");
            assert_eq!(Value::from(answer.ids), turn["generated_ids"], "{name}");
            assert_eq!(
                answer.text,
                turn["generated_text"].as_str().unwrap(),
                "{name}"
            );
        }
    }
}

/// Every family and tower that the format holds, from every form of checkpoint.
const HELD: [(&str, [&str; 3]); 7] = [
    ("phi-siglip", ["", "", ""]),
    ("phi-siglip-bf16", ["", "", ""]),
    ("llama-siglip", ["", "", ""]),
    ("qwen2-clip", ["", "", ""]),
    ("minicpm-siglip", ["", "", ""]),
    (
        "stablelm-siglip-lora",
        ["bunny-lora", "base", "siglip-tower"],
    ),
    ("phi3-siglip-lora", ["bunny-lora", "base", "siglip-tower"]),
];

fn source(name: &str, [model, base, tower]: [&str; 3]) -> ModelSource {
    let folder = fixtures().join("models").join(name);
    let part = |part: &str| (!part.is_empty()).then(|| folder.join(part));
    ModelSource {
        model: folder.join(model),
        base: part(base),
        vision_tower: part(tower),
    }
}

#[test]
fn a_model_written_as_a_llava_is_the_same_model() {
    for (name, parts) in HELD {
        let source = source(name, parts);
        let out = tempfile::tempdir().unwrap();
        let open = source.open().unwrap();
        let written = open.write_llava(out.path(), StoredDtype::F32).unwrap();
        for file in [
            "config.json",
            "tokenizer.json",
            "chat_template.jinja",
            "model.safetensors",
        ] {
            assert!(written.contains(&out.path().join(file)), "{name}: {file}");
        }
        // What their tokenizers put before every text.
        let beginning = match name {
            "llama-siglip" => "<|begin_of_text|>",
            "minicpm-siglip" => "<s>",
            _ => "",
        };
        let template = std::fs::read_to_string(out.path().join("chat_template.jinja")).unwrap();
        let says = format!("{{%- set BEGINNING = {beginning:?} -%}}");
        assert!(template.starts_with(&says), "{name}: {template}");
        let config = read(out.path().join("config.json"));
        let (before, after) = (load(&source), load(&ModelSource::merged(out.path())));
        let rows = before.tokenizer.vocab_size();
        assert_eq!(after.tokenizer.vocab_size(), rows + 1, "{name}");
        assert_eq!(config["image_token_index"], rows, "{name}");
        assert_eq!(after.image_processor, before.image_processor, "{name}");

        let ids = &read(fixtures().join("models").join(name).join("expected.json"))["turns"][0];
        let (_, _, expected) = look(&before, "wide.png", &ids["input_ids"]);
        let (_, _, found) = look(&after, "wide.png", &ids["input_ids"]);
        let own = found.chunks(rows + 1);
        let found: Vec<f32> = own.clone().flat_map(|row| &row[..rows]).copied().collect();
        assert_near(name, &found, &expected);
        // The score of the token that nobody says is the mean of all others.
        for row in own {
            let mean = row[..rows].iter().sum::<f32>() / rows as f32;
            assert!(
                (row[rows] - mean).abs() < 1e-3 * row[rows].abs().max(1.0),
                "{name}"
            );
        }
        // Written once more, it has grown no further.
        let again = tempfile::tempdir().unwrap();
        let open = ModelSource::merged(out.path()).open().unwrap();
        open.write_llava(again.path(), StoredDtype::F32).unwrap();
        let [one, two] = [&out, &again].map(|folder| read(folder.path().join("config.json")));
        assert_eq!(
            one["text_config"]["vocab_size"], two["text_config"]["vocab_size"],
            "{name}"
        );
        // A Bunny's own layout takes it, too.
        let merged = tempfile::tempdir().unwrap();
        open.write_merged(merged.path(), StoredDtype::F32).unwrap();
        let (_, _, merged) = look(
            &load(&ModelSource::merged(merged.path())),
            "wide.png",
            &ids["input_ids"],
        );
        let merged: Vec<f32> = merged
            .chunks(rows + 1)
            .flat_map(|row| &row[..rows])
            .copied()
            .collect();
        assert_near(name, &merged, &expected);
    }
}

#[test]
fn what_a_llava_cannot_hold_is_refused_before_anything_is_written() {
    for (name, what) in [
        ("stablelm-eva", "EVA-CLIP"),
        ("phi3-siglip-s2", "several sizes"),
        ("phi2-siglip-trimmed", "`linear`"),
        ("stablelm-siglip", "`mlp3x_gelu`"),
    ] {
        let out = tempfile::tempdir().unwrap();
        let open = source(name, [""; 3]).open().unwrap();
        let error = open.write_llava(out.path(), StoredDtype::F32).unwrap_err();
        assert!(
            matches!(error, Error::Unexportable { .. }),
            "{name}: {error}"
        );
        assert!(error.to_string().contains(what), "{name}: {error}");
        assert!(
            std::fs::read_dir(out.path()).unwrap().next().is_none(),
            "{name}"
        );
    }
}

/// A tower whose last layer is not there is said to have one layer less.
#[test]
fn a_trimmed_tower_is_written_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let source = source("phi-siglip", [""; 3]);
    let first = folder.path().join("first");
    source
        .open()
        .unwrap()
        .write_llava(&first, StoredDtype::F32)
        .unwrap();
    let config = read(first.join("config.json"));
    assert_eq!(config["vision_feature_layer"], -2);
    assert_eq!(config["vision_config"]["num_hidden_layers"], 3);
    // As the published models have it.
    let text = std::fs::read(first.join("model.safetensors")).unwrap();
    let whole = SafeTensors::deserialize(&text).unwrap();
    let kept: Vec<_> = whole
        .tensors()
        .into_iter()
        .filter(|(name, _)| !name.starts_with("vision_tower.vision_model.encoder.layers.2."))
        .collect();
    let bytes = safetensors::serialize(kept, None).unwrap();
    std::fs::write(first.join("model.safetensors"), bytes).unwrap();
    let second = folder.path().join("second");
    let open = ModelSource::merged(&first).open().unwrap();
    open.write_llava(&second, StoredDtype::F32).unwrap();
    let config = read(second.join("config.json"));
    assert_eq!(config["vision_feature_layer"], -1);
    assert_eq!(config["vision_config"]["num_hidden_layers"], 2);
    load(&ModelSource::merged(&second));
}
