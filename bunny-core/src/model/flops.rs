//! What passes through a model cost, in floating-point operations: what utilisation is reckoned by.
//!
//! Counted are products. One of `n` rows with a weight `[out, in]` takes `2 · n · out · in`: a
//! multiplication and an addition each. Attention of a sequence of `s` positions takes two products a
//! layer, queries with keys and shares with values, `2 · 2 · s² · heads · head_dim`; the half that a
//! causal mask hides is counted, as is usual (Chowdhery et al., "PaLM", 2022, appendix B). Norms,
//! activations, rotations and look-ups are not: they are a thousandth.
//!
//! ```text
//!               forward   gradient of the input   gradient of the weight   again, with checkpointing
//! product          1                1                 1 where it learns                1
//! attention        1                2                                                  1
//! head             1                1                 1 where it learns
//! frozen tower     1
//! ```
//!
//! A layer that is computed again on the way back is the machine's work, not the model's: the
//! utilisation of the model leaves it out (`checkpointing` false), that of the hardware counts it.

use super::{Projector, VisionTower};
use crate::{
    config::{BunnyConfig, DecoderConfig, ProjectorConfig, VisionConfig},
    nn::{NameTable, ParameterKind, ParameterSpec, describe},
};

/// What goes through a model together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Workload<'a> {
    /// Positions of each sequence, its pictures' included and padding left out.
    pub sequences: &'a [usize],
    /// Positions whose logits are formed; in training, those before an answer's tokens.
    pub predicted: usize,
    /// Pictures that are encoded.
    pub pictures: usize,
    /// Rank of the adapters beside the products of the decoder's layers; 0 without any.
    pub adapter_rank: usize,
}

/// What learns of a model, and so decides what its way back costs. Adapters learn where there are any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Learning {
    /// The vision tower.
    pub tower: bool,
    /// The projector.
    pub projector: bool,
    /// The language model: its layers and its head.
    pub language_model: bool,
}

/// What decides the cost of passes through a Bunny.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BunnyFlops {
    tower: TowerFlops,
    projector: ProjectorFlops,
    decoder: DecoderFlops,
    /// Features of a picture.
    features: usize,
}

impl BunnyConfig {
    /// What passes through this model cost.
    pub fn flops(&self) -> BunnyFlops {
        BunnyFlops {
            tower: self.vision.flops(),
            projector: self.projector.flops(),
            decoder: self.decoder.flops(),
            features: self.vision.tokens(),
        }
    }
}

impl BunnyFlops {
    /// Operations of a forward pass: tower and projector of all pictures, then the decoder.
    pub fn forward(&self, work: &Workload<'_>) -> u64 {
        work.pictures as u64 * self.tower.forward()
            + self.projector.forward(work.pictures * self.features)
            + self.decoder.forward(work)
    }

    /// Operations of the way back, without the forward pass before it. A tower that does not learn has
    /// none, and neither has a projector below which, and in which, nothing learns.
    pub fn backward(&self, work: &Workload<'_>, learning: Learning, checkpointing: bool) -> u64 {
        let tower = match learning.tower {
            true => work.pictures as u64 * self.tower.backward(),
            false => 0,
        };
        let features = work.pictures * self.features;
        tower
            + self.projector.backward(features, learning)
            + self.decoder.backward(work, learning, checkpointing)
    }
}

/// What decides the cost of passes through a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecoderFlops {
    /// Weights of the layers' products.
    weights: u64,
    /// Inputs and outputs of the layers' products: what an adapter of rank 1 has as weights.
    ends: u64,
    /// Channels of all layers' queries.
    queries: u64,
    /// Weights of the head.
    head: u64,
}

/// The parts of a decoder's forward pass.
struct DecoderPass {
    products: u64,
    adapters: u64,
    attention: u64,
    head: u64,
}

impl DecoderConfig {
    /// What passes through this decoder cost.
    pub fn flops(&self) -> DecoderFlops {
        let specs = self.describe(&NameTable::SAME);
        let within = || products(&specs).filter(|spec| spec.layer.is_some());
        let mut tables = specs
            .iter()
            .filter(|spec| spec.kind == ParameterKind::Table);
        DecoderFlops {
            weights: within().map(ParameterSpec::count).sum(),
            ends: within()
                .map(|spec| spec.shape.iter().sum::<usize>() as u64)
                .sum(),
            queries: (self.num_hidden_layers * self.query_size()) as u64,
            // The embedding, which is looked up in, is the head too where there is no other.
            head: tables.next_back().map_or(0, ParameterSpec::count),
        }
    }
}

impl DecoderFlops {
    fn pass(&self, work: &Workload<'_>) -> DecoderPass {
        let positions = work.sequences.iter().sum::<usize>() as u64;
        let squares: u64 = work.sequences.iter().map(|len| (len * len) as u64).sum();
        DecoderPass {
            products: 2 * positions * self.weights,
            adapters: 2 * positions * work.adapter_rank as u64 * self.ends,
            attention: 4 * squares * self.queries,
            head: 2 * work.predicted as u64 * self.head,
        }
    }

    /// Operations of a forward pass over embeddings.
    pub fn forward(&self, work: &Workload<'_>) -> u64 {
        let pass = self.pass(work);
        pass.products + pass.adapters + pass.attention + pass.head
    }

    /// Operations of the way back to the embeddings, without the forward pass before it; with
    /// `checkpointing` the layers' forward pass is in it once more.
    pub fn backward(&self, work: &Workload<'_>, learning: Learning, checkpointing: bool) -> u64 {
        let DecoderPass {
            products,
            adapters,
            attention,
            head,
        } = self.pass(work);
        let inputs = products + adapters + 2 * attention + head;
        let weights = match learning.language_model {
            true => products + adapters + head,
            false => adapters,
        };
        let again = match checkpointing {
            true => products + adapters + attention,
            false => 0,
        };
        inputs + weights + again
    }
}

/// What decides the cost of passes through a projector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProjectorFlops {
    /// Weights of its first product.
    first: u64,
    /// Weights of all others.
    others: u64,
}

impl ProjectorConfig {
    /// What passes through this projector cost.
    pub fn flops(&self) -> ProjectorFlops {
        let specs = describe(&NameTable::SAME, |builder| Projector::new(self, builder));
        let mut weights = products(&specs).map(ParameterSpec::count);
        ProjectorFlops {
            first: weights.next().unwrap_or(0),
            others: weights.sum(),
        }
    }
}

impl ProjectorFlops {
    /// Operations of a forward pass over so many features.
    pub fn forward(&self, features: usize) -> u64 {
        2 * features as u64 * (self.first + self.others)
    }

    /// Operations of the way back; as far as its first product's weights where the tower does not
    /// learn.
    pub fn backward(&self, features: usize, learning: Learning) -> u64 {
        let Self { first, others } = self;
        let inputs = match (learning.tower, learning.projector) {
            (true, _) => first + others,
            (false, true) => *others,
            (false, false) => 0,
        };
        let weights = match learning.projector {
            true => first + others,
            false => 0,
        };
        2 * features as u64 * (inputs + weights)
    }
}

/// What one picture costs in a vision tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TowerFlops {
    /// Operations that make channels of patches.
    patches: u64,
    /// Operations of the layers that take part.
    layers: u64,
}

impl VisionConfig {
    /// What passes through this tower cost.
    pub fn flops(&self) -> TowerFlops {
        let specs = describe(&NameTable::SAME, |builder| VisionTower::new(self, builder));
        let (within, patches): (Vec<_>, Vec<_>) =
            products(&specs).partition(|spec| spec.layer.is_some());
        let count = |specs: &[&ParameterSpec]| specs.iter().map(|spec| spec.count()).sum::<u64>();
        let positions = match self {
            Self::Siglip(_) => self.tokens(),
            // A class token goes along.
            Self::EvaClip(_) => self.tokens() + 1,
        };
        let layers = within.iter().filter_map(|spec| spec.layer).max();
        let channels = layers.map_or(0, |last| last + 1) * self.hidden_size();
        TowerFlops {
            patches: 2 * self.tokens() as u64 * count(&patches),
            layers: layers_forward(positions, count(&within), channels),
        }
    }
}

impl TowerFlops {
    /// Operations of one picture's forward pass.
    pub fn forward(&self) -> u64 {
        self.patches + self.layers
    }

    /// Operations of the way back of one picture, where all of the tower learns; nobody asks for the
    /// gradient of the picture.
    pub fn backward(&self) -> u64 {
        self.patches + 2 * self.layers
    }
}

/// Operations of a forward pass through layers of `weights` in products and of `channels`, all of them
/// together, over a sequence of `positions` each of which sees all.
pub fn layers_forward(positions: usize, weights: u64, channels: usize) -> u64 {
    let positions = positions as u64;
    2 * positions * weights + 4 * positions * positions * channels as u64
}

fn products(specs: &[ParameterSpec]) -> impl Iterator<Item = &ParameterSpec> {
    specs
        .iter()
        .filter(|spec| spec.kind == ParameterKind::Product)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{EvaClipConfig, MlpKind, SiglipConfig, presets::Preset};

    /// Sizes small enough to count by hand: a gated decoder of two layers, two query heads of four
    /// channels and one key head; a tower of two layers over four patches.
    fn config() -> BunnyConfig {
        let mut config = Preset::named("bunny-phi-2-siglip").unwrap().config();
        config.decoder = DecoderConfig {
            vocab_size: 10,
            hidden_size: 8,
            intermediate_size: 16,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            num_key_value_heads: 1,
            head_dim: 4,
            mlp: MlpKind::Gated,
            ..DecoderConfig::phi_2()
        };
        config.vision = VisionConfig::Siglip(SiglipConfig {
            hidden_size: 6,
            intermediate_size: 12,
            num_hidden_layers: 3, // the last one is not used
            num_attention_heads: 2,
            image_size: 28,
            patch_size: 14,
            ..SiglipConfig::so400m_patch14_384()
        });
        config.projector = ProjectorConfig::mlp2x_gelu(6, 8);
        config
    }

    /// A row of three words, and one of a word and a picture, of which four tokens are answers.
    const WORK: Workload<'static> = Workload {
        sequences: &[3, 5],
        predicted: 4,
        pictures: 1,
        adapter_rank: 0,
    };

    // A layer's weights: 8·8 + 2·(4·8) + 8·8 + 3·(8·16) = 576, eight positions, two layers, 2 each.
    const PRODUCTS: u64 = 18_432;
    // 3² + 5² = 34 pairs, 8 channels, two layers, 4 each.
    const ATTENTION: u64 = 2_176;
    // Four positions, ten tokens, 8 channels, 2 each.
    const HEAD: u64 = 640;
    // Four patches of 3·14·14 = 588 numbers to 6 channels, 2 each.
    const PATCHES: u64 = 28_224;
    // Two layers of four patches: 2·4·(4·36 + 2·72) in products, 4·16·6 in attention.
    const TOWER: u64 = PATCHES + 2 * (2_304 + 384);
    // Four features through weights of 6·8 and 8·8, 2 each.
    const PROJECTOR: u64 = 896;

    #[test]
    fn a_forward_pass_is_counted_as_by_hand() {
        let forward = PRODUCTS + ATTENTION + HEAD;
        assert_eq!(config().decoder.flops().forward(&WORK), forward);
        assert_eq!(config().flops().forward(&WORK), TOWER + PROJECTOR + forward);
        let words = Workload {
            pictures: 0,
            ..WORK
        };
        assert_eq!(config().flops().forward(&words), forward);
        let eva = EvaClipConfig {
            width: 8,
            layers: 3,
            head_width: 4,
            intermediate_size: 12,
            image_size: 28,
            patch_size: 14,
            rope_grid: 2,
        };
        // 2·4·588·8 for the patches; five positions: 2·5·(4·64 + 3·96) and 4·25·8 a block.
        let eva = VisionConfig::EvaClip(eva);
        assert_eq!(eva.flops().forward(), 37_632 + 2 * (5_440 + 800));
    }

    #[test]
    fn the_way_back_depends_on_what_learns() {
        let back = |learning, rank, checkpointing| {
            let work = Workload {
                adapter_rank: rank,
                ..WORK
            };
            config().flops().backward(&work, learning, checkpointing)
        };
        // Through the decoder to the projector, of which the first product's input is not asked for.
        let through = PRODUCTS + 2 * ATTENTION + HEAD;
        let projector = Learning {
            projector: true,
            ..Learning::default()
        };
        let of_projector = 2 * 4 * (48 + 64) + 2 * 4 * 64;
        assert_eq!(back(projector, 0, false), through + of_projector);
        // Ends of a layer's products: 16 + 2·12 + 16 + 3·24 = 128; of rank 2, eight positions, two
        // layers, 2 each; once for inputs and once for weights.
        let adapters = 8_192;
        assert_eq!(
            back(projector, 2, false),
            through + 2 * adapters + of_projector
        );
        let again = PRODUCTS + adapters + ATTENTION;
        assert_eq!(back(projector, 2, true), back(projector, 2, false) + again);
        let everything = Learning {
            tower: true,
            projector: true,
            language_model: true,
        };
        let decoder = 2 * (PRODUCTS + ATTENTION + HEAD);
        let tower = 2 * TOWER - PATCHES;
        assert_eq!(back(everything, 0, false), decoder + 2 * PROJECTOR + tower);
    }
}
