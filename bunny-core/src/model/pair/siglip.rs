//! Both towers of a SigLIP, named as in `transformers`' `SiglipModel`.
//!
//! A picture's vector is what a learned query finds in its patches, a caption's is made of its last place.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};

use super::{TextTower, whole};
use crate::{
    config::{SiglipConfig, TextConfig},
    model::tower::{Siglip, SiglipMlp},
    nn::{
        AttentionMask, Builder, Initial, Linear, Mask, Mode, Norm, Operands, Phase, Weight,
        attention, split_heads,
    },
};

/// Pictures and captions to vectors in one space.
#[derive(Module, Debug)]
pub struct SiglipPair<B: Backend> {
    /// The vision tower with all its layers.
    pub tower: Siglip<B>,
    /// What makes one vector of a picture's features.
    pub head: PoolingHead<B>,
    /// The text tower.
    pub text_model: TextTower<B>,
    /// `t'`, `[1]`: the logarithm of what products are multiplied with.
    pub logit_scale: Param<Tensor<B, 1>>,
    /// `b`, `[1]`: what is added to them.
    pub logit_bias: Param<Tensor<B, 1>>,
}

/// A learned query that attends to all features, and an MLP
/// (`SiglipMultiheadAttentionPoolingHead`).
#[derive(Module, Debug)]
pub struct PoolingHead<B: Backend> {
    /// The query, `[1, 1, hidden]`.
    pub probe: Param<Tensor<B, 3>>,
    /// Attention.
    pub attention: PoolingAttention<B>,
    /// Before the MLP.
    pub layernorm: Norm<B>,
    /// The MLP.
    pub mlp: SiglipMlp<B>,
}

/// `torch.nn.MultiheadAttention`: the weights of queries, keys and values in one.
#[derive(Module, Debug)]
pub struct PoolingAttention<B: Backend> {
    /// `[3 * hidden, hidden]`.
    pub in_proj_weight: Weight<B>,
    /// `[3 * hidden]`.
    pub in_proj_bias: Param<Tensor<B, 1>>,
    /// Behind the attention.
    pub out_proj: Linear<B>,
    heads: usize,
    #[module(skip)]
    operands: Operands,
}

/// The paper's first `t'` and `b`: most pairs are wrong ones, so that all are thought so at first.
const INITIAL_SCALE: f32 = std::f32::consts::LN_10;
const INITIAL_BIAS: f32 = -10.0;

impl<B: Backend> SiglipPair<B> {
    /// Towers whose parameters are those below `builder`.
    pub fn new(vision: &SiglipConfig, text: &TextConfig, builder: &Builder<'_, B>) -> Self {
        let head = builder.child("vision_model").child("head");
        let text_model = builder.child("text_model");
        let (inputs, outputs) = (text.layers.hidden_size, vision.hidden_size);
        Self {
            tower: Siglip::new(&whole(vision), builder),
            head: PoolingHead::new(vision, &head),
            text_model: TextTower::new(text, &text_model, || {
                Linear::new(&text_model.child("head"), inputs, outputs, true)
            }),
            logit_scale: builder.norm("logit_scale", 1, Initial::Constant(INITIAL_SCALE)),
            logit_bias: builder.norm("logit_bias", 1, Initial::Constant(INITIAL_BIAS)),
        }
    }

    /// One vector a picture.
    ///
    /// # Shapes
    /// `[pictures, 3, size, size]` → `[pictures, hidden]`
    pub fn pictures(&self, pixels: Tensor<B, 4>) -> Tensor<B, 2> {
        let features = self.tower.forward(pixels);
        let norm = &self.tower.vision_model.post_layernorm;
        self.head.forward(norm.forward(features))
    }

    /// One vector a caption.
    ///
    /// # Shapes
    /// `[captions * places]` → `[captions, hidden]`
    pub fn captions(&self, ids: &[i32]) -> Tensor<B, 2> {
        self.text_model.last_of_all(ids)
    }
}

impl<B: Backend> PoolingHead<B> {
    fn new(config: &SiglipConfig, builder: &Builder<'_, B>) -> Self {
        let hidden = config.hidden_size;
        let attention = builder.child("attention");
        Self {
            probe: builder.addend("probe", [1, 1, hidden], Initial::Normal(0.02)),
            attention: PoolingAttention {
                in_proj_weight: attention.weight(
                    "in_proj_weight",
                    [3 * hidden, hidden],
                    Initial::Normal(0.02),
                ),
                in_proj_bias: attention.bias("in_proj_bias", 3 * hidden),
                out_proj: Linear::new(&attention.child("out_proj"), hidden, hidden, true),
                heads: config.num_attention_heads,
                operands: builder.operands(),
            },
            layernorm: Norm::layer_norm(&builder.child("layernorm"), hidden, config.layer_norm_eps),
            mlp: SiglipMlp::new(config, &builder.child("mlp")),
        }
    }

    /// # Shapes
    /// `[pictures, patches, hidden]` → `[pictures, hidden]`
    fn forward(&self, features: Tensor<B, 3>) -> Tensor<B, 2> {
        let [pictures, _, hidden] = features.dims();
        let probe = self.probe.val().expand([pictures, 1, hidden]);
        let pooled = self.attention.forward(probe, features); // [pictures, 1, hidden]
        let normed = self.layernorm.forward(pooled.clone());
        (pooled + self.mlp.forward(normed)).reshape([pictures, hidden])
    }
}

impl<B: Backend> PoolingAttention<B> {
    /// # Shapes
    /// queries `[batch, q, hidden]`, keys and values `[batch, kv, hidden]` → `[batch, q, hidden]`
    fn forward(&self, query: Tensor<B, 3>, features: Tensor<B, 3>) -> Tensor<B, 3> {
        let [batch, queries, hidden] = query.dims();
        let keys = features.dims()[1];
        let bias = self.in_proj_bias.val();
        let project = |input: Tensor<B, 3>, part: usize| {
            let range = part * hidden..(part + 1) * hidden;
            let bias = bias.clone().slice([range.clone()]);
            let weight = &self.in_proj_weight;
            let projected = weight.linear_rows(Phase::Whole, range, input, Some(bias));
            split_heads(projected, hidden / self.heads)
        };
        let mask = AttentionMask::new(Mask::Full, batch, queries, keys, &features.device());
        let attended = attention(
            project(query, 0),
            project(features.clone(), 1),
            project(features, 2),
            &mask,
            self.operands,
        );
        self.out_proj.forward(attended, &Mode::INFERENCE)
    }
}
