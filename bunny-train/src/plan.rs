//! What a stage will take, before it starts: parameters that learn, steps, memory.

use bunny_core::{
    BunnyConfig,
    checkpoint::Precision,
    language::{DecoderConfig, MlpKind},
};
use serde::Serialize;

use crate::recipe::StageRecipe;

/// Numbers of parameters that learn, by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct LearnCounts {
    /// The projector.
    pub projector: u64,
    /// Adapters.
    pub lora: u64,
    /// The language model.
    pub language: u64,
    /// The vision tower.
    pub tower: u64,
}

impl LearnCounts {
    /// What learns of `config` under `recipe`.
    pub fn new(config: &BunnyConfig, recipe: &StageRecipe) -> Self {
        let learns = recipe.learns();
        let parts = config.parameters();
        let take = |learns: bool, count: u64| if learns { count } else { 0 };
        Self {
            projector: take(learns.projector, parts.projector),
            lora: take(learns.lora, lora_parameters(&config.decoder, recipe.lora_r)),
            language: take(learns.language, parts.language_model),
            tower: take(learns.tower, parts.vision_tower),
        }
    }

    /// The sum of the parts.
    pub fn total(&self) -> u64 {
        self.projector + self.lora + self.language + self.tower
    }
}

/// Parameters of adapters of rank `rank` beside every product of the layers.
pub fn lora_parameters(config: &DecoderConfig, rank: usize) -> u64 {
    let (hidden, wide) = (config.hidden_size, config.intermediate_size);
    let (query, key) = (config.query_size(), config.key_value_size());
    let widening = match config.mlp {
        MlpKind::Plain => 1,
        MlpKind::Gated => 2,
    };
    // Each product from `in` to `out` gets `rank * (in + out)`.
    let ends =
        (hidden + query) + 2 * (hidden + key) + (query + hidden) + (widening + 1) * (hidden + wide);
    (config.num_hidden_layers * rank * ends) as u64
}

/// Bytes that a stage holds on its device, computed from sizes.
///
/// Working memory is an upper estimate for burn's operations, which keep every intermediate result
/// of the piece whose gradients are being formed; kernels of our own keep less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct MemoryPlan {
    /// All weights in their type.
    pub weights: u64,
    /// Of what learns: masters and both moments in f32 (Muon's matrices have but one), a gradient in
    /// f32, and the adapters' weights themselves.
    pub learners: u64,
    /// What the way forward keeps for the way back: the layers' inputs, or all layers' results.
    pub kept: u64,
    /// The results within one layer, and their gradients.
    pub layer: u64,
    /// Scores of one chunk of answers, and their gradients.
    pub scores: u64,
}

impl MemoryPlan {
    /// The memory of a stage of `recipe` over `config` at rows of full length.
    pub fn new(config: &BunnyConfig, recipe: &StageRecipe, precision: Precision) -> Self {
        let counts = LearnCounts::new(config, recipe);
        let (weight, number) = (
            precision.weights.size() as u64,
            precision.compute.size() as u64,
        );
        let decoder = &config.decoder;
        let rows = (recipe.training.per_device_train_batch_size * recipe.model_max_length) as u64;
        let hidden = decoder.hidden_size as u64;
        let layers = decoder.num_hidden_layers as u64;
        let stream = rows * hidden * number;
        let results = layer_results(decoder, recipe, number);
        let master = if precision.compute.size() == 4 { 0 } else { 4 };
        Self {
            weights: config.parameters().total() * weight + counts.lora * number,
            // A master that is f32 like the model's own copy is the same tensor.
            learners: counts.total() * (master + 4 + 4 + 4),
            kept: match recipe.gradient_checkpointing {
                true => layers * stream,
                false => layers * results,
            },
            layer: 2 * results,
            // Scores, their log-shares, and the gradients of both.
            scores: 4
                * 4
                * (crate::loss::CHUNK_SCORES as u64).min(rows * decoder.vocab_size as u64),
        }
    }

    /// The sum.
    pub fn total(&self) -> u64 {
        self.weights + self.learners + self.kept + self.layer + self.scores
    }
}

/// Bytes of the results within one layer that its gradients need.
fn layer_results(config: &DecoderConfig, recipe: &StageRecipe, number: u64) -> u64 {
    let (batch, seq) = (
        recipe.training.per_device_train_batch_size as u64,
        recipe.model_max_length as u64,
    );
    let rows = batch * seq;
    let hidden = config.hidden_size as u64;
    let wide = config.intermediate_size as u64;
    let gates = match config.mlp {
        MlpKind::Plain => 3,
        MlpKind::Gated => 5,
    };
    // Two norms in f32; queries, keys and values, each also rotated; the attended; both branches.
    let vectors = rows * hidden * (2 * 4 * 3 + 10 * number);
    let inner = rows * wide * gates * number;
    // Scores, masked scores and shares, in f32.
    let scores = batch * config.num_attention_heads as u64 * seq * seq * 4 * 3;
    vectors + inner + scores
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;

    use super::*;
    use crate::recipe::TrainingArguments;
    use bunny_core::presets::Preset;

    fn phi_2(batch: usize) -> MemoryPlan {
        let recipe = StageRecipe {
            lora_enable: true,
            tune_mm_mlp_adapter: Some(false),
            training: TrainingArguments {
                per_device_train_batch_size: batch,
                ..TrainingArguments::default()
            },
            ..StageRecipe::default()
        };
        MemoryPlan::new(&config(), &recipe, Precision::uniform(DType::BF16))
    }

    fn config() -> BunnyConfig {
        Preset::named("bunny-phi-2-siglip").unwrap().config()
    }

    #[test]
    fn adapters_of_rank_128_on_phi_2_have_the_published_size() {
        // 377.5 MB in 16 bits on the hub.
        assert_eq!(lora_parameters(&DecoderConfig::phi_2(), 128), 188_743_680);
    }

    #[test]
    fn phi_2_with_siglip_fits_the_cards_that_people_have() {
        // Worked out by hand from the sizes, in bf16 with adapters of rank 128 over 2,048 positions:
        // 3,182,254,624 weights and 188,743,680 of adapters of 2 bytes; 198,251,520 that learn, of
        // 16; 32 inputs of layers of b * 2048 * 2560 * 2; twice a layer's results, of which the
        // scores, b * 32 * 2048 * 2048 * 12, are four fifths; 16 * 2^24 for answers' scores.
        let tenths = |batch| (phi_2(batch).total() as f64 / 1e8).round();
        assert_eq!(tenths(8), 443.0, "{:?}", phi_2(8));
        assert_eq!(tenths(1), 145.0, "{:?}", phi_2(1));
    }
}
