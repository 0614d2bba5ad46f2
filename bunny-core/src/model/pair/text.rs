//! The text tower of a pair: words and positions, layers, and one place of them to a vector.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};

use crate::{
    config::TextConfig,
    model::tower::SiglipLayer,
    nn::{AttentionMask, Builder, Initial, Linear, Mask, Mode, Norm},
    ops,
};

/// Words and positions, layers, and one place to a vector.
#[derive(Module, Debug)]
pub struct TextTower<B: Backend> {
    /// Words and positions.
    pub embeddings: TextEmbeddings<B>,
    /// The layers.
    pub encoder: TextEncoder<B>,
    /// After the last layer.
    pub final_layer_norm: Norm<B>,
    /// To the vectors' channels. In files a SigLIP's is its `head`, a CLIP's stands beside the tower.
    pub head: Linear<B>,
}

/// One vector a token and one a place.
#[derive(Module, Debug)]
pub struct TextEmbeddings<B: Backend> {
    /// `[vocab, hidden]`.
    pub token_embedding: Table<B>,
    /// `[places, hidden]`.
    pub position_embedding: Table<B>,
}

/// Vectors by number.
#[derive(Module, Debug)]
pub struct Table<B: Backend> {
    /// `[rows, hidden]`.
    pub weight: Param<Tensor<B, 2>>,
}

/// The layers.
#[derive(Module, Debug)]
pub struct TextEncoder<B: Backend> {
    /// First to last.
    pub layers: Vec<SiglipLayer<B>>,
}

impl<B: Backend> TextTower<B> {
    /// A tower whose parameters are those below `builder`, but for its head, which `head` makes last.
    pub(super) fn new(
        config: &TextConfig,
        builder: &Builder<'_, B>,
        head: impl FnOnce() -> Linear<B>,
    ) -> Self {
        let sizes = &config.layers;
        let embeddings = builder.child("embeddings");
        let layers = builder.child("encoder").child("layers");
        let table = |name: &str, rows: usize| Table {
            weight: embeddings.child(name).addend(
                "weight",
                [rows, sizes.hidden_size],
                Initial::Normal(0.02),
            ),
        };
        Self {
            embeddings: TextEmbeddings {
                token_embedding: table("token_embedding", config.vocab_size),
                position_embedding: table("position_embedding", config.max_position_embeddings),
            },
            encoder: TextEncoder {
                layers: (0..sizes.num_hidden_layers)
                    .map(|layer| SiglipLayer::new(sizes, &layers.layer(layer)))
                    .collect(),
            },
            final_layer_norm: Norm::layer_norm(
                &builder.child("final_layer_norm"),
                sizes.hidden_size,
                sizes.layer_norm_eps,
            ),
            head: head(),
        }
    }

    /// Captions that fill all places, of which the last is read; a place sees all others, padding
    /// included, as SigLIP's do.
    ///
    /// # Shapes
    /// `[captions * places]` → `[captions, projection]`
    pub(super) fn last_of_all(&self, ids: &[i32]) -> Tensor<B, 2> {
        let positions = self.embeddings.position_embedding.weight.val();
        let places = positions.dims()[0];
        let states = self.states(ids, positions, Mask::Full);
        let [captions, _, hidden] = states.dims();
        // The norm is place by place, so the one place that is read is enough.
        self.project(states.narrow(1, places - 1, 1).reshape([captions, hidden]))
    }

    /// Captions of `places` places, of which the one numbered in `ends` is read; a place sees itself and
    /// those before it, as CLIP's do, so that what stands behind the end changes nothing.
    ///
    /// # Shapes
    /// `[captions * places]`, `[captions]` → `[captions, projection]`
    pub(super) fn ends_of(&self, ids: &[i32], places: usize, ends: &[usize]) -> Tensor<B, 2> {
        let positions = self.embeddings.position_embedding.weight.val();
        let states = self.states(ids, positions.narrow(0, 0, places), Mask::CAUSAL);
        let [captions, _, hidden] = states.dims();
        let rows: Vec<_> = ends
            .iter()
            .enumerate()
            .map(|(caption, end)| Some((caption * places + end) as u32))
            .collect();
        let states = states.reshape([captions * places, hidden]);
        self.project(ops::pick_rows(states, &rows))
    }

    /// # Shapes
    /// `[captions * places]`, `[places, hidden]` → `[captions, places, hidden]`
    fn states(&self, ids: &[i32], positions: Tensor<B, 2>, mask: Mask) -> Tensor<B, 3> {
        let [places, hidden] = positions.dims();
        let words = ops::token_rows(self.embeddings.token_embedding.weight.val(), ids);
        let captions = words.dims()[0] / places;
        let device = words.device();
        let mask = AttentionMask::new(mask, captions, places, places, &device);
        let mut states = words.reshape([captions, places, hidden]) + positions.unsqueeze();
        for layer in &self.encoder.layers {
            states = layer.forward(states, &mask);
        }
        states
    }

    /// # Shapes
    /// `[captions, hidden]` → `[captions, projection]`
    fn project(&self, states: Tensor<B, 2>) -> Tensor<B, 2> {
        let states = self.final_layer_norm.forward(states);
        self.head.forward(states, &Mode::INFERENCE)
    }
}
