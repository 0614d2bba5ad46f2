//! Adapters as PEFT saves them, read exactly or refused by name; `tests/reference/adapters.py` made the
//! fixtures with PEFT itself.
#![cfg(feature = "flex")]
#![recursion_limit = "256"]

mod nearness;

use std::path::{Path, PathBuf};

use bunny_core::{
    checkpoint::{ModelSource, Precision},
    generate::Pipeline,
    input::tokenizer::Token,
};
use burn_flex::Flex;
use safetensors::SafeTensors;
use serde_json::Value;

/// Largest difference, relative to the largest logit. Both sides are in f32; here the matrices are
/// multiplied and added to the weights, there they stand beside them, so that every product is rounded
/// some other way: errors of 1e-7 a layer, a hundred of which are allowed. In 16 bits the same numbers
/// are stored, and both sides compute with them in f32.
const TOLERANCE: f32 = 1e-5;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/adapters")
}

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(fixtures().join("expected.json")).unwrap()).unwrap()
}

/// An adapter beside the fixture that it belongs to.
fn source(name: &str, case: &Value) -> ModelSource {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/models");
    ModelSource {
        model: fixtures().join(name),
        base: Some(models.join(case["base"].as_str().unwrap())),
        vision_tower: None,
    }
}

/// The last logits of a text without pictures.
fn logits(source: &ModelSource, ids: &[Token], last: usize) -> Vec<f32> {
    let pipeline = Pipeline::<Flex>::load(source, Precision::F32, Default::default()).unwrap();
    let embeds = pipeline.model.embed(ids, Vec::new()).unwrap();
    let hidden = pipeline.model.forward(embeds).squeeze_dim::<2>(0);
    let [positions, _] = hidden.dims();
    let hidden = hidden.narrow(0, positions - last, last);
    let logits = pipeline.model.language_model.logits(hidden);
    logits.into_data().to_vec().unwrap()
}

#[test]
fn adapters_of_peft_are_read_exactly_or_refused_by_name() {
    let expected = expected();
    let tensors = std::fs::read(fixtures().join("expected.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&tensors).unwrap();
    let ids = expected["ids"].as_array().unwrap().iter();
    let ids: Vec<Token> = ids
        .map(|id| Token::Text(id.as_u64().unwrap() as u32))
        .collect();
    let (mut read, mut refused) = (0, 0);
    let mut wrong = Vec::new();
    for (name, case) in expected["cases"].as_object().unwrap() {
        let source = source(name, case);
        if let Some(field) = case["refused"].as_str() {
            let error = source.open().unwrap_err().to_string();
            if !error.contains(&format!("`{field}`")) || error.contains('\n') {
                wrong.push(format!("{name}: {error}"));
            }
            refused += 1;
            continue;
        }
        if let Err(error) = source.open() {
            wrong.push(format!("{name}: {error}"));
            continue;
        }
        let view = tensors.tensor(name).unwrap();
        let (numbers, _) = view.data().as_chunks::<4>();
        let right: Vec<f32> = numbers.iter().map(|&one| f32::from_le_bytes(one)).collect();
        let found = logits(&source, &ids, view.shape()[0]);
        assert_eq!(found.len(), right.len(), "{name}");
        let off = nearness::off(&found, &right);
        if off.is_nan() || off > TOLERANCE {
            wrong.push(format!("{name}: off by {off} of the largest logit"));
        }
        read += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(read >= 30 && refused >= 9, "{read} read, {refused} refused");
}
