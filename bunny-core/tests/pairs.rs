//! Pairs of towers against transformers' CLIPModel and SiglipModel, and captions against the tokenizers
//! of open_clip and transformers; `tests/reference/pairs.py` made the fixtures.
#![cfg(feature = "flex")]

use std::fs;
use std::path::{Path, PathBuf};

use bunny_core::checkpoint::{OpenPair, Precision};
use bunny_core::input::image::{DecodeOptions, Pixels, decode_file};
use bunny_core::input::tokenizer::{CaptionTokenizer, Tokenizer};
use bunny_core::model::pair::{Pair, describe_pair};
use bunny_core::nn::count;
use burn::tensor::{Tensor, backend::Backend};
use burn_flex::Flex;
use safetensors::SafeTensors;
use serde_json::{Value, json};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

fn folder(pair: &str) -> PathBuf {
    fixtures().join("pairs").join(pair)
}

/// The captions of a pair and the ids expected of them.
fn captions(pair: &str) -> Vec<(String, Vec<i32>)> {
    let json = fs::read(folder(pair).join("captions.json")).unwrap();
    let json: Vec<Value> = serde_json::from_slice(&json).unwrap();
    let ids = |caption: &Value| serde_json::from_value(caption["ids"].clone()).unwrap();
    json.iter()
        .map(|caption| {
            (
                caption["caption"].as_str().unwrap().to_owned(),
                ids(caption),
            )
        })
        .collect()
}

fn pictures(open: &OpenPair) -> Vec<Pixels> {
    let files = ["models/wide.png", "pairs/noise.png"].map(|name| fixtures().join(name));
    let decode = |file| decode_file(file, DecodeOptions::default()).unwrap();
    files
        .map(|file| open.image_processor.process(&decode(file)))
        .into()
}

fn expected(pair: &str, name: &str) -> Vec<f32> {
    let bytes = fs::read(folder(pair).join("expected.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let data = tensors.tensor(name).unwrap();
    let numbers = data.data().chunks_exact(4);
    numbers
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}

/// Sums of some dozens of products, each rounded to 2^-24 of numbers of up to 3, a dozen times in a row:
/// 1e-5 is what order of summation may make of them, a wrong nonlinearity or place a hundred times more.
fn require_near(found: Tensor<Flex, 2>, expected: &[f32], what: &str) {
    let found: Vec<f32> = found.into_data().to_vec().unwrap();
    assert_eq!(found.len(), expected.len(), "{what}");
    let difference = found
        .iter()
        .zip(expected)
        .fold(0.0, |most: f32, (a, b)| most.max((a - b).abs()));
    assert!(difference < 1e-4, "{what}: {difference}");
}

fn load<B: Backend>(open: &OpenPair) -> Pair<B> {
    Pair::load(
        &open.config,
        &open.weights,
        Precision::F32,
        &Default::default(),
    )
    .unwrap()
}

#[test]
fn vectors_are_those_of_transformers() {
    for name in ["clip", "siglip"] {
        let open = OpenPair::open(folder(name)).unwrap();
        let pair: Pair<Flex> = load(&open);
        let pictures = pictures(&open);
        let pixels: Vec<f32> = pictures.iter().flat_map(|p| p.data.clone()).collect();
        assert!(pixels == expected(name, "pixels"), "{name}: pixels");
        let pictures: Vec<&Pixels> = pictures.iter().collect();
        let found = pair.pictures(&pictures);
        require_near(found, &expected(name, "pictures"), name);
        let ids: Vec<Vec<i32>> = captions(name).into_iter().map(|(_, ids)| ids).collect();
        let found = pair.captions(&ids).unwrap();
        require_near(found, &expected(name, "captions"), name);
        // However captions lie together: short ones alone are not padded to long ones.
        let dims = open.config.projection_dim;
        for (ids, expected) in ids.iter().zip(expected(name, "captions").chunks(dims)) {
            let found = pair.captions(std::slice::from_ref(ids)).unwrap();
            require_near(found, expected, name);
        }
        assert!(pair.captions(&[vec![70_000]]).is_err());
    }
}

/// LAION's models have the names and sizes of OpenAI's, and the plain GELU.
#[test]
fn laions_nonlinearity_is_the_one_that_the_configuration_says() {
    let laion = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder("clip")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, laion.path().join(path.file_name().unwrap())).unwrap();
    }
    let config = laion.path().join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("quick_gelu", "gelu")).unwrap();
    let open = OpenPair::open(laion.path()).unwrap();
    let pair: Pair<Flex> = load(&open);
    let pictures = pictures(&open);
    let found = pair.pictures(&pictures.iter().collect::<Vec<_>>());
    require_near(found, &expected("clip", "gelu.pictures"), "pictures");
    let ids: Vec<Vec<i32>> = captions("clip").into_iter().map(|(_, ids)| ids).collect();
    let found = pair.captions(&ids).unwrap();
    require_near(found, &expected("clip", "gelu.captions"), "captions");
}

#[test]
fn ids_of_dirty_captions_are_open_clips_and_transformers() {
    for name in ["clip", "siglip"] {
        let open = OpenPair::open(folder(name)).unwrap();
        for (caption, ids) in captions(name) {
            assert_eq!(
                open.tokenizer.ids(&caption).unwrap(),
                ids,
                "{name}: {caption:?}"
            );
        }
    }
}

#[test]
fn older_files_of_clips_vocabulary_give_the_same_ids() {
    let older = tempfile::tempdir().unwrap();
    for file in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
        fs::copy(folder("clip").join(file), older.path().join(file)).unwrap();
    }
    let tokenizer = CaptionTokenizer::clip(older.path(), 77).unwrap();
    for (caption, ids) in captions("clip") {
        assert_eq!(tokenizer.ids(&caption).unwrap(), ids, "{caption:?}");
    }
}

#[test]
fn a_pair_that_was_trained_here_reads_captions_as_in_training() {
    let model = fixtures().join("models/phi-siglip");
    let captions = CaptionTokenizer::siglip(&model, 8).unwrap();
    let tokenizer = Tokenizer::from_folder(&model).unwrap();
    for caption in [
        "a red house",
        "Two dogs sit on the grass under a very blue sky.",
    ] {
        let ids = captions.ids(caption).unwrap();
        assert_eq!(ids, tokenizer.padded(caption, 8).unwrap());
        assert_eq!(ids.len(), 8);
        assert_eq!(
            ids.last().copied(),
            tokenizer.special_tokens().eos.map(|id| id as i32)
        );
    }
    // Whose captions are prepared in a way that is not known is refused.
    let other = tempfile::tempdir().unwrap();
    fs::copy(
        model.join("tokenizer.json"),
        other.path().join("tokenizer.json"),
    )
    .unwrap();
    let config = json!({"tokenizer_class": "GemmaTokenizer"}).to_string();
    fs::write(other.path().join("tokenizer_config.json"), config).unwrap();
    for error in [
        CaptionTokenizer::siglip(other.path(), 8).unwrap_err(),
        CaptionTokenizer::clip(other.path(), 8).unwrap_err(),
    ] {
        assert!(error.to_string().contains("`GemmaTokenizer`"), "{error}");
    }
}

#[test]
fn every_parameter_of_a_pair_is_described() {
    for (name, scales) in [("clip", 1), ("siglip", 0)] {
        let open = OpenPair::open(folder(name)).unwrap();
        let bytes = fs::read(folder(name).join("model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let numbers: usize = tensors
            .iter()
            .map(|(_, tensor)| tensor.data().len() / 4)
            .sum();
        assert_eq!(count(&describe_pair(&open.config)) + scales, numbers as u64);
    }
}

#[test]
fn a_folder_of_another_model_or_size_is_refused() {
    let error = OpenPair::open(fixtures().join("models/phi-siglip")).unwrap_err();
    assert!(error.to_string().contains("`model_type`"), "{error}");
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder("siglip")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let config = copy.path().join("preprocessor_config.json");
    let text = fs::read_to_string(&config).unwrap().replace(": 32", ": 64");
    fs::write(&config, text).unwrap();
    // As transformers 5 calls it, too.
    fs::rename(config, copy.path().join("processor_config.json")).unwrap();
    let error = OpenPair::open(copy.path()).unwrap_err().to_string();
    assert!(
        error.contains("image_size") && error.contains("64"),
        "{error}"
    );
}
