//! EVA02-CLIP's vision transformer: sub-LN blocks with SwiGLU and two-dimensional rotary positions.
//!
//! Bunny skips the last block and the final norm, and drops the class token (the reference's
//! `EVAVisionTransformer.forward_features` with `return_all_features`).

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};

use super::patches::PatchEmbedding;
use crate::{
    config::EvaClipConfig,
    nn::{
        Activation, AttentionMask, Builder, Initial, Linear, Mask, Mode, Norm, Operands, attention,
        split_heads,
    },
    ops::rotate_pairs,
};

/// Added to the variance in every norm.
const EPSILON: f64 = 1e-6;
/// Base of the rotary frequencies.
const THETA: f32 = 10_000.0;

/// The tower; its fields are called as in published files.
#[derive(Module, Debug)]
pub struct EvaClip<B: Backend> {
    /// Everything; the wrapper is the reference's.
    pub model: EvaTransformer<B>,
}

/// Patches, class token, positions and blocks.
#[derive(Module, Debug)]
pub struct EvaTransformer<B: Backend> {
    /// `[1, 1, width]`.
    pub cls_token: Param<Tensor<B, 3>>,
    /// `[1, 1 + patches, width]`.
    pub pos_embed: Param<Tensor<B, 3>>,
    /// Patches to vectors.
    pub patch_embed: EvaPatchEmbed<B>,
    /// The blocks that take part.
    pub blocks: Vec<EvaBlock<B>>,
    /// `[1, 1, 1 + patches, head_width]`, each angle twice in a row.
    cos: Tensor<B, 4>,
    sin: Tensor<B, 4>,
}

/// Patches to vectors.
#[derive(Module, Debug)]
pub struct EvaPatchEmbed<B: Backend> {
    /// The convolution.
    pub proj: PatchEmbedding<B>,
}

impl<B: Backend> EvaClip<B> {
    /// A tower whose parameters are those below `builder`.
    pub fn new(config: &EvaClipConfig, builder: &Builder<'_, B>) -> Self {
        let width = config.width;
        let builder = builder.child("model");
        let [cos, sin] = rotary_tables(config, &builder);
        Self {
            model: EvaTransformer {
                cls_token: builder.addend("cls_token", [1, 1, width], Initial::Normal(0.02)),
                pos_embed: builder.addend(
                    "pos_embed",
                    [1, config.tokens() + 1, width],
                    Initial::Normal(0.02),
                ),
                patch_embed: EvaPatchEmbed {
                    proj: PatchEmbedding::new(
                        &builder.child("patch_embed").child("proj"),
                        width,
                        config.patch_size,
                        true,
                    ),
                },
                blocks: (0..config.layers_used())
                    .map(|block| EvaBlock::new(config, &builder.child("blocks").layer(block)))
                    .collect(),
                cos,
                sin,
            },
        }
    }

    /// The output of the last block but one, without the class token.
    ///
    /// # Shapes
    /// `[pictures, 3, size, size]` → `[pictures, patches, width]`
    pub fn forward(&self, pixels: Tensor<B, 4>) -> Tensor<B, 3> {
        let model = &self.model;
        let patches = model.patch_embed.proj.forward(pixels);
        let [pictures, tokens, width] = patches.dims();
        let class = model.cls_token.val().expand([pictures, 1, width]);
        let mut hidden = Tensor::cat(vec![class, patches], 1) + model.pos_embed.val();
        let mask = AttentionMask::new(
            Mask::Full,
            pictures,
            tokens + 1,
            tokens + 1,
            &hidden.device(),
        );
        for block in &model.blocks {
            hidden = block.forward(hidden, &mask, &model.cos, &model.sin);
        }
        hidden.narrow(1, 1, tokens)
    }
}

/// One pre-norm block with norms inside attention and MLP.
#[derive(Module, Debug)]
pub struct EvaBlock<B: Backend> {
    /// Before attention.
    pub norm1: Norm<B>,
    /// Attention.
    pub attn: EvaAttention<B>,
    /// Before the MLP.
    pub norm2: Norm<B>,
    /// The MLP.
    pub mlp: EvaMlp<B>,
}

/// Multi-head attention; the key projection has no bias.
#[derive(Module, Debug)]
pub struct EvaAttention<B: Backend> {
    /// Queries; files call the bias `q_bias`.
    pub q_proj: Linear<B>,
    /// Keys.
    pub k_proj: Linear<B>,
    /// Values; files call the bias `v_bias`.
    pub v_proj: Linear<B>,
    /// Before the output projection.
    pub inner_attn_ln: Norm<B>,
    /// Back to the residual stream.
    pub proj: Linear<B>,
    head_width: usize,
    #[module(skip)]
    operands: Operands,
}

/// `w3(norm(silu(w1 x) * w2 x))`.
#[derive(Module, Debug)]
pub struct EvaMlp<B: Backend> {
    /// The gate.
    pub w1: Linear<B>,
    /// What is gated.
    pub w2: Linear<B>,
    /// Before the last product.
    pub ffn_ln: Norm<B>,
    /// Back to the residual stream.
    pub w3: Linear<B>,
}

impl<B: Backend> EvaBlock<B> {
    fn new(config: &EvaClipConfig, builder: &Builder<'_, B>) -> Self {
        let (width, wide) = (config.width, config.intermediate_size);
        let attn = builder.child("attn");
        let mlp = builder.child("mlp");
        // Files keep the biases of queries and values beside the projections, not in them.
        let biased = |name: &str, bias: &str| {
            let mut linear = Linear::new(&attn.child(name), width, width, false);
            linear.bias = Some(attn.bias(bias, width));
            linear
        };
        Self {
            norm1: Norm::layer_norm(&builder.child("norm1"), width, EPSILON),
            attn: EvaAttention {
                q_proj: biased("q_proj", "q_bias"),
                k_proj: Linear::new(&attn.child("k_proj"), width, width, false),
                v_proj: biased("v_proj", "v_bias"),
                inner_attn_ln: Norm::layer_norm(&attn.child("inner_attn_ln"), width, EPSILON),
                proj: Linear::new(&attn.child("proj"), width, width, true),
                head_width: config.head_width,
                operands: builder.operands(),
            },
            norm2: Norm::layer_norm(&builder.child("norm2"), width, EPSILON),
            mlp: EvaMlp {
                w1: Linear::new(&mlp.child("w1"), width, wide, true),
                w2: Linear::new(&mlp.child("w2"), width, wide, true),
                ffn_ln: Norm::layer_norm(&mlp.child("ffn_ln"), wide, EPSILON),
                w3: Linear::new(&mlp.child("w3"), wide, width, true),
            },
        }
    }

    /// # Shapes
    /// `[pictures, 1 + patches, width]` → the same
    fn forward(
        &self,
        hidden: Tensor<B, 3>,
        mask: &AttentionMask<B>,
        cos: &Tensor<B, 4>,
        sin: &Tensor<B, 4>,
    ) -> Tensor<B, 3> {
        let normed = self.norm1.forward(hidden.clone());
        let hidden = hidden + self.attn.forward(normed, mask, cos, sin);
        let normed = self.norm2.forward(hidden.clone());
        hidden + self.mlp.forward(normed)
    }
}

impl<B: Backend> EvaAttention<B> {
    /// # Shapes
    /// `[pictures, 1 + patches, width]` → the same
    fn forward(
        &self,
        input: Tensor<B, 3>,
        mask: &AttentionMask<B>,
        cos: &Tensor<B, 4>,
        sin: &Tensor<B, 4>,
    ) -> Tensor<B, 3> {
        let mode = Mode::PREFILL;
        // [pictures, heads, 1 + patches, head_width]
        let heads = |projected| split_heads(projected, self.head_width);
        let query = heads(self.q_proj.forward(input.clone(), &mode));
        let key = heads(self.k_proj.forward(input.clone(), &mode));
        let value = heads(self.v_proj.forward(input, &mode));
        let attended = attention(
            rotate_pairs(query, cos, sin),
            rotate_pairs(key, cos, sin),
            value,
            mask,
            self.operands,
        );
        self.proj
            .forward(self.inner_attn_ln.forward(attended), &mode)
    }
}

impl<B: Backend> EvaMlp<B> {
    /// # Shapes
    /// `[pictures, 1 + patches, width]` → the same
    fn forward(&self, input: Tensor<B, 3>) -> Tensor<B, 3> {
        let mode = Mode::PREFILL;
        let gate = self.w1.forward(input.clone(), &mode);
        let wide = Activation::Silu.gate(gate, self.w2.forward(input, &mode));
        self.w3.forward(self.ffn_ln.forward(wide), &mode)
    }
}

/// Cosines and sines for every token, `[1, 1, 1 + patches, head_width]`: the patch's row gives the
/// angles of a head's first half of channels, its column those of the second, each frequency in two
/// adjacent channels, positions stretched from the grid the tower was pre-trained on. The class
/// token, in front, is not turned.
///
/// ```text
/// channels:  row·f0 row·f0 row·f1 row·f1 … | column·f0 column·f0 …
/// ```
fn rotary_tables<B: Backend>(
    config: &EvaClipConfig,
    builder: &Builder<'_, B>,
) -> [Tensor<B, 4>; 2] {
    let (grid, half) = (config.grid(), config.head_width / 2);
    let position = |at: usize| at as f32 / grid as f32 * config.rope_grid as f32;
    let angle = move |at: usize, channel: usize| {
        position(at) / THETA.powf((channel / 2 * 2) as f32 / half as f32)
    };
    let angles = (0..grid).flat_map(|row| {
        (0..grid).flat_map(move |column| {
            (0..half)
                .map(move |channel| angle(row, channel))
                .chain((0..half).map(move |channel| angle(column, channel)))
        })
    });
    let class = std::iter::repeat_n(0f32, config.head_width);
    let angles = class.chain(angles);
    let shape = [1, 1, 1 + config.tokens(), config.head_width];
    [f32::cos, f32::sin]
        .map(|function| builder.constant(shape, || angles.clone().map(function).collect()))
}
