//! The pair of towers that learns: bunny-core's SigLIP, of a recipe's sizes.

use bunny_core::{
    checkpoint::Precision,
    config::{SiglipConfig, TextConfig},
    model::pair::SiglipPair,
    nn::{Builder, NameTable, ParameterSpec, Part, describe},
};
use burn::tensor::{Tensor, backend::Backend};

use super::loss::sigmoid_loss;
use crate::{recipe::ContrastiveRecipe, trainable::reinitialize};

/// Every parameter of both towers, in their order.
pub fn describe_pair(
    recipe: &ContrastiveRecipe,
    vision: &SiglipConfig,
    vocab_size: usize,
) -> Vec<ParameterSpec> {
    describe(&NameTable::SAME, |builder| {
        new_pair(recipe, vision, vocab_size, &builder.of(Part::VisionTower))
    })
}

/// Towers that have not learnt yet, weights drawn with LeCun's deviation, `1/√inputs`, which is
/// transformers' for tables and patches and close to its Glorot's for products.
pub fn random_pair<B: Backend>(
    recipe: &ContrastiveRecipe,
    vision: &SiglipConfig,
    vocab_size: usize,
    precision: Precision,
    device: &B::Device,
) -> SiglipPair<B> {
    let seed = recipe.training.seed;
    let drawn = Builder::random(seed, &NameTable::SAME, precision, device, |builder| {
        new_pair(recipe, vision, vocab_size, builder)
    });
    reinitialize(drawn, |shape| {
        let inputs: usize = shape[1..].iter().product();
        (inputs as f32).sqrt().recip()
    })
}

/// Towers of a recipe whose parameters are those below `builder`.
pub fn new_pair<B: Backend>(
    recipe: &ContrastiveRecipe,
    vision: &SiglipConfig,
    vocab_size: usize,
    builder: &Builder<'_, B>,
) -> SiglipPair<B> {
    let text = TextConfig {
        vocab_size,
        max_position_embeddings: recipe.text.max_position_embeddings,
        // A SigLIP reads a caption's last place, whatever stands there.
        eos_token_id: 0,
        layers: recipe.text.layers(vision.layer_norm_eps),
    };
    SiglipPair::new(vision, &text, builder)
}

/// The mean loss of pairs, `[1]`.
///
/// # Shapes
/// pixels `[pairs, 3, size, size]`, ids `[pairs * places]`
pub fn pair_loss<B: Backend>(
    model: &SiglipPair<B>,
    pixels: Tensor<B, 4>,
    ids: &[i32],
) -> Tensor<B, 1> {
    sigmoid_loss(
        model.pictures(pixels),
        model.captions(ids),
        model.logit_scale.val(),
        model.logit_bias.val(),
    )
}
