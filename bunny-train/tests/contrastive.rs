//! Both towers against transformers' SiglipModel: result, loss, and the gradient of every tensor.
#![recursion_limit = "256"]

mod common;

use std::{collections::HashMap, path::Path};

use bunny_core::{
    checkpoint::{Precision, WeightSet},
    model::pair::SiglipPair,
    nn::{Builder, NameTable, WeightFormat, count},
};
use bunny_train::{
    recipe::{ContrastiveRecipe, TextSizes, VisionSizes},
    stages::{describe_pair, new_pair, pair_loss},
    trainable::{parameters_of, unfreeze},
};
use bunny_weights::TensorFiles;
use burn::{
    backend::Autodiff,
    module::{Module, ModuleVisitor, Param, ParamId},
    tensor::{
        DType, Tensor, TensorData,
        backend::{AutodiffBackend, Backend},
    },
};
use burn_flex::Flex;
use common::{difference, fixtures, read_tensors};
use safetensors::SafeTensors;
use serde_json::Value;

type B = Autodiff<Flex>;

static NAMES: NameTable = NameTable::SAME;

/// The gradients of a module's parameters.
struct Found<'a, B: AutodiffBackend> {
    gradients: &'a mut B::Gradients,
    by_id: HashMap<ParamId, Vec<f32>>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Found<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(gradient) = param.val().grad_remove(self.gradients) {
            let values = gradient.into_data().iter::<f32>().collect();
            self.by_id.insert(param.id, values);
        }
    }
}

/// What transformers made of the fixture.
fn expected(folder: &Path) -> Value {
    let json = std::fs::read(folder.join("expected.json")).unwrap();
    serde_json::from_slice(&json).unwrap()
}

/// The fixture's sizes.
fn recipe(expected: &Value) -> ContrastiveRecipe {
    let size = |table: &str, field: &str| expected[table][field].as_u64().unwrap() as usize;
    ContrastiveRecipe {
        vision: VisionSizes {
            hidden_size: size("vision", "hidden_size"),
            intermediate_size: size("vision", "intermediate_size"),
            num_hidden_layers: size("vision", "num_hidden_layers"),
            num_attention_heads: size("vision", "num_attention_heads"),
            image_size: size("vision", "image_size"),
            patch_size: size("vision", "patch_size"),
            ..VisionSizes::default()
        },
        text: TextSizes {
            hidden_size: size("text", "hidden_size"),
            intermediate_size: size("text", "intermediate_size"),
            num_hidden_layers: size("text", "num_hidden_layers"),
            num_attention_heads: size("text", "num_attention_heads"),
            max_position_embeddings: size("text", "max_position_embeddings"),
        },
        ..ContrastiveRecipe::default()
    }
}

/// The fixture's towers.
fn towers<B: Backend>(folder: &Path, precision: Precision) -> SiglipPair<B> {
    let expected = expected(folder);
    let recipe = recipe(&expected);
    let vocab_size = expected["vocab_size"].as_u64().unwrap() as usize;
    let vision = recipe.vision.siglip_config().unwrap();
    let file = TensorFiles::open_file(folder.join("model.safetensors")).unwrap();
    let weights = WeightSet::new("fixture").with(file);
    Builder::build(
        &weights,
        &NAMES,
        precision,
        &Default::default(),
        |builder| new_pair(&recipe, &vision, vocab_size, builder),
    )
    .unwrap()
}

/// The loss of the fixture's batch.
fn loss<B: Backend>(folder: &Path, model: &SiglipPair<B>, dtype: DType) -> Tensor<B, 1> {
    let recipe = recipe(&expected(folder));
    let side = recipe.vision.image_size;
    let (pixels, ids) = batch(folder);
    let pictures = ids.len() / recipe.text.max_position_embeddings;
    let pixels = TensorData::new(pixels, [pictures, 3, side, side]);
    pair_loss(
        model,
        Tensor::from_data(pixels, (&Default::default(), dtype)),
        &ids,
    )
}

/// GPUs train so. Scale and bias, in f32, meet what the towers say in bf16.
#[test]
fn loss_in_bf16_is_near() {
    let folder = fixtures().join("contrastive");
    let model = towers::<Flex>(&folder, Precision::uniform(WeightFormat::Bf16));
    let loss: f32 = loss(&folder, &model, DType::BF16).into_scalar();
    let wanted = expected(&folder)["loss"].as_f64().unwrap() as f32;
    // Both vectors' cosine is known to some units of 2^-8, and multiplied with ten at first.
    assert!((loss - wanted).abs() < 0.1, "{loss} {wanted}");
}

#[test]
fn loss_and_every_gradient_are_transformers() {
    let folder = fixtures().join("contrastive");
    let model = towers::<B>(&folder, Precision::F32);
    let expected = expected(&folder);
    let vocab_size = expected["vocab_size"].as_u64().unwrap() as usize;
    let recipe = recipe(&expected);
    let vision = recipe.vision.siglip_config().unwrap();
    let specs = describe_pair(&recipe, &vision, vocab_size);
    let parameters = parameters_of(&model, &specs);
    let counted: usize = parameters
        .iter()
        .map(|parameter| parameter.shape.iter().product::<usize>())
        .sum();
    assert_eq!(count(&specs), counted as u64);
    let (model, _) = unfreeze(model, parameters.clone(), Precision::F32);

    let loss = loss(&folder, &model, DType::F32);
    let mut gradients = loss.backward();
    let loss: f32 = loss.into_scalar();
    let wanted = expected["loss"].as_f64().unwrap() as f32;
    assert!((loss - wanted).abs() < 1e-5 * wanted, "{loss} {wanted}");

    let mut found = Found {
        gradients: &mut gradients,
        by_id: HashMap::new(),
    };
    model.visit(&mut found);
    let expected = read_tensors(&folder.join("gradients.safetensors"));
    assert_eq!(expected.len(), parameters.len());
    for parameter in &parameters {
        let wanted = &expected[&parameter.name];
        let norm = wanted.iter().map(|value| value * value).sum::<f32>().sqrt();
        let off = difference(&found.by_id[&parameter.id], wanted);
        // Sums of a few hundred products in f32, relative to the tensor's own gradient; a key's
        // bias has none but rounding, since it moves all scores of a query alike.
        assert!(
            off <= 1e-4 * norm + 1e-6,
            "{}: {off} at norm {norm}",
            parameter.name
        );
    }
}

/// Pixels and ids of the fixture's batch.
fn batch(folder: &Path) -> (Vec<f32>, Vec<i32>) {
    let bytes = std::fs::read(folder.join("batch.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let pixels = tensors.tensor("pixel_values").unwrap();
    let pixels = pixels.data().as_chunks::<4>().0.iter();
    let ids = tensors.tensor("input_ids").unwrap();
    let ids = ids.data().as_chunks::<8>().0.iter();
    (
        pixels.map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        ids.map(|bytes| i64::from_le_bytes(*bytes) as i32).collect(),
    )
}
