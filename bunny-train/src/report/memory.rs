//! What memory a stage will take, before it starts.
//!
//! Counted at the fullest moment of a step, the turn from the way forward to the way back:
//!
//! ```text
//! weights      ████████████████████████████████  always there
//! trainables   ████████████████████████████████  always there
//! kept             ▁▂▃▄▅▆▇█▇▆▅▄▃▂▁               grows a layer at a time, and goes so
//! scores                  ▂█▂                    at the end of the way forward
//! layer                     ██████               the gradients on their way through one layer
//! other phases  ██                   ▁▂▃████     a frozen tower before, the optimizer behind
//! ```
//!
//! What is kept is what the kernels of bunny-core keep (`bunny_core::ops`, each `autodiff.rs`), which serve
//! the processor and GPUs: of an operation that has none, as on `ndarray`, burn keeps more.

mod layer;

use bunny_core::{
    BunnyConfig,
    checkpoint::Precision,
    config::{DecoderConfig, SiglipConfig, VisionConfig},
    nn::{ParameterSpec, Part, WeightFormat},
};
use serde::Serialize;

use self::layer::{LayerSizes, Learning};
use super::LearnCounts;
use crate::{
    data::batches_at_once,
    recipe::{BunnyRecipe, ContrastiveRecipe, LanguageRecipe, Optim, TrainingArguments},
    step::loss::CHUNK_SCORES,
};

/// Bytes that a rank of a stage holds, computed from sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct MemoryPlan {
    /// All weights, each as it is held.
    pub weights: u64,
    /// Of what learns: masters and both moments in f32, as AdamW has them (Muon has one for matrices), and the
    /// sum of its gradients.
    pub trainables: u64,
    /// What the way forward keeps for the way back: the layers' inputs, or what all layers' gradients need;
    /// of a tower that learns always the latter.
    pub kept: u64,
    /// What the way back through one layer takes: the gradients in it, its widest product, and with gradient
    /// checkpointing what they need.
    pub layer: u64,
    /// Attention's scores, of all layers that are kept and of one more, where they are stored: see
    /// [`with_fused_attention`](Self::with_fused_attention).
    pub attention: u64,
    /// Scores of the answers at hand and their gradients, or of pictures with captions; with gradient
    /// checkpointing the rows that they are made of alone.
    pub scores: u64,
    /// The most that another phase of a step holds in the place of the last four: a frozen tower at work,
    /// with gradient checkpointing the answers' scores beside what is kept, or the optimizer with all
    /// gradients and what they make of the weights.
    pub other_phases: u64,
    /// Pictures as pixels, of batches that workers have ready or make and of those in use. They lie in main memory,
    /// whatever the device, and are no part of [`total`](Self::total).
    pub pictures: u64,
}

impl MemoryPlan {
    /// The memory of a stage of `recipe` over `config` at rows of full length, each with a picture.
    pub fn new(config: &BunnyConfig, recipe: &BunnyRecipe, precision: Precision) -> Self {
        let counts = LearnCounts::new(config, recipe);
        let number = precision.compute.size() as u64;
        let held = held(precision);
        let learns = |spec: &&ParameterSpec| match spec.part {
            Part::Projector => counts.projector > 0,
            Part::VisionTower => counts.tower > 0,
            _ => counts.language > 0,
        };
        let specs = config.describe();
        // In integers, where those are asked for.
        let frozen = precision.bytes(specs.iter().filter(|spec| !learns(spec)));
        let adapters = counts.lora;
        let others = counts.total() - adapters;
        let training = &recipe.training;
        let batch = training.per_device_train_batch_size as u64;
        let rows = Rows {
            batch,
            positions: recipe.model_max_length,
            gradient_checkpointing: recipe.gradient_checkpointing,
        };
        let learning = match (counts.language, counts.lora) {
            (0, 0) => Learning::Inputs,
            (0, _) => Learning::Adapters {
                rank: recipe.lora_r as u64,
                drops: recipe.lora_dropout > 0.0,
            },
            _ => Learning::All,
        };
        let plan = Self::of_decoder(&config.decoder, rows, learning, number);
        let tower = &config.vision;
        let sizes = LayerSizes::of_tower(tower);
        let positions = tower.positions();
        let pictures = batch * tower.passes() as u64;
        let patches = pictures * pixels(tower.pass_size(), number);
        let (tower_kept, tower_scores, tower_pass) = match counts.tower {
            0 => {
                let pass = pictures * sizes.pass(positions, number);
                (0, 0, pass + patches)
            }
            _ => {
                let layers = pictures * tower.layers_used() as u64;
                let kept = layers * sizes.kept(positions, number, Learning::All);
                (kept + patches, layers * sizes.attention(positions), 0)
            }
        };
        // The projector's inputs, and what stands before and behind each of its nonlinearities.
        let features = (tower.hidden_size() + 3 * config.decoder.hidden_size) as u64;
        let features = batch * tower.tokens() as u64 * features * number;
        Self {
            weights: frozen + others * held + adapters * number,
            trainables: others * state(held) + adapters * state(number),
            kept: plan.kept + tower_kept + features,
            attention: plan.attention + tower_scores,
            other_phases: optimizing(counts.total(), training, plan.layer)
                .max(tower_pass)
                .max(plan.other_phases),
            pictures: waiting(training, pixels(tower.image_size(), 4)),
            ..plan
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
        let number = precision.compute.size() as u64;
        Self::of_decoder(decoder, rows, Learning::All, number).with_learning(
            decoder.parameters(),
            &recipe.training,
            precision,
        )
    }

    /// The memory of stage `contrastive`: two towers of so many `parameters`, all of which learn, and
    /// nothing of which is computed twice.
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
        // The norm behind the tower and the head's keys and values.
        let head = (vision.tokens() * 4 * vision.hidden_size) as u64 * number;
        let mut plan = Self {
            kept: pairs * (pixels(vision.image_size, number) + head),
            // Of every picture with every caption: products, log-shares, and the gradients of both.
            scores: pairs.saturating_mul(pairs).saturating_mul(4 * 4),
            pictures: waiting(&recipe.training, pixels(vision.image_size, 4)),
            ..Self::default()
        };
        let mut scores_within = 0;
        for (tower, positions) in [(vision, vision.tokens()), (&text, places)] {
            let sizes = LayerSizes::of_tower(&VisionConfig::Siglip(tower.clone()));
            let layers = pairs * tower.num_hidden_layers as u64;
            plan.kept += layers * sizes.kept(positions, number, Learning::All);
            plan.attention += layers * sizes.attention(positions);
            let product = sizes.product(pairs * positions as u64, Learning::All);
            let gradients = pairs * sizes.gradients(positions, number);
            plan.layer = plan.layer.max(gradients + product);
            scores_within = scores_within.max(pairs * sizes.attention(positions));
        }
        plan.attention += scores_within;
        plan.with_learning(parameters, &recipe.training, precision)
    }

    /// Weights, all of which learn.
    fn with_learning(
        self,
        parameters: u64,
        training: &TrainingArguments,
        precision: Precision,
    ) -> Self {
        let held = held(precision);
        Self {
            weights: parameters * held,
            trainables: parameters * state(held),
            other_phases: optimizing(parameters, training, self.layer).max(self.other_phases),
            ..self
        }
    }

    /// What a decoder's layers and its head hold of `rows`, in numbers of `number` bytes.
    fn of_decoder(decoder: &DecoderConfig, rows: Rows, learning: Learning, number: u64) -> Self {
        let Rows {
            batch, positions, ..
        } = rows;
        let sizes = LayerSizes::of_decoder(decoder);
        let layers = decoder.num_hidden_layers as u64;
        let (hidden, vocabulary) = (decoder.hidden_size as u64, decoder.vocab_size as u64);
        let places = batch * positions as u64;
        let mut kept_of_one = batch * sizes.kept(positions, number, learning);
        let mut scores = batch * sizes.attention(positions);
        // Rows that are longer than a window go through operations that store their scores.
        if decoder
            .sliding_window
            .is_some_and(|window| positions > window)
        {
            kept_of_one += std::mem::take(&mut scores);
        }
        let gradients =
            batch * sizes.gradients(positions, number) + sizes.product(places, learning);
        // The answers' rows, as they are and normed, and the gradients of both.
        let rows_of_answers = 4 * places * hidden * number;
        // Their scores and the gradients of these in f32, and the gradient of the head.
        let logits = 2 * 4 * (CHUNK_SCORES as u64).min(places * vocabulary);
        let head = match learning {
            Learning::All => 4 * vocabulary * hidden,
            _ => 0,
        };
        match rows.gradient_checkpointing {
            // Scores are done before the first layer is run again: it gets the gradient of their rows.
            true => {
                let kept = layers * places * hidden * number;
                Self {
                    kept,
                    layer: kept_of_one + gradients,
                    attention: 2 * scores,
                    scores: rows_of_answers,
                    other_phases: kept + rows_of_answers + logits + head,
                    ..Self::default()
                }
            }
            false => Self {
                kept: layers * kept_of_one,
                layer: gradients,
                attention: (layers + 1) * scores,
                scores: rows_of_answers + logits + head,
                ..Self::default()
            },
        }
    }

    /// What the device holds at most, attention's scores stored.
    pub fn total(&self) -> u64 {
        let step = [self.layer, self.attention, self.scores];
        let step = step.into_iter().fold(self.kept, u64::saturating_add);
        let always = self.weights.saturating_add(self.trainables);
        always.saturating_add(step.max(self.other_phases))
    }

    /// The plan where attention's scores are not stored: the processor's kernels compute them anew.
    pub fn with_fused_attention(self) -> Self {
        Self {
            attention: 0,
            ..self
        }
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

/// Bytes beside a parameter that learns and is held in `held` bytes: two moments, the sum of its gradients,
/// and a master, which is the model's own copy where that is f32.
fn state(held: u64) -> u64 {
    let master = if held == 4 { 0 } else { 4 };
    master + 4 + 4 + 4
}

/// Bytes of the end of a step, when no activations are left but those of one `layer`: a micro-batch's
/// gradients beside their sum, or the sum over ranks beside what it is of, or new masters beside those that
/// the model holds; and Muon's momenta and directions.
fn optimizing(learn: u64, training: &TrainingArguments, layer: u64) -> u64 {
    let directions = if training.optim == Optim::Muon { 2 } else { 0 };
    4 * learn * (1 + directions) + layer
}

/// Bytes of a square picture's three channels.
fn pixels(side: usize, number: u64) -> u64 {
    number * 3 * (side * side) as u64
}

/// Bytes of pictures that wait, are in use, and are stacked to one tensor.
fn waiting(training: &TrainingArguments, picture: u64) -> u64 {
    let batches = batches_at_once(training.dataloader_num_workers) as u64 + 1;
    batches * training.per_device_train_batch_size as u64 * picture
}

#[cfg(test)]
mod tests {
    use super::*;
    use bunny_core::{
        config::presets::Preset,
        ops::{Bits, Packing},
    };

    fn config() -> BunnyConfig {
        Preset::named("bunny-phi-2-siglip").unwrap().config()
    }

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

    #[test]
    fn phi_2_with_siglip_fits_the_cards_that_people_have() {
        // Worked out by hand from the sizes, in bf16 with adapters of rank 128 over 2,048 positions:
        // 3,182,254,624 weights and 188,743,680 of adapters of 2 bytes; 198,251,520 that learn, of 16; 32
        // inputs of layers of b * 2048 * 2560 * 2; of one layer b * 2048 * 150,144 for its gradients and
        // b * 2048 * 56,320 of them, 4 * 2^23 for a product and 4 * 128 * 10,240 for an adapter's gradient; its
        // scores twice, b * 32 * 2048 * 2048 * 24; answers' rows, b * 2048 * 2560 * 8; the projector's
        // b * 729 * 8832 * 2.
        let tenths = |batch| (phi_2(batch).total() as f64 / 1e8).round();
        assert_eq!(tenths(8), 422.0, "{:?}", phi_2(8));
        assert_eq!(tenths(1), 140.0, "{:?}", phi_2(1));
    }

    #[test]
    fn a_language_model_in_integers_is_counted_as_it_is_held() {
        let recipe = BunnyRecipe {
            lora_enable: true,
            ..BunnyRecipe::default()
        };
        let weights = |packing| {
            let precision = Precision::uniform(WeightFormat::Bf16).packed(packing);
            MemoryPlan::new(&config(), &recipe, precision).weights
        };
        // By hand: of 32 layers four products of 2560 channels and two with 10,240, in four bits and a scale of
        // two bytes for each 32, which is 9/16 of a byte in the place of two; table and head in eight bits.
        let products = 32 * (4 * 2560 * 2560 + 2 * 2560 * 10_240);
        let tables = 2 * 2560 * config().decoder.vocab_size as u64;
        let packed = weights(Some(Packing::new(Bits::Four)));
        assert_eq!(weights(None) - packed, (23 * products + 15 * tables) / 16);
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
        // By hand, of 5 layers of 160 channels with 640 within and 5 heads, at 8 rows of 512: the layer's
        // input, the normed, queries, keys, values and the attended of 160 numbers each, what goes into the
        // nonlinearity and comes out of it, and 5 log-sums.
        let places = 8 * 512;
        let layer = places * (4 * (6 * 160 + 2 * 640) + 4 * 5);
        assert_eq!(kept.kept, 5 * layer);
        // Three gradients of 160 channels and two of 640, which are more than eight of 160; 640 channels once
        // more, packed, and the gradient of a matrix.
        let product = 4 * (places * 640 + 160 * 640);
        assert_eq!(kept.layer, places * 4 * (3 * 160 + 2 * 640) + product);
        let scores = 8 * 5 * 512 * 512 * 4 * 3;
        assert_eq!(kept.attention, 6 * scores);
        // Recomputed: the inputs of layers, and one layer with its gradients.
        assert_eq!(again.kept, 5 * places * 160 * 4);
        assert_eq!(again.layer, layer + kept.layer);
        assert_eq!(again.attention, 2 * scores);
        // 4,096 positions by 768 tokens, twice; their rows four times; the head's gradient. Recomputed, the
        // first and the last are gone when the first layer is run again.
        let answer_rows = places * 4 * 4 * 160;
        let logits = places * 2 * 4 * 768 + 4 * 768 * 160;
        assert_eq!(kept.scores, answer_rows + logits);
        assert_eq!(again.scores, answer_rows);
        let end = 4 * decoder.parameters() + again.layer;
        let before = again.kept + answer_rows + logits;
        assert_eq!(again.other_phases, before.max(end));
        // Four bytes a number, two moments and a gradient; new masters at the end.
        let parameters = decoder.parameters();
        assert_eq!(
            (kept.weights, kept.trainables, kept.other_phases),
            (4 * parameters, 12 * parameters, 4 * parameters + kept.layer)
        );
        let step = kept.kept + kept.layer + kept.scores;
        assert_eq!(kept.with_fused_attention().total(), 16 * parameters + step);
        assert_eq!(kept.total(), 16 * parameters + step + 6 * scores);
    }

    #[test]
    fn muon_has_momenta_and_directions_of_all_matrices_at_the_end_of_a_step() {
        let training = |optim| TrainingArguments {
            optim,
            ..TrainingArguments::default()
        };
        assert_eq!(optimizing(10, &training(Optim::Adamw), 5), 4 * 10 + 5);
        assert_eq!(optimizing(10, &training(Optim::Muon), 5), 3 * 4 * 10 + 5);
    }

    #[test]
    fn towers_from_nothing_keep_the_results_of_all_their_layers() {
        let recipe = ContrastiveRecipe::default();
        let vision = recipe.vision.siglip_config().unwrap();
        let plan = MemoryPlan::of_pairs(&vision, 1_000, &recipe, Precision::F32);
        // By hand: 64 patches in 6 layers and 64 places in 3, each of 128 channels with 512 within and 4
        // heads, for 8 pairs. Two norms' inputs and outputs, queries, keys, values and the attended; both
        // sides of the nonlinearity; 4 log-sums. Patches of 3 * 112 * 112 numbers; behind the layers the
        // last norm's input and output, keys and values.
        let layer = 64 * (4 * (8 * 128 + 2 * 512) + 4 * 4);
        assert_eq!(plan.kept, 8 * (9 * layer + 150_528 + 64 * 4 * 128 * 4));
        let product = 4 * (8 * 64 * 512 + 128 * 512);
        assert_eq!(plan.layer, 8 * 64 * 4 * (3 * 128 + 2 * 512) + product);
        assert_eq!(plan.attention, 8 * 10 * 4 * 64 * 64 * 4 * 3);
        assert_eq!(plan.scores, 16 * 64);
        assert_eq!((plan.weights, plan.trainables), (4_000, 12_000));
    }

    #[test]
    fn pictures_are_ready_with_every_worker_in_use_and_stacked() {
        let mut recipe = ContrastiveRecipe::default();
        recipe.training.dataloader_num_workers = 2;
        let vision = recipe.vision.siglip_config().unwrap();
        let plan = MemoryPlan::of_pairs(&vision, 1_000, &recipe, Precision::F32);
        // Each of two workers has two ready, makes a third, and made the one in use.
        assert_eq!(plan.pictures, (2 * 4 + 1) * 8 * 150_528);
    }

    #[test]
    fn a_tower_that_learns_keeps_all_its_layers_and_one_that_does_not_is_done_before() {
        let recipe = |unfreeze_vision_tower| BunnyRecipe {
            unfreeze_vision_tower,
            lora_enable: true,
            tune_mm_mlp_adapter: Some(false),
            ..BunnyRecipe::default()
        };
        let plan = |tower| {
            let precision = Precision::uniform(WeightFormat::Bf16);
            MemoryPlan::new(&config(), &recipe(tower), precision)
        };
        let (learns, frozen) = (plan(true), plan(false));
        let batch = TrainingArguments::default().per_device_train_batch_size as u64;
        // By hand, for a picture of 729 patches, 16 heads, 1,152 channels and 4,304 within: eight numbers of
        // each channel and two of each within, in bf16, and log-sums in f32; 26 layers; patches of 384 * 384.
        let layer = 729 * (2 * (8 * 1152 + 2 * 4304) + 4 * 16);
        let patches = 2 * 3 * 384 * 384;
        assert_eq!(learns.kept - frozen.kept, batch * (26 * layer + patches));
        let scores = 16 * 729 * 729 * 12;
        assert_eq!(learns.attention - frozen.attention, batch * 26 * scores);
        // One layer's pass, its widest place the MLP.
        let pass = 729 * 2 * (3 * 1152 + 2 * 4304) + patches;
        let optimizer = 4 * LearnCounts::new(&config(), &recipe(false)).total() + frozen.layer;
        assert_eq!(frozen.other_phases, optimizer.max(batch * pass));
    }

    #[test]
    fn of_a_model_that_stays_as_it_is_only_what_inputs_need_is_kept() {
        let kept = |tune_mm_mlp_adapter| {
            let recipe = BunnyRecipe {
                tune_mm_mlp_adapter: Some(tune_mm_mlp_adapter),
                gradient_checkpointing: false,
                ..BunnyRecipe::default()
            };
            let precision = Precision::uniform(WeightFormat::Bf16);
            MemoryPlan::new(&config(), &recipe, precision).kept
        };
        let places = TrainingArguments::default().per_device_train_batch_size as u64 * 2048;
        // Phi-2's weights need the normed, and what comes out of the nonlinearity.
        let of_weights = 32 * places * 2 * (2560 + 10_240);
        assert_eq!(kept(false) - kept(true), of_weights);
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
