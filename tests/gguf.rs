//! Models written in GGUF and read again are the same models: of every family, and in every type.
#![recursion_limit = "256"]

mod gguf_models;

use std::{fs, path::Path};

use bunny_core::{
    Bunny, Error,
    checkpoint::{GgufProjector, GgufWeights, MeanSquares, ModelSource, OpenModel, Precision},
    config::DecoderConfig,
    generate::Pipeline,
    nn::{Activations, WeightFormat},
};
use bunny_weights::{
    CheckpointError, ModelFolder, StoredDtype, TensorFiles,
    folder::TOKENIZER_FILES,
    gguf::{GgufFile, TensorType},
    writer::{MAX_SHARD_SIZE, PlannedTensor, write_folder},
};
use burn_flex::Flex;
use gguf_models::{export, file_named, fixture, merged, numbers, write};
use serde_json::Value as Json;
use tempfile::{TempDir, tempdir};

fn json(file: impl AsRef<Path>) -> Json {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// A case whose adapter belongs to a base.
fn adapted(name: &str) -> ModelSource {
    ModelSource {
        model: fixture(name).join("bunny-lora"),
        base: Some(fixture(name).join("base")),
        vision_tower: Some(fixture(name).join("siglip-tower")),
    }
}

/// Without what only training asks for.
fn at_rest(config: &DecoderConfig) -> DecoderConfig {
    DecoderConfig {
        residual_dropout: 0.0,
        embedding_dropout: 0.0,
        attention_dropout: 0.0,
        ..config.clone()
    }
}

/// Qwen2 of one case, with tower and projector of another.
fn qwen2() -> TempDir {
    let (language, tower) = (fixture("qwen2-clip"), fixture("minicpm-siglip"));
    let folder = tempdir().unwrap();
    let [own, others] = [&language, &tower].map(|folder| TensorFiles::open_folder(folder).unwrap());
    let is_pictures = |name: &str| {
        name.starts_with("model.vision_tower") || name.starts_with("model.mm_projector")
    };
    let own = own
        .names()
        .filter(|name| !is_pictures(name))
        .map(|name| own.get(name).unwrap());
    let others = others.names().filter(|name| is_pictures(name));
    let others: Vec<_> = {
        let files = TensorFiles::open_folder(&tower).unwrap();
        others.map(|name| files.get(name).unwrap()).collect()
    };
    let tensors: Vec<_> = own.chain(others).collect();
    let plan: Vec<_> = tensors
        .iter()
        .map(|tensor| PlannedTensor {
            name: tensor.name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
        })
        .collect();
    write_folder(folder.path(), &plan, MAX_SHARD_SIZE, |planned| {
        let tensor = tensors.iter().find(|tensor| tensor.name == planned.name);
        Ok::<_, CheckpointError>(tensor.unwrap().bytes.clone())
    })
    .unwrap();
    let mut config = json(language.join("config.json"));
    let from = json(tower.join("config.json"));
    for field in ["mm_vision_tower", "mm_hidden_size"] {
        config[field] = from[field].clone();
    }
    let tower_name = from["mm_vision_tower"].as_str().unwrap();
    ModelFolder::new()
        .with_files_of(&language, TOKENIZER_FILES)
        .with_json("config.json", config)
        .with_json(
            Path::new(tower_name).join("config.json"),
            json(tower.join(tower_name).join("config.json")),
        )
        .write_files(folder.path())
        .unwrap();
    folder
}

/// One of each family, as the merged model in f16 that is written in GGUF.
fn every_family() -> Vec<(&'static str, TempDir)> {
    let qwen2 = qwen2();
    let sources = [
        ("phi-siglip", ModelSource::merged(fixture("phi-siglip"))),
        ("stablelm-siglip-lora", adapted("stablelm-siglip-lora")),
        ("qwen2", ModelSource::merged(qwen2.path())),
        (
            "minicpm-siglip",
            ModelSource::merged(fixture("minicpm-siglip")),
        ),
        ("phi3-siglip-lora", adapted("phi3-siglip-lora")),
        ("llama-siglip", ModelSource::merged(fixture("llama-siglip"))),
    ];
    let merge = |source: ModelSource| {
        let folder = tempdir().unwrap();
        let open = source.open().unwrap();
        open.write_merged(folder.path(), StoredDtype::F16).unwrap();
        folder
    };
    sources.map(|(name, source)| (name, merge(source))).into()
}

#[test]
fn every_family_comes_back_as_it_was() {
    for (name, folder) in every_family() {
        let open = merged(&folder);
        let expected = numbers(&open);
        for projector in [GgufProjector::JanusPro, GgufProjector::Mlp] {
            let written = write(&open, GgufWeights::F16, projector);
            let back = merged(&written);
            // To the bit: halves are halves, and what is f32 in the file was a half.
            for (tensor, (shape, found)) in numbers(&back) {
                let (expected_shape, expected) = &expected[&tensor];
                assert_eq!(&shape, expected_shape, "{name}: {tensor}");
                assert!(&found == expected, "{name}: {tensor}");
            }
            let parameters = |open: &OpenModel| open.config.parameters();
            assert_eq!(parameters(&back), parameters(&open), "{name}");
            let [one, other] = [&open, &back].map(|open| at_rest(&open.config.decoder));
            assert_eq!(other, one, "{name}");
            assert_eq!(back.config.vision, open.config.vision, "{name}");
            assert_eq!(back.config.projector, open.config.projector, "{name}");
            assert_eq!(back.image_processor, open.image_processor, "{name}");
        }
    }
}

/// A model's features of a picture, and its scores of all tokens behind them.
fn said(open: OpenModel, precision: Precision) -> [Vec<f32>; 2] {
    let pipeline = Pipeline::<Flex>::from_open(open, precision, Default::default()).unwrap();
    let picture = image::open(fixture("wide.png")).unwrap().to_rgb8();
    let pixels = pipeline.image_processor.process(&picture);
    let features = pipeline.model.encode_pictures(&[&pixels], &pipeline.device);
    let hidden = pipeline.model.forward(features.clone());
    let scores = pipeline.model.last_logits(hidden);
    [features.into_data(), scores.into_data()].map(|data| data.to_vec().unwrap())
}

#[test]
fn answers_are_those_of_the_model_that_was_written() {
    for (name, folder) in every_family() {
        let open = merged(&folder);
        let written = write(&open, GgufWeights::F16, GgufProjector::JanusPro);
        let expected = said(open, Precision::F32);
        assert!(said(merged(&written), Precision::F32) == expected, "{name}");
    }
}

#[test]
fn weights_of_more_bits_are_rounded_to_halves_once() {
    let open = merged(fixture("phi-siglip"));
    let expected = numbers(&open);
    let written = write(&open, GgufWeights::F16, GgufProjector::JanusPro);
    for (name, (_, found)) in numbers(&merged(&written)) {
        for (found, expected) in found.iter().zip(&expected[&name].1) {
            // Half of the last of eleven digits, or of the least half.
            let most = expected.abs() * 2f32.powi(-11) + 2f32.powi(-25);
            assert!(
                (found - expected).abs() <= most,
                "{name}: {found} {expected}"
            );
        }
    }
}

#[test]
fn words_become_the_same_tokens() {
    for (name, folder) in every_family() {
        let written = write(&merged(&folder), GgufWeights::F16, GgufProjector::JanusPro);
        let (open, back) = (merged(&folder), merged(&written));
        let of_qwen2 = if name == "qwen2" { "qwen2-clip" } else { name };
        let turns = json(fixture(of_qwen2).join("expected.json"));
        for turn in turns["turns"].as_array().unwrap() {
            let prompt = turn["prompt"].as_str().unwrap();
            let ids = |open: &OpenModel| open.tokenizer.encode_prompt(prompt).unwrap();
            assert_eq!(ids(&back), ids(&open), "{name}: {prompt}");
        }
        assert_eq!(back.tokenizer.vocab_size(), open.tokenizer.vocab_size());
        let end = open.config.family.template().end_of_text().unwrap();
        let end = open.tokenizer.token_to_id(end);
        assert_eq!(back.tokenizer.special_tokens().eos, end, "{name}");
        assert_eq!(
            back.tokenizer.adds_bos().unwrap(),
            open.tokenizer.adds_bos().unwrap()
        );
    }
}

/// A model wide enough for blocks of 256, of random weights, with the tokenizer of a fixture.
fn wide() -> TempDir {
    let folder = tempdir().unwrap();
    let open = merged(fixture("phi-siglip"));
    let mut config = open.config.clone();
    config.decoder = DecoderConfig {
        hidden_size: 256,
        intermediate_size: 512,
        num_hidden_layers: 9,
        num_attention_heads: 4,
        num_key_value_heads: 4,
        head_dim: 64,
        rotary_dim: 32,
        ..config.decoder
    };
    config.projector.output = 256;
    let device = Default::default();
    let model = Bunny::<Flex>::random(&config, 7, Precision::F32, &device);
    let beside = ModelFolder::new().with_files_of(fixture("phi-siglip"), TOKENIZER_FILES);
    model
        .save(
            folder.path(),
            StoredDtype::F16,
            MAX_SHARD_SIZE,
            &beside,
            &open.image_processor,
        )
        .unwrap();
    folder
}

fn text_file(folder: &Path) -> GgufFile {
    GgufFile::open(file_named(folder, "small")).unwrap()
}

#[test]
fn integers_are_those_that_llama_quantize_would_choose() {
    let folder = wide();
    let open = merged(&folder);
    let expected = numbers(&open);
    for (weights, head, layer, dear) in [
        (
            GgufWeights::Q8_0,
            TensorType::Q8_0,
            TensorType::Q8_0,
            TensorType::Q8_0,
        ),
        (
            GgufWeights::Q4_0,
            TensorType::Q6K,
            TensorType::Q4_0,
            TensorType::Q4_0,
        ),
        (
            GgufWeights::Q4KM,
            TensorType::Q6K,
            TensorType::Q4K,
            TensorType::Q6K,
        ),
    ] {
        let written = write(&open, weights, GgufProjector::JanusPro);
        let file = text_file(written.path());
        let kind = |name: &str| file.get(name).unwrap().kind;
        assert_eq!(kind("output.weight"), head);
        assert_eq!(kind("output_norm.bias"), TensorType::F32);
        for number in 0..9 {
            // 9 / 8 = 1 at each end, and every third between: 0, 3, 6, and 7, 8.
            let is_dear = [0, 3, 6, 7, 8].contains(&number);
            let expected = if is_dear { dear } else { layer };
            let name = |part: &str| format!("blk.{number}.{part}.weight");
            assert_eq!(kind(&name("attn_v")), expected, "{weights:?} {number}");
            assert_eq!(kind(&name("ffn_down")), expected, "{weights:?} {number}");
            assert_eq!(kind(&name("ffn_up")), layer, "{weights:?} {number}");
        }
        let said = |key: &str| file.metadata()[key].integer().unwrap();
        assert_eq!(said("general.quantization_version"), 2);

        let back = merged(&written);
        for (name, (_, found)) in numbers(&back) {
            let expected = &expected[&name].1;
            let square = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
            let off: f64 = found.iter().zip(expected).map(square).sum();
            let own: f64 = expected.iter().map(|x| f64::from(*x).powi(2)).sum();
            // Of a bell, four bits lose 9 % and eight 0.6 (1/√12 of a step of their range).
            let most = if weights == GgufWeights::Q8_0 {
                0.01
            } else {
                0.12
            };
            assert!(off.sqrt() <= most * own.sqrt(), "{weights:?}: {name}");
        }
        // Where these are integers with one scale of each 32, they stay such in memory.
        let device = Default::default();
        let pipeline = Pipeline::<Flex>::from_open(back, Precision::F32, device).unwrap();
        let is_packed = matches!(
            pipeline.model.language_model_format(),
            WeightFormat::Packed(_)
        );
        assert_eq!(is_packed, weights != GgufWeights::Q4KM, "{weights:?}");
    }
}

#[test]
fn integers_in_blocks_answer_as_the_numbers_that_they_are() {
    let folder = wide();
    let exact = Precision {
        activations: Activations::F32,
        ..Precision::F32
    };
    for weights in [GgufWeights::Q8_0, GgufWeights::Q4_0] {
        let written = write(&merged(&folder), weights, GgufProjector::JanusPro);
        // The same numbers in floats.
        let floats = tempdir().unwrap();
        merged(&written)
            .write_merged(floats.path(), StoredDtype::F32)
            .unwrap();
        let [_, found] = said(merged(&written), exact);
        let [_, expected] = said(merged(&floats), exact);
        let greatest = expected
            .iter()
            .fold(0f32, |most, score| most.max(score.abs()));
        let apart = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        // Sums of up to 512 products in another order, through nine layers.
        let far = apart.fold(0f32, f32::max) / greatest;
        assert!(far < 1e-4, "{weights:?}: {far}");
    }
}

#[test]
fn integers_stay_the_numbers_they_are() {
    let (folder, quantised) = (wide(), tempdir().unwrap());
    for (packing, weights) in [
        ("int4", GgufWeights::Q4_0),
        ("int4", GgufWeights::Q4KM),
        ("int4", GgufWeights::Q8_0),
        ("int8", GgufWeights::Q8_0),
        ("int8:64", GgufWeights::Q8_0),
    ] {
        merged(&folder)
            .write_quantized(
                quantised.path(),
                packing.parse().unwrap(),
                &MeanSquares::new(),
                StoredDtype::F16,
                |_| {},
            )
            .unwrap();
        let open = merged(&quantised);
        let written = write(&open, weights, GgufProjector::JanusPro);
        let (expected, found) = (numbers(&open), numbers(&merged(&written)));
        for (name, (_, found)) in found {
            // The table of tokens was in floats.
            if !name.starts_with("model.embed_tokens") {
                assert!(found == expected[&name].1, "{packing} {weights:?}: {name}");
            }
        }
        // And back again: nothing is rounded twice.
        let again = write(&merged(&written), weights, GgufProjector::JanusPro);
        let [one, other] = [&written, &again].map(|folder| text_file(folder.path()));
        for name in one.names() {
            let [one, other] = [&one, &other].map(|file| file.get(name).unwrap());
            assert!(one.kind == other.kind && one.bytes == other.bytes, "{name}");
        }
    }
}

#[test]
fn what_llama_cpp_does_not_compute_is_refused_in_a_sentence() {
    for (name, reason) in [
        ("stablelm-eva", "EVA-CLIP"),
        ("qwen2-clip", "is a CLIP"),
        ("phi3-siglip-s2", "several sizes (S²)"),
        ("phi2-siglip-trimmed", "projector is `linear`"),
        ("stablelm-siglip", "projector is `mlp3x_gelu`"),
    ] {
        let folder = tempdir().unwrap();
        let refused = merged(fixture(name))
            .export_gguf(folder.path(), &export(GgufWeights::F16, GgufProjector::Mlp))
            .unwrap_err();
        assert!(
            matches!(refused, Error::Unexportable { .. }),
            "{name}: {refused}"
        );
        assert!(refused.to_string().contains(reason), "{name}: {refused}");
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "{name}");
    }
    let mut squashed = merged(fixture("phi-siglip"));
    squashed.config.image_aspect_ratio = bunny_core::input::image::Aspect::Square;
    let folder = tempdir().unwrap();
    let refused = squashed
        .export_gguf(folder.path(), &export(GgufWeights::F16, GgufProjector::Mlp))
        .unwrap_err();
    assert!(refused.to_string().contains("squashed"), "{refused}");
}
