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

use super::{
    BunnyConfig, DecoderConfig, EvaClipConfig, MlpKind, ProjectorConfig, ProjectorKind,
    SiglipConfig, VisionConfig,
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

impl BunnyConfig {
    /// Operations of a forward pass: tower and projector of all pictures, then the decoder.
    pub fn flops_forward(&self, work: &Workload<'_>) -> u64 {
        let features = work.pictures * self.vision.tokens();
        work.pictures as u64 * self.vision.flops_forward()
            + self.projector.flops_forward(features)
            + self.decoder.flops_forward(work)
    }

    /// Operations of the way back, without the forward pass before it. A tower that does not learn has
    /// none, and neither has a projector below which, and in which, nothing learns.
    pub fn flops_backward(
        &self,
        work: &Workload<'_>,
        learning: Learning,
        checkpointing: bool,
    ) -> u64 {
        let features = work.pictures * self.vision.tokens();
        let tower = match learning.tower {
            true => work.pictures as u64 * self.vision.flops_backward(),
            false => 0,
        };
        tower
            + self.projector.flops_backward(features, learning)
            + self.decoder.flops_backward(work, learning, checkpointing)
    }
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

impl DecoderConfig {
    /// The products of one layer, each as `[out, in]`.
    pub fn layer_products(&self) -> impl Iterator<Item = [usize; 2]> {
        let (hidden, wide) = (self.hidden_size, self.intermediate_size);
        let (query, key) = (self.query_size(), self.key_value_size());
        let widening = match self.mlp {
            MlpKind::Plain => 1,
            MlpKind::Gated => 2,
        };
        [
            [query, hidden],
            [key, hidden],
            [key, hidden],
            [hidden, query],
        ]
        .into_iter()
        .chain(std::iter::repeat_n([wide, hidden], widening))
        .chain([[hidden, wide]])
    }

    fn flops(&self, work: &Workload<'_>) -> DecoderFlops {
        let layers = self.num_hidden_layers as u64;
        let positions = work.sequences.iter().sum::<usize>() as u64;
        let squares: u64 = work.sequences.iter().map(|len| (len * len) as u64).sum();
        let weights: usize = self.layer_products().map(|[out, from]| out * from).sum();
        let ends: usize = self.layer_products().map(|[out, from]| out + from).sum();
        DecoderFlops {
            products: 2 * positions * layers * weights as u64,
            adapters: 2 * positions * layers * (work.adapter_rank * ends) as u64,
            attention: 4 * squares * layers * self.query_size() as u64,
            head: 2 * (work.predicted * self.vocab_size * self.hidden_size) as u64,
        }
    }

    /// Operations of a forward pass over embeddings.
    pub fn flops_forward(&self, work: &Workload<'_>) -> u64 {
        let flops = self.flops(work);
        flops.products + flops.adapters + flops.attention + flops.head
    }

    /// Operations of the way back to the embeddings, without the forward pass before it; with
    /// `checkpointing` the layers' forward pass is in it once more.
    pub fn flops_backward(
        &self,
        work: &Workload<'_>,
        learning: Learning,
        checkpointing: bool,
    ) -> u64 {
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

impl ProjectorConfig {
    /// The weights of its first product, and of all others.
    fn weights(&self) -> [u64; 2] {
        let first = (self.input * self.output) as u64;
        let other = (self.output * self.output) as u64;
        match self.kind {
            ProjectorKind::Identity => [0, 0],
            ProjectorKind::Linear => [first, 0],
            ProjectorKind::Mlp { depth } => [first, (depth as u64 - 1) * other],
        }
    }

    /// Operations of a forward pass over so many features.
    pub fn flops_forward(&self, features: usize) -> u64 {
        2 * features as u64 * self.weights().iter().sum::<u64>()
    }

    /// Operations of the way back; as far as its first product's weights where the tower does not
    /// learn.
    pub fn flops_backward(&self, features: usize, learning: Learning) -> u64 {
        let [first, others] = self.weights();
        let inputs = match (learning.tower, learning.projector) {
            (true, _) => first + others,
            (false, true) => others,
            (false, false) => 0,
        };
        let weights = match learning.projector {
            true => first + others,
            false => 0,
        };
        2 * features as u64 * (inputs + weights)
    }
}

impl VisionConfig {
    /// Operations of one picture's forward pass.
    pub fn flops_forward(&self) -> u64 {
        match self {
            Self::Siglip(siglip) => siglip.flops_forward(),
            Self::EvaClip(eva) => eva.flops_forward(),
        }
    }

    /// Operations of the way back of one picture, where all of the tower learns.
    pub fn flops_backward(&self) -> u64 {
        match self {
            Self::Siglip(siglip) => siglip.flops_backward(),
            Self::EvaClip(eva) => eva.flops_backward(),
        }
    }
}

/// Operations of one layer's forward pass over a sequence of `positions`, every one of which sees all:
/// `weights` in products of `hidden` channels.
fn layer(positions: usize, weights: usize, hidden: usize) -> u64 {
    let positions = positions as u64;
    2 * positions * weights as u64 + 4 * positions * positions * hidden as u64
}

/// Operations that turn `tokens` patches of three colours into `hidden` channels.
fn patches(tokens: usize, side: usize, hidden: usize) -> u64 {
    2 * (tokens * 3 * side * side * hidden) as u64
}

/// Those of the way back where everything learns; nobody asks for the gradient of a picture.
fn backward(forward: u64, patches: u64) -> u64 {
    2 * forward - patches
}

impl SiglipConfig {
    /// Operations of one layer's forward pass over a sequence of `positions`.
    pub fn layer_flops(&self, positions: usize) -> u64 {
        let (hidden, wide) = (self.hidden_size, self.intermediate_size);
        layer(positions, 4 * hidden * hidden + 2 * hidden * wide, hidden)
    }

    fn patch_flops(&self) -> u64 {
        patches(self.tokens(), self.patch_size, self.hidden_size)
    }

    /// Operations of one picture's forward pass through the layers that take part.
    pub fn flops_forward(&self) -> u64 {
        self.patch_flops() + self.layers_used() as u64 * self.layer_flops(self.tokens())
    }

    /// Operations of the way back of one picture, where all of the tower learns.
    pub fn flops_backward(&self) -> u64 {
        backward(self.flops_forward(), self.patch_flops())
    }
}

impl EvaClipConfig {
    fn patch_flops(&self) -> u64 {
        patches(self.tokens(), self.patch_size, self.width)
    }

    /// Operations of one picture's forward pass through the blocks that take part; a class token goes
    /// along.
    pub fn flops_forward(&self) -> u64 {
        let (width, wide) = (self.width, self.intermediate_size);
        let block = layer(
            self.tokens() + 1,
            4 * width * width + 3 * width * wide,
            width,
        );
        self.patch_flops() + self.layers_used() as u64 * block
    }

    /// Operations of the way back of one picture, where all of the tower learns.
    pub fn flops_backward(&self) -> u64 {
        backward(self.flops_forward(), self.patch_flops())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::presets::Preset;

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
        assert_eq!(config().decoder.flops_forward(&WORK), forward);
        assert_eq!(config().flops_forward(&WORK), TOWER + PROJECTOR + forward);
        let words = Workload {
            pictures: 0,
            ..WORK
        };
        assert_eq!(config().flops_forward(&words), forward);
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
        assert_eq!(eva.flops_forward(), 37_632 + 2 * (5_440 + 800));
    }

    #[test]
    fn the_way_back_depends_on_what_learns() {
        let back = |learning, rank, checkpointing| {
            let work = Workload {
                adapter_rank: rank,
                ..WORK
            };
            config().flops_backward(&work, learning, checkpointing)
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
