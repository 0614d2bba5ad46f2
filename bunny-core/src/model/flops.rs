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

use super::tower::SiglipLayer;
use crate::{
    config::{BunnyConfig, DecoderConfig, SiglipConfig, VisionConfig},
    nn::{NameTable, ParameterKind, ParameterSpec, Part, count, describe},
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

/// What a model's operations follow from: its products, from the list of its parameters, and the sizes
/// of its attention. Made once, it counts any work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFlops {
    decoder: DecoderSizes,
    projector: ProjectorSizes,
    tower: TowerFlops,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct DecoderSizes {
    /// Weights of the layers' products.
    products: u64,
    /// Rows and columns of those weights.
    ends: u64,
    /// Channels of all layers' queries.
    queries: u64,
    /// Weights of the head.
    head: u64,
}

/// Weights of the projector's first product, and of all others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ProjectorSizes {
    first: u64,
    others: u64,
}

/// The operations of a vision tower for one picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TowerFlops {
    /// Features of the picture.
    tokens: u64,
    forward: u64,
    /// Of the forward pass, what turns pixels into channels.
    patches: u64,
}

/// The parts of a decoder's forward pass.
struct DecoderFlops {
    /// Of the layers' own products.
    products: u64,
    /// Of the adapters beside them.
    adapters: u64,
    attention: u64,
    head: u64,
}

impl BunnyConfig {
    /// What counts the operations of this model.
    pub fn flops(&self) -> ModelFlops {
        let specs = self.describe();
        let of = |part| -> Vec<&ParameterSpec> {
            specs.iter().filter(|spec| spec.part == part).collect()
        };
        let projector = of(Part::Projector);
        let mut weights = products(&projector).map(ParameterSpec::count);
        ModelFlops {
            decoder: DecoderSizes::new(&self.decoder, &of(Part::LanguageModel)),
            projector: ProjectorSizes {
                first: weights.next().unwrap_or(0),
                others: weights.sum(),
            },
            tower: TowerFlops::new(&self.vision, &of(Part::VisionTower)),
        }
    }
}

impl DecoderConfig {
    /// What counts the operations of this model alone.
    pub fn flops(&self) -> ModelFlops {
        let specs = self.describe(&NameTable::SAME);
        ModelFlops {
            decoder: DecoderSizes::new(self, &specs.iter().collect::<Vec<_>>()),
            projector: ProjectorSizes::default(),
            tower: TowerFlops::default(),
        }
    }
}

impl VisionConfig {
    /// The operations of one picture.
    pub fn flops(&self) -> TowerFlops {
        TowerFlops::new(self, &self.describe().iter().collect::<Vec<_>>())
    }
}

fn products<'a>(specs: &[&'a ParameterSpec]) -> impl Iterator<Item = &'a ParameterSpec> {
    let products = specs
        .iter()
        .filter(|spec| spec.kind == ParameterKind::Product);
    products.copied()
}

impl ModelFlops {
    /// Operations of a forward pass: tower and projector of all pictures, then the decoder.
    pub fn forward(&self, work: &Workload<'_>) -> u64 {
        let ProjectorSizes { first, others } = self.projector;
        let pictures = work.pictures as u64;
        let decoder = self.decoder.flops(work);
        pictures * self.tower.forward
            + 2 * pictures * self.tower.tokens * (first + others)
            + decoder.products
            + decoder.adapters
            + decoder.attention
            + decoder.head
    }

    /// Operations of the way back, without the forward pass before it; with `checkpointing` the
    /// decoder layers' forward pass is in it once more. A tower that does not learn has none, and
    /// neither has a projector below which, and in which, nothing learns.
    pub fn backward(&self, work: &Workload<'_>, learning: Learning, checkpointing: bool) -> u64 {
        let pictures = work.pictures as u64;
        let tower = match learning.tower {
            true => pictures * self.tower.backward(),
            false => 0,
        };
        tower
            + 2 * pictures * self.tower.tokens * self.projector.backward(learning)
            + self.decoder.backward(work, learning, checkpointing)
    }
}

impl DecoderSizes {
    fn new(config: &DecoderConfig, specs: &[&ParameterSpec]) -> Self {
        let layers = || products(specs).filter(|spec| spec.layer.is_some());
        let mut tables = specs
            .iter()
            .filter(|spec| spec.kind == ParameterKind::Table);
        Self {
            products: layers().map(ParameterSpec::count).sum(),
            ends: layers()
                .map(|spec| spec.shape.iter().sum::<usize>() as u64)
                .sum(),
            queries: (config.num_hidden_layers * config.query_size()) as u64,
            // The embedding, which comes first, is looked up; where there is no other, it is the head.
            head: tables.next_back().map_or(0, |table| table.count()),
        }
    }

    fn flops(&self, work: &Workload<'_>) -> DecoderFlops {
        let positions = work.sequences.iter().sum::<usize>() as u64;
        let squares: u64 = work.sequences.iter().map(|len| (len * len) as u64).sum();
        DecoderFlops {
            products: 2 * positions * self.products,
            adapters: 2 * positions * work.adapter_rank as u64 * self.ends,
            attention: 4 * squares * self.queries,
            head: 2 * work.predicted as u64 * self.head,
        }
    }

    /// Operations of the way back to the embeddings.
    fn backward(&self, work: &Workload<'_>, learning: Learning, checkpointing: bool) -> u64 {
        let DecoderFlops {
            products,
            adapters,
            attention,
            head,
        } = self.flops(work);
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

impl ProjectorSizes {
    /// Weights that take part in the way back of one feature, each as often as it does; as far as the
    /// first product's where the tower does not learn.
    fn backward(&self, learning: Learning) -> u64 {
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
        inputs + weights
    }
}

impl TowerFlops {
    fn new(config: &VisionConfig, specs: &[&ParameterSpec]) -> Self {
        let (inside, outside): (Vec<&ParameterSpec>, Vec<_>) =
            products(specs).partition(|spec| spec.layer.is_some());
        let (passes, positions) = (config.passes() as u64, config.positions());
        let per_side = config.pass_size() / config.patch_size();
        let patches = 2 * (per_side * per_side) as u64 * count(outside);
        let attention = config.layers_used() as u64 * attention(positions, config.width());
        Self {
            tokens: config.tokens() as u64,
            forward: passes * (patches + 2 * positions as u64 * count(inside) + attention),
            patches: passes * patches,
        }
    }

    /// Of the forward pass.
    pub fn forward(&self) -> u64 {
        self.forward
    }

    /// Of the way back where all of the tower learns; nobody asks for the gradient of a picture.
    pub fn backward(&self) -> u64 {
        2 * self.forward - self.patches
    }
}

/// Operations of one layer's attention over a sequence of `positions`, every one of which sees all.
fn attention(positions: usize, channels: usize) -> u64 {
    4 * (positions * positions * channels) as u64
}

impl SiglipConfig {
    /// Operations of one layer's forward pass over a sequence of `positions`.
    pub fn layer_flops(&self, positions: usize) -> u64 {
        let specs = describe(&NameTable::SAME, |builder| SiglipLayer::new(self, builder));
        let weights = count(products(&specs.iter().collect::<Vec<_>>()));
        2 * positions as u64 * weights + attention(positions, self.hidden_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{EvaClipConfig, MlpKind, ProjectorConfig, presets::Preset};

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

    #[test]
    fn a_siglip_layer_alone_is_one_of_the_towers() {
        let VisionConfig::Siglip(tower) = config().vision else {
            panic!("a SigLIP")
        };
        assert_eq!(tower.layer_flops(4), 2_304 + 384);
    }

    #[test]
    fn a_tied_head_is_the_embedding() {
        let mut config = config();
        let untied = config.decoder.flops().forward(&WORK);
        config.decoder.tie_word_embeddings = true;
        assert_eq!(config.decoder.flops().forward(&WORK), untied);
    }
}
