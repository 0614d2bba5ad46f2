//! What a stage will take, before it starts: parameters that learn, steps, memory.

use bunny_core::{
    BunnyConfig,
    checkpoint::Precision,
    config::{DecoderConfig, MlpKind, SiglipConfig, VisionConfig},
    nn::{ParameterSpec, WeightFormat},
};
use serde::Serialize;

use crate::recipe::{BunnyRecipe, ContrastiveRecipe, LanguageRecipe};

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
    pub fn new(config: &BunnyConfig, recipe: &BunnyRecipe) -> Self {
        let learning = recipe.trainable_parts();
        let (parts, specs) = (config.parameters(), config.describe());
        let take = |learns: bool, count: u64| if learns { count } else { 0 };
        Self {
            projector: take(learning.projector, parts.projector),
            lora: take(learning.lora, lora_parameters(&specs, recipe.lora_r)),
            language: take(learning.language, parts.language_model),
            tower: take(learning.tower, parts.vision_tower),
        }
    }

    /// The sum of the parts.
    pub fn total(&self) -> u64 {
        self.projector + self.lora + self.language + self.tower
    }
}

/// Parameters of adapters of rank `rank` beside every product of the layers of the language model that
/// `specs` describe.
pub fn lora_parameters(specs: &[ParameterSpec], rank: usize) -> u64 {
    let targets = specs.iter().filter(|spec| spec.adapter_target().is_some());
    // Each product from `in` to `out` gets `rank * (in + out)`.
    let ends: usize = targets.flat_map(|spec| &spec.shape).sum();
    (rank * ends) as u64
}

/// Bytes that a stage holds on its device, computed from sizes.
///
/// Working memory is an upper estimate for burn's operations, which keep every intermediate result
/// of the piece whose gradients are being formed; kernels of our own keep less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct MemoryPlan {
    /// All weights in their type.
    pub weights: u64,
    /// Of what learns: masters and both moments in f32, as AdamW has them, and a gradient in f32.
    pub trainables: u64,
    /// What the way forward keeps for the way back: the layers' inputs, or all layers' results; of a
    /// tower that learns always all.
    pub kept: u64,
    /// The results within one layer, and their gradients.
    pub layer: u64,
    /// Of these, attention's scores, where they are stored: kernels of our own do without.
    pub attention: u64,
    /// Scores of one chunk of answers, and their gradients.
    pub scores: u64,
}

impl MemoryPlan {
    /// The memory of a stage of `recipe` over `config` at rows of full length.
    pub fn new(config: &BunnyConfig, recipe: &BunnyRecipe, precision: Precision) -> Self {
        let counts = LearnCounts::new(config, recipe);
        let (weight, number) = (
            precision.weights.bytes(1, 1) as u64,
            precision.compute.size() as u64,
        );
        let held = held(precision);
        let adapters = counts.lora;
        let others = counts.total() - adapters;
        let batch = recipe.training.per_device_train_batch_size as u64;
        let tower = match counts.tower {
            0 => 0,
            // A record has one picture.
            _ => batch * tower_results(&config.vision, number),
        };
        let rows = Rows {
            batch,
            positions: recipe.model_max_length,
            gradient_checkpointing: recipe.gradient_checkpointing,
        };
        let decoder = Self::of_decoder(&config.decoder, rows, number);
        Self {
            weights: (config.parameters().total() - others) * weight
                + others * held
                + adapters * number,
            trainables: others * state(held) + adapters * state(number),
            kept: decoder.kept + tower,
            ..decoder
        }
    }

    /// The memory of stage `language` over `decoder`, all of which learns, at rows of full length.
    pub fn of_language(
        decoder: &DecoderConfig,
        recipe: &LanguageRecipe,
        precision: Precision,
    ) -> Self {
        let rows = Rows {
            batch: recipe.training.per_device_train_batch_size as u64,
            positions: recipe.model_max_length,
            gradient_checkpointing: recipe.gradient_checkpointing,
        };
        Self::of_decoder(decoder, rows, precision.compute.size() as u64)
            .with_learning(decoder.parameters(), precision)
    }

    /// The memory of stage `contrastive`: two towers of so many `parameters`, all of which learn, and all
    /// of whose results are kept.
    pub fn of_pairs(
        vision: &SiglipConfig,
        parameters: u64,
        recipe: &ContrastiveRecipe,
        precision: Precision,
    ) -> Self {
        let number = precision.compute.size() as u64;
        let pairs = recipe.training.per_device_train_batch_size as u64;
        let text = recipe.text.layers(vision.layer_norm_eps);
        let places = recipe.text.max_position_embeddings;
        let pixels = 4 * 3 * (vision.image_size * vision.image_size) as u64;
        let mut plan = Self {
            kept: pairs * pixels,
            // Of every picture with every caption: products, log-shares, and the gradients of both.
            scores: pairs.saturating_mul(pairs).saturating_mul(4 * 4),
            ..Self::default()
        };
        let mut scores_within = 0;
        for (tower, positions) in [(vision, vision.tokens()), (&text, places)] {
            let sizes = LayerSizes::of_siglip(tower);
            let layers = tower.num_hidden_layers as u64;
            let results = pairs * sizes.results(positions, number);
            let scores = pairs * sizes.attention(positions);
            plan.kept += layers * results;
            plan.attention += layers * scores;
            (plan.layer, scores_within) =
                (plan.layer, scores_within).max((2 * results, 2 * scores));
        }
        plan.attention += scores_within;
        plan.with_learning(parameters, precision)
    }

    /// Weights, all of which learn.
    fn with_learning(self, parameters: u64, precision: Precision) -> Self {
        let held = held(precision);
        Self {
            weights: parameters * held,
            trainables: parameters * state(held),
            ..self
        }
    }

    /// What a decoder's layers and its head hold of `rows`, in numbers of `number` bytes.
    fn of_decoder(decoder: &DecoderConfig, rows: Rows, number: u64) -> Self {
        let Rows {
            batch, positions, ..
        } = rows;
        let sizes = LayerSizes::of_decoder(decoder);
        let layers = decoder.num_hidden_layers as u64;
        let results = batch * sizes.results(positions, number);
        let scores = batch * sizes.attention(positions);
        let (kept, kept_scores) = match rows.gradient_checkpointing {
            true => (layers * batch * positions as u64 * sizes.hidden * number, 0),
            false => (layers * results, layers * scores),
        };
        Self {
            kept,
            layer: 2 * results,
            attention: 2 * scores + kept_scores,
            // Scores, their log-shares, and the gradients of both.
            scores: 4
                * 4
                * (crate::step::loss::CHUNK_SCORES as u64)
                    .min(batch * positions as u64 * decoder.vocab_size as u64),
            ..Self::default()
        }
    }

    /// The sum.
    pub fn total(&self) -> u64 {
        let parts = [self.weights, self.trainables, self.kept, self.layer];
        parts.into_iter().fold(self.scores, u64::saturating_add)
    }

    /// The sum where attention's scores are not stored.
    pub fn with_fused_attention(&self) -> u64 {
        self.total() - self.attention
    }
}

/// What a decoder is given at a time.
#[derive(Debug, Clone, Copy)]
struct Rows {
    batch: u64,
    positions: usize,
    gradient_checkpointing: bool,
}

/// Bytes of a weight that learns: products of a bf16 model learn in bf16, all else in the type of the
/// activations.
fn held(precision: Precision) -> u64 {
    match precision.weights {
        WeightFormat::Bf16 => precision.weights.bytes(1, 1) as u64,
        _ => precision.compute.size() as u64,
    }
}

/// Bytes beside a parameter that learns and is held in `held` bytes: two moments and a gradient, and
/// a master, which is the model's own copy where that is f32.
fn state(held: u64) -> u64 {
    let master = if held == 4 { 0 } else { 4 };
    master + 4 + 4 + 4
}

/// Bytes of what a tower's layers keep of one picture.
fn tower_results(tower: &VisionConfig, number: u64) -> u64 {
    let sizes = LayerSizes {
        hidden: tower.width() as u64,
        wide: tower.intermediate_size() as u64,
        heads: tower.num_attention_heads() as u64,
        mlp: tower.mlp(),
    };
    let passes = (tower.passes() * tower.layers_used()) as u64;
    passes * sizes.results(tower.positions(), number)
}

/// What decides how much one transformer layer keeps.
struct LayerSizes {
    hidden: u64,
    wide: u64,
    heads: u64,
    mlp: MlpKind,
}

impl LayerSizes {
    fn of_decoder(config: &DecoderConfig) -> Self {
        Self {
            hidden: config.hidden_size as u64,
            wide: config.intermediate_size as u64,
            heads: config.num_attention_heads as u64,
            mlp: config.mlp,
        }
    }

    fn of_siglip(config: &SiglipConfig) -> Self {
        Self {
            hidden: config.hidden_size as u64,
            wide: config.intermediate_size as u64,
            heads: config.num_attention_heads as u64,
            mlp: VisionConfig::Siglip(config.clone()).mlp(),
        }
    }

    /// Bytes of the results within the layer that its gradients need, for one row of `seq` positions
    /// and activations of `number` bytes.
    fn results(&self, seq: usize, number: u64) -> u64 {
        let seq = seq as u64;
        // What each product gives, and what a nonlinearity or a gate makes of it, but for the last.
        let gates = 2 * self.mlp.products() as u64 - 1;
        // Two norms in f32; queries, keys and values, each also rotated; the attended; both branches.
        let vectors = seq * self.hidden * (2 * 4 * 3 + 10 * number);
        let inner = seq * self.wide * gates * number;
        vectors + inner + self.attention(seq as usize)
    }

    /// Bytes of attention's scores of one row: as they are, masked, and as shares, in f32.
    fn attention(&self, seq: usize) -> u64 {
        let seq = seq as u64;
        self.heads * seq * seq * 4 * 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::TrainingArguments;
    use bunny_core::config::presets::Preset;

    fn phi_2(batch: usize) -> MemoryPlan {
        let recipe = BunnyRecipe {
            lora_enable: true,
            tune_mm_mlp_adapter: Some(false),
            training: TrainingArguments {
                per_device_train_batch_size: batch,
                ..TrainingArguments::default()
            },
            ..BunnyRecipe::default()
        };
        MemoryPlan::new(&config(), &recipe, Precision::uniform(WeightFormat::Bf16))
    }

    fn config() -> BunnyConfig {
        Preset::named("bunny-phi-2-siglip").unwrap().config()
    }

    #[test]
    fn adapters_of_rank_128_on_phi_2_have_the_published_size() {
        // 377.5 MB in 16 bits on the hub.
        assert_eq!(lora_parameters(&config().describe(), 128), 188_743_680);
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

    #[test]
    fn a_language_model_from_nothing_is_held_with_all_its_learning_and_all_its_results() {
        let recipe = |gradient_checkpointing| LanguageRecipe {
            gradient_checkpointing,
            ..LanguageRecipe::default()
        };
        let decoder = recipe(false).model.decoder_config(768).unwrap();
        let plan = |recipe| MemoryPlan::of_language(&decoder, &recipe, Precision::F32);
        let (kept, again) = (plan(recipe(false)), plan(recipe(true)));
        // By hand, of 5 layers of 160 channels with 640 within and 5 heads, at 8 rows of 512: vectors of
        // 512 * 160 * 64 bytes, 512 * 640 * 3 * 4 inside, scores of 5 * 512 * 512 * 12.
        let (vectors, inside, scores) = (5_242_880, 3_932_160, 15_728_640);
        let results = 8 * (vectors + inside + scores);
        assert_eq!((kept.kept, kept.layer), (5 * results, 2 * results));
        assert_eq!(kept.attention, 7 * 8 * scores);
        assert_eq!(
            kept.with_fused_attention() - kept.weights - kept.trainables - kept.scores,
            7 * 8 * (vectors + inside)
        );
        // Recomputed: the inputs of layers, and the results of one.
        assert_eq!(again.kept, 5 * 8 * 512 * 160 * 4);
        assert_eq!(again.attention, 2 * 8 * scores);
        // Four bytes a number, two moments and a gradient; 4,096 positions by 768 tokens, four times.
        let parameters = decoder.parameters();
        assert_eq!(
            (kept.weights, kept.trainables),
            (4 * parameters, 12 * parameters)
        );
        assert_eq!(kept.scores, 4 * 4 * 4096 * 768);
    }

    #[test]
    fn towers_from_nothing_keep_the_results_of_all_their_layers() {
        let recipe = ContrastiveRecipe::default();
        let vision = recipe.vision.siglip_config().unwrap();
        let plan = MemoryPlan::of_pairs(&vision, 1_000, &recipe, Precision::F32);
        // By hand: 64 patches in 6 layers and 64 places in 3, each of 128 channels with 512 within and 4
        // heads, for 8 pairs. Vectors of 64 * 128 * 64 bytes, 64 * 512 * 12 inside, scores of
        // 4 * 64 * 64 * 12; pixels of 3 * 112 * 112 * 4.
        let (rest, scores) = (524_288 + 393_216, 196_608);
        assert_eq!(plan.kept, 8 * (9 * (rest + scores) + 150_528));
        assert_eq!(plan.layer, 2 * 8 * (rest + scores));
        assert_eq!(plan.attention, 8 * 11 * scores);
        assert_eq!(plan.scores, 16 * 64);
        assert_eq!((plan.weights, plan.trainables), (4_000, 12_000));
    }

    #[test]
    fn a_tower_that_learns_keeps_its_layers_scores() {
        let recipe = |unfreeze_vision_tower| BunnyRecipe {
            unfreeze_vision_tower,
            lora_enable: true,
            tune_mm_mlp_adapter: Some(false),
            ..BunnyRecipe::default()
        };
        let kept = |tower| {
            let precision = Precision::uniform(WeightFormat::Bf16);
            MemoryPlan::new(&config(), &recipe(tower), precision).kept
        };
        let batch = TrainingArguments::default().per_device_train_batch_size as u64;
        // By hand, for a picture of 729 patches, 16 heads, 1,152 channels and 4,304 within: scores
        // of 16 * 729 * 729 * 12 bytes, vectors of 729 * 1152 * 44, and 729 * 4304 * 3 * 2 inside;
        // 26 layers.
        let layer = 102_036_672 + 36_951_552 + 18_825_696;
        assert_eq!(kept(true) - kept(false), batch * 26 * layer);
    }

    #[test]
    fn what_learns_of_a_bf16_model_has_a_master_where_activations_are_f32() {
        let recipe = BunnyRecipe {
            tune_mm_mlp_adapter: Some(false),
            ..BunnyRecipe::default()
        };
        let trainables = |precision| MemoryPlan::new(&config(), &recipe, precision).trainables;
        let counts = LearnCounts::new(&config(), &recipe).total();
        assert_eq!(
            trainables(Precision::weights_only(WeightFormat::Bf16)),
            16 * counts
        );
        assert_eq!(trainables(Precision::F32), 12 * counts);
    }
}
