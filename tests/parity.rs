//! The models against the Python reference, part by part and token by token.
//!
//! `tests/reference/models.py` made the checkpoints and what is expected of them, with torch,
//! transformers, timm and peft. Everything here goes through the production path: checkpoints are
//! opened as a user's are, and pictures are decoded from their files.
#![recursion_limit = "256"]

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use bunny_core::{
    checkpoint::{ModelSource, Precision},
    generate::{GenerationOptions, Picture, Pipeline, Prompt, batch, score},
    input::{
        image::{DecodeOptions, decode_file},
        tokenizer::Token,
    },
    nn::{Activations, KvSequence, Mask, Mode, Positions, WeightFormat},
};
use burn::tensor::{DType, Tensor, backend::Backend};
use safetensors::SafeTensors;
use serde_json::Value;

/// Largest difference allowed in f32, relative to the largest number of the tensor: sums of
/// thousands of products in another order differ by about 1e-6, and layers add up.
const F32: f32 = 1e-4;

/// The same where products may be TF32, whose factors are rounded by up to 2^-11 of themselves.
#[cfg(feature = "cuda")]
const TF32: f32 = 1e-3;

/// A case: its folder, and the parts its checkpoint is spread over.
struct Case {
    folder: PathBuf,
    source: ModelSource,
    tensors: Vec<u8>,
    expected: Value,
}

impl Case {
    fn open(name: &str) -> Self {
        let folder = fixtures().join(name);
        let inside = |part: &str| Some(folder.join(part)).filter(|path| path.exists());
        let model = ["bunny-lora", "bunny-pretrain"]
            .into_iter()
            .find_map(inside);
        let tower = ["siglip-tower", "eva-clip-tower"]
            .into_iter()
            .find_map(inside);
        let source = match model {
            Some(model) => ModelSource {
                model,
                base: inside("base"),
                vision_tower: tower,
            },
            None => ModelSource::merged(&folder),
        };
        Self {
            source,
            tensors: std::fs::read(folder.join("expected.safetensors")).unwrap(),
            expected: serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap())
                .unwrap(),
            folder,
        }
    }

    fn pipeline<B: Backend>(&self, precision: Precision) -> Pipeline<B> {
        Pipeline::load(&self.source, precision, B::Device::default()).unwrap()
    }

    fn turns(&self) -> &[Value] {
        self.expected["turns"].as_array().unwrap()
    }

    /// An expected tensor, or `None` where this case does not keep it.
    fn tensor(&self, name: &str) -> Option<Vec<f32>> {
        let tensors = SafeTensors::deserialize(&self.tensors).unwrap();
        let data = tensors.tensor(name).ok()?.data();
        let (numbers, rest) = data.as_chunks::<4>();
        assert!(rest.is_empty());
        Some(
            numbers
                .iter()
                .map(|&bytes| f32::from_le_bytes(bytes))
                .collect(),
        )
    }

    fn picture<B: Backend>(&self, pipeline: &Pipeline<B>, turn: &Value) -> Vec<Picture<B>> {
        self.image(turn)
            .iter()
            .map(|picture| Picture::new(pipeline.image_processor.process(picture)))
            .collect()
    }

    fn image(&self, turn: &Value) -> Vec<image::RgbImage> {
        let picture = turn["picture"].as_str();
        let file = picture.map(|name| self.folder.parent().unwrap().join(name));
        file.map(|file| decode_file(file, DecodeOptions::default()).unwrap())
            .into_iter()
            .collect()
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/models")
}

fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// The largest difference, relative to the largest expected number.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    // A NaN must not pass as small.
    off.fold(0f32, |worst, off| {
        if off > worst || off.is_nan() {
            off
        } else {
            worst
        }
    }) / greatest(expected)
}

/// The root of the mean square of all differences, relative to the largest expected number.
fn mean_difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let squares = found.iter().zip(expected).map(|(a, b)| (a - b) * (a - b));
    (squares.sum::<f32>() / found.len() as f32).sqrt() / greatest(expected)
}

fn greatest(numbers: &[f32]) -> f32 {
    numbers
        .iter()
        .fold(0f32, |greatest, number| greatest.max(number.abs()))
}

fn assert_near(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    let off = difference(found, expected);
    assert!(off < tolerance, "{what} is off by {off}");
}

fn tokens(turn: &Value) -> Vec<Token> {
    let mut pictures = 0;
    let ids = turn["input_ids"].as_array().unwrap();
    ids.iter()
        .map(|id| match id.as_i64().unwrap() {
            -200 => {
                pictures += 1;
                Token::Picture(pictures - 1)
            }
            id => Token::Text(id as u32),
        })
        .collect()
}

fn ids(list: &Value) -> Vec<u32> {
    let list = list.as_array().unwrap();
    list.iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn greedy(case: &Case) -> GenerationOptions {
    GenerationOptions {
        max_new_tokens: case.expected["max_new_tokens"].as_u64().unwrap() as usize,
        ..Default::default()
    }
}

/// Pixels, tower, projector, every decoder layer and the logits of a first turn with a picture;
/// gives the largest difference found.
fn parts_agree<B: Backend>(name: &str, precision: Precision, tolerance: f32) -> f32 {
    compare_parts::<B>(name, precision, |part, found, expected| {
        assert_near(&format!("{name}: {part}"), found, expected, tolerance);
    })
}

/// Gives every part, its numbers and those that are expected to `compare`.
fn compare_parts<B: Backend>(
    name: &str,
    precision: Precision,
    compare: impl Fn(&str, &[f32], &[f32]),
) -> f32 {
    let case = Case::open(name);
    let pipeline = case.pipeline::<B>(precision);
    let (model, device) = (&pipeline.model, &pipeline.device);
    let turn = &case.turns()[0];
    let mut worst = 0f32;
    let mut kept = Vec::new();
    let mut near = |what: &str, found: Vec<f32>| {
        let expected = case.tensor(what);
        kept.push((what.to_string(), expected.is_some()));
        if let Some(expected) = expected {
            compare(what, &found, &expected);
            worst = worst.max(difference(&found, &expected));
        }
    };
    let pixels = pipeline.image_processor.process(&case.image(turn)[0]);
    let expected_pixels = case.tensor("wide.pixels");
    if let Some(expected) = &expected_pixels {
        assert_eq!(&pixels.data, expected, "{name}: pixels");
    }
    let shape = [1, 3, pixels.height, pixels.width];
    let pixels = burn::tensor::TensorData::new(pixels.data, shape);
    let input = Tensor::<B, 4>::from_data(pixels, (device, precision.compute));
    let features = model.vision_tower.forward(input);
    near("wide.tower", values(features.clone()));
    let projected = model.mm_projector.forward(features, &Mode::INFERENCE);
    near("wide.projected", values(projected.clone()));

    let stack = &model.language_model.model;
    let embeds = model.embed(&tokens(turn), vec![projected]).unwrap();
    let positions = Positions::consecutive(0, embeds.dims()[1]);
    let context = stack.context(&embeds, &positions, Mask::CAUSAL, &Mode::INFERENCE);
    let mut hidden = stack.enter(embeds, &Mode::INFERENCE);
    near("wide.0.hidden.0", values(hidden.clone()));
    for (at, layer) in stack.layers.iter().enumerate() {
        hidden = layer.forward(hidden, None, &context);
        near(&format!("wide.0.hidden.{}", at + 1), values(hidden.clone()));
    }
    let normed = stack.norm.forward(hidden);
    near("wide.0.normed", values(normed.clone()));
    let logits = values(model.language_model.logits(normed.squeeze_dim::<2>(0)));
    near("wide.0.logits", logits);
    // A fixture that has lost a tensor must not pass for one that agrees.
    let keeps_all = !LOGITS_ALONE.contains(&name);
    assert_eq!(expected_pixels.is_some(), keeps_all, "{name}: pixels");
    for (part, is_kept) in kept {
        let expected = keeps_all || part == "wide.0.logits";
        assert_eq!(is_kept, expected, "{name}: {part}");
    }
    worst
}

/// The same with 16-bit weights, and on GPUs 16-bit activations; the reference is in f32.
///
/// Each number is rounded by up to 2^-11 (f16) or 2^-8 (bf16) of itself, and errors of some ten
/// roundings in a row add up at random: eight roundings are allowed, sixteen where activations are
/// rounded too, as on GPUs, and in bf16 on processors that multiply it.
///
/// Where they are rounded too, `sixteen_bits.json` also says how far the reference gets from its own
/// f32 in that type, all numbers of a part together; it may err by twice as much, since it is not
/// rounded in the same places. This alone holds where activations are kept in bf16: there the largest
/// error hangs on one token, and the reference's own moves threefold with the places of roundings.
fn sixteen_bits_err_by_their_rounding<B: Backend>(
    backend: &str,
    of: fn(WeightFormat) -> Precision,
) {
    let own = std::fs::read(fixtures().join("sixteen_bits.json")).unwrap();
    let own: Value = serde_json::from_slice(&own).unwrap();
    for (format, rounding) in [
        (WeightFormat::F16, 2f32.powi(-11)),
        (WeightFormat::Bf16, 2f32.powi(-8)),
    ] {
        let (dtype, key) = (format.dtype(), format.name());
        if !B::supports_dtype(&B::Device::default(), dtype) {
            let on_every_machine = ["flex", "cuda"].contains(&backend);
            assert!(!on_every_machine, "{backend} has {dtype:?}");
            println!("{backend} has no {dtype:?}");
            continue;
        }
        let rounded_twice = dtype == DType::BF16 || of(format).compute == dtype;
        let kept_in_bf16 = of(format).compute == DType::BF16;
        let tolerance = rounding * if rounded_twice { 16.0 } else { 8.0 };
        let errors = CASES.map(|case| {
            compare_parts::<B>(case, of(format), |part, found, expected| {
                if !kept_in_bf16 {
                    assert_near(&format!("{case}: {part}"), found, expected, tolerance);
                }
                if !rounded_twice {
                    return;
                }
                let allowed = 2.0 * own[case][key][part].as_f64().unwrap() as f32;
                let off = mean_difference(found, expected);
                assert!(
                    off <= allowed,
                    "{case}: {part} is off by {off}, {allowed} is allowed"
                );
            })
        });
        let worst = errors.into_iter().fold(0f32, f32::max);
        println!("{backend} {dtype:?}: largest error {worst:.1e}");
    }
}

/// The same with the language model in integers of eight bits, rounded as it is loaded.
///
/// A weight, and what it is multiplied with, are off by up to 2^-8 of the largest of their group, which
/// is some three times a usual one: both together by 1 % of a usual product. Ten in a row add up at
/// random to 3 %, which is 1 % of the largest number; twice that is allowed, all numbers of a part
/// together.
#[cfg(feature = "flex")]
fn integers_err_by_their_rounding<B: Backend>() {
    use bunny_core::nn::{Bits, Packing};

    let precision = Precision::F32.packed(Some(Packing::new(Bits::Eight)));
    for case in CASES {
        compare_parts::<B>(case, precision, |part, found, expected| {
            let off = mean_difference(found, expected);
            assert!(off < 0.02, "{case}: {part} is off by {off}");
        });
    }
}

/// Whole conversations: rendered prompts, their ids, greedy answers and their text.
fn conversations_agree<B: Backend>(name: &str) {
    let case = Case::open(name);
    let pipeline = case.pipeline::<B>(EXACT);
    let mut chat = pipeline.chat();
    for turn in case.turns() {
        let place = format!("{name}: {}", turn["name"]);
        let first = turn["name"]
            .as_str()
            .is_some_and(|name| name.ends_with(".0"));
        let pictures = if first {
            chat.clear();
            case.image(turn)
        } else {
            Vec::new()
        };
        let mut heard = String::new();
        let answer = chat
            .ask(question(turn), &pictures, &greedy(&case), |text| {
                heard.push_str(text);
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(answer.prompt, turn["prompt"].as_str().unwrap(), "{place}");
        assert_eq!(answer.prompt_tokens, tokens(turn), "{place}");
        assert_eq!(answer.ids, ids(&turn["generated_ids"]), "{place}");
        assert_eq!(
            answer.text,
            turn["generated_text"].as_str().unwrap(),
            "{place}"
        );
        assert_eq!(heard.trim(), answer.text, "{place}: what was streamed");
    }
}

/// What the person says in a turn.
fn question(turn: &Value) -> &str {
    let prompt = turn["prompt"].as_str().unwrap();
    let (_, last) = prompt.rsplit_once("USER: ").unwrap();
    let text = last.strip_suffix(" ASSISTANT:").unwrap();
    text.strip_prefix("<image>\n").unwrap_or(text)
}

/// A batch of prompts of unequal lengths answers as each of them alone.
fn batches_agree<B: Backend>(name: &str) {
    let case = Case::open(name);
    let pipeline = case.pipeline::<B>(EXACT);
    let turns: Vec<&Value> = case.turns().iter().collect();
    let prompts: Vec<Prompt<B>> = turns
        .iter()
        .map(|turn| Prompt {
            tokens: tokens(turn),
            pictures: case.picture(&pipeline, turn),
        })
        .collect();
    let answers = batch::generate(&pipeline, prompts, &greedy(&case)).unwrap();
    assert_eq!(answers.len(), turns.len());
    for (turn, answer) in turns.iter().zip(answers) {
        assert_eq!(
            answer.sequence.ids(),
            ids(&turn["generated_ids"]),
            "{name}: {}",
            turn["name"]
        );
    }
}

/// The scores of a given answer are the reference's logits, normalised.
fn scores_agree<B: Backend>(name: &str) {
    let case = Case::open(name);
    let logits = case.tensor("wide.0.logits").unwrap();
    let pipeline = case.pipeline::<B>(Precision::F32);
    let turn = &case.turns()[0];
    let tokens = tokens(turn);
    let places: Vec<usize> = (tokens.len() - 8..tokens.len()).collect();
    let prompt = Prompt {
        tokens: tokens.clone(),
        pictures: case.picture(&pipeline, turn),
    };
    let (model, device) = (&pipeline.model, &pipeline.device);
    let scores = score(model, prompt, &places, device).unwrap();
    assert_eq!(scores.len(), places.len());
    let vocab = pipeline.tokenizer.vocab_size();
    for token in scores {
        let position = model.positions(&tokens[..token.place]) - 1;
        let row = &logits[position * vocab..][..vocab];
        let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
        let expected = f64::from(row[token.id as usize]) - sum.ln();
        assert!(
            (f64::from(token.log_probability) - expected).abs() < 1e-3,
            "{name}: {token:?}"
        );
    }
}

/// Whatever is in the cache already, the answer is the same.
fn cache_changes_nothing<B: Backend>(name: &str, tolerance: f32) {
    let case = Case::open(name);
    let pipeline = case.pipeline::<B>(Precision::F32);
    let (model, device) = (&pipeline.model, &pipeline.device);
    let turn = &case.turns()[0];
    let tokens = tokens(turn);
    let mut pictures = case.picture(&pipeline, turn);
    let features = vec![pictures[0].embeddings(model, device)];
    let embeds = model.embed(&tokens, features).unwrap();
    let whole = model.forward(embeds.clone());
    let [_, seq, hidden] = whole.dims();
    for cut in [1, seq / 2, seq - 1] {
        let (mut cache, mut sequence) = (model.new_cache(device), KvSequence::new());
        let parts = [(0, cut), (cut, seq)].map(|(from, to)| {
            let part = embeds.clone().slice([0..1, from..to, 0..hidden]);
            model.prefill(part, &mut cache, &mut sequence)
        });
        let pieces = values(Tensor::cat(parts.to_vec(), 1));
        assert_near(
            &format!("{name}: cut at {cut}"),
            &pieces,
            &values(whole.clone()),
            tolerance,
        );
    }
}

/// Token tables split into many blocks give what whole ones give.
fn split_tables_agree<B: Backend>(name: &str, tolerance: f32) {
    let case = Case::open(name);
    let precision = Precision::F32.with_table_limit(100 * 48 * 4);
    let pipeline = case.pipeline::<B>(precision);
    let table = &pipeline.model.language_model.model.embed_tokens.weight;
    assert!(table.blocks.len() > 2, "{} blocks", table.blocks.len());
    let turn = &case.turns()[0];
    let mut pictures = case.picture(&pipeline, turn);
    let features = vec![pictures[0].embeddings(&pipeline.model, &pipeline.device)];
    let model = &pipeline.model;
    let embeds = model.embed(&tokens(turn), features).unwrap();
    let hidden = model.forward(embeds);
    let expected = case.tensor("wide.0.last_logits").unwrap();
    assert_near(
        name,
        &values(model.last_logits(hidden)),
        &expected,
        tolerance,
    );
}

/// Greedy ids by teacher forcing, on backends whose rounding may turn close decisions: given the
/// reference's answer so far, its next id is the best of ours, or less below it than two logits that
/// are off by `tolerance` can be.
#[cfg(feature = "cuda")]
fn ids_agree_within<B: Backend>(name: &str, tolerance: f32) {
    let case = Case::open(name);
    let pipeline = case.pipeline::<B>(Precision::F32);
    let (model, device) = (&pipeline.model, &pipeline.device);
    for turn in case.turns() {
        let (asked, answer) = (tokens(turn), ids(&turn["generated_ids"]));
        let mut pictures = case.picture(&pipeline, turn);
        let features = pictures
            .iter_mut()
            .map(|picture| picture.embeddings(model, device))
            .collect();
        let said = answer.iter().map(|&id| Token::Text(id));
        let all: Vec<Token> = asked.iter().copied().chain(said).collect();
        let embeds = model.embed(&all, features).unwrap();
        let hidden = model.forward(embeds);
        let logits = values(model.language_model.logits(hidden.squeeze_dim::<2>(0)));
        let rows: Vec<&[f32]> = logits.chunks(pipeline.tokenizer.vocab_size()).collect();
        let first = model.positions(&asked) - 1;
        for (at, &id) in answer.iter().enumerate() {
            let row = rows[first + at];
            let (best, largest) = row
                .iter()
                .fold((f32::MIN, 0f32), |(best, largest), &logit| {
                    (best.max(logit), largest.max(logit.abs()))
                });
            let short = best - row[id as usize];
            assert!(
                short <= 2.0 * tolerance * largest,
                "{name}: {}: id {id} at {at} is {short} below the best",
                turn["name"]
            );
        }
    }
}

macro_rules! parity {
    ($backend:ident, $type:ty, $sixteen_bits:path) => {
        mod $backend {
            type B = $type;

            #[test]
            fn every_part_agrees_with_the_reference() {
                for case in super::CASES {
                    super::parts_agree::<B>(case, super::Precision::F32, super::F32);
                }
            }

            #[test]
            fn sixteen_bits_err_by_their_rounding() {
                super::sixteen_bits_err_by_their_rounding::<B>(stringify!($backend), $sixteen_bits);
            }

            #[test]
            fn conversations_agree_token_by_token() {
                for case in super::CASES {
                    super::conversations_agree::<B>(case);
                }
            }

            #[test]
            fn models_in_integers_agree_with_the_reference() {
                for case in super::IN_INTEGERS {
                    super::parts_agree::<B>(case, super::EXACT, super::F32);
                    super::conversations_agree::<B>(case);
                    super::batches_agree::<B>(case);
                }
            }

            #[test]
            fn a_batch_answers_as_each_prompt_alone() {
                for case in super::CASES {
                    super::batches_agree::<B>(case);
                }
            }

            #[test]
            fn scores_are_the_references_log_probabilities() {
                for case in super::CASES {
                    super::scores_agree::<B>(case);
                }
            }

            #[test]
            fn a_cache_changes_nothing() {
                for case in super::CASES {
                    super::cache_changes_nothing::<B>(case, super::F32);
                }
            }

            #[test]
            fn split_tables_change_nothing() {
                super::split_tables_agree::<B>("phi-siglip", super::F32);
            }
        }
    };
}

const CASES: [&str; 13] = [
    "phi-siglip",
    "phi-siglip-bf16",
    "phi-siglip-lora",
    "phi2-siglip-trimmed",
    "phi-eva-pretrained",
    "stablelm-eva",
    "stablelm-siglip",
    "stablelm-siglip-lora",
    "llama-siglip",
    "qwen2-clip",
    "minicpm-siglip",
    "phi3-siglip-s2",
    "phi3-siglip-lora",
];

/// The cases that keep no part but the logits.
const LOGITS_ALONE: [&str; 5] = [
    "phi-siglip-bf16",
    "phi-siglip-int4",
    "stablelm-siglip",
    "stablelm-siglip-int8",
    "stablelm-siglip-lora",
];

/// Cases whose language model compressed-tensors' own library has put in integers: the reference computes
/// with the numbers that they stand for.
const IN_INTEGERS: [&str; 2] = ["phi-siglip-int4", "stablelm-siglip-int8"];

/// f32, and nothing rounded that is multiplied with integers.
const EXACT: Precision = Precision {
    activations: Activations::F32,
    ..Precision::F32
};

#[cfg(feature = "flex")]
parity!(flex, burn_flex::Flex, super::Precision::weights_only);

#[cfg(feature = "flex")]
#[test]
fn flex_integers_err_by_their_rounding() {
    integers_err_by_their_rounding::<burn_flex::Flex>();
}

#[cfg(feature = "ndarray")]
parity!(
    ndarray,
    burn_ndarray::NdArray,
    super::Precision::weights_only
);
#[cfg(feature = "cuda")]
mod cuda {
    use super::{CASES, TF32};

    type B = burn_cuda::Cuda;

    #[test]
    fn every_part_agrees_with_the_reference() {
        let errors = CASES.map(|case| super::parts_agree::<B>(case, super::Precision::F32, TF32));
        let worst = errors.into_iter().fold(0f32, f32::max);
        println!("cuda F32: largest error {worst:.1e}");
    }

    #[test]
    fn sixteen_bits_err_by_their_rounding() {
        super::sixteen_bits_err_by_their_rounding::<B>("cuda", super::Precision::uniform);
    }

    #[test]
    fn greedy_ids_agree_by_teacher_forcing() {
        for case in CASES {
            super::ids_agree_within::<B>(case, TF32);
        }
    }

    #[test]
    fn a_cache_changes_nothing() {
        for case in CASES {
            super::cache_changes_nothing::<B>(case, TF32);
        }
    }

    #[test]
    fn split_tables_change_nothing() {
        super::split_tables_agree::<B>("phi-siglip", TF32);
    }
}
#[cfg(feature = "wgpu")]
parity!(wgpu, burn_wgpu::Wgpu, super::Precision::uniform);
