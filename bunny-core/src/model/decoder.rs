//! The decoder: embedding, layers of attention and MLP, final norm and head.
//!
//! One implementation for all families; what differs between them is data ([`DecoderConfig`]).

mod attention;
mod mlp;

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};

pub use attention::{AttentionInputs, SelfAttention, ThreeProducts};
pub use mlp::{Mlp, MlpInputs, TwoProducts};

use crate::{
    config::{BlockOrder, DecoderConfig, NormKind},
    nn::{
        AttentionMask, Builder, Embedding, KvCache, KvPass, LayerCache, Linear, LmHead, Mask, Mode,
        Norm, Phase, Positions, Rope, dropout,
    },
};

/// A decoder-only language model.
#[derive(Module, Debug)]
pub struct Decoder<B: Backend> {
    /// The model without its head; `model` is also what files call it.
    pub model: DecoderStack<B>,
    /// The head; absent where the embedding serves as one.
    pub lm_head: Option<LmHead<B>>,
    logits_divisor: f64,
}

/// Embedding, layers and final norm.
#[derive(Module, Debug)]
pub struct DecoderStack<B: Backend> {
    /// Token vectors.
    pub embed_tokens: Embedding<B>,
    /// The layers, first to last.
    pub layers: Vec<DecoderLayer<B>>,
    /// The norm after the last layer.
    pub norm: Norm<B>,
    rotary_dim: usize,
    rope_theta: f64,
    #[module(skip)]
    sliding_window: Option<usize>,
    embedding_scale: f64,
    embedding_dropout: f64,
}

/// What all layers share in one forward pass.
#[derive(Debug)]
pub struct ForwardContext<'a, B: Backend> {
    /// Rotary angles of the pass's positions.
    pub rope: Rope<B>,
    /// What each position may look at, where the keys are the pass's own.
    pub mask: AttentionMask<B>,
    /// Training or not.
    pub mode: &'a Mode,
}

/// Where a layer's keys and values are kept, in a pass of sequences of which some was read before.
#[derive(Debug)]
pub struct CachedLayer<'a, B: Backend> {
    /// Those of this layer.
    pub layer: &'a mut LayerCache<B>,
    /// Which rows of the pass are whose.
    pub pass: &'a KvPass<B>,
}

impl<B: Backend> Decoder<B> {
    /// A decoder whose parameters are those below `builder`.
    pub fn new(config: &DecoderConfig, builder: &Builder<'_, B>) -> Self {
        let (vocab, hidden) = (config.vocab_size, config.hidden_size);
        Self {
            model: DecoderStack::new(config, &builder.child("model")),
            lm_head: (!config.tie_word_embeddings)
                .then(|| LmHead::new(&builder.child("lm_head"), vocab, hidden)),
            logits_divisor: config.logits_divisor(),
        }
    }

    /// Scores of every next token.
    ///
    /// # Shapes
    /// `[rows, hidden]` (after the final norm) → `[rows, vocab]`, f32
    pub fn logits(&self, hidden: Tensor<B, 2>) -> Tensor<B, 2> {
        self.logits_in(Phase::Whole, hidden)
    }

    /// [`logits`](Self::logits) with the sums of a phase's rows.
    pub(crate) fn logits_in(&self, phase: Phase, hidden: Tensor<B, 2>) -> Tensor<B, 2> {
        let hidden = scaled(hidden, 1.0 / self.logits_divisor);
        match &self.lm_head {
            Some(head) => head.forward(hidden, phase),
            None => self.model.embed_tokens.logits(hidden, phase),
        }
    }
}

impl<B: Backend> DecoderStack<B> {
    fn new(config: &DecoderConfig, builder: &Builder<'_, B>) -> Self {
        let (vocab, hidden) = (config.vocab_size, config.hidden_size);
        let layers = builder.child("layers");
        Self {
            embed_tokens: Embedding::new(&builder.child("embed_tokens"), vocab, hidden),
            layers: (0..config.num_hidden_layers)
                .map(|layer| DecoderLayer::new(config, layer, &layers.layer(layer)))
                .collect(),
            norm: norm(config, &builder.child("norm")),
            rotary_dim: config.rotary_dim,
            rope_theta: config.rope_theta,
            sliding_window: config.sliding_window,
            embedding_scale: config.embedding_scale,
            embedding_dropout: config.embedding_dropout,
        }
    }

    /// The vectors of tokens.
    ///
    /// # Shapes
    /// `ids` → `[ids, hidden]`
    pub fn embed(&self, ids: &[i32]) -> Tensor<B, 2> {
        self.embed_tokens.forward(ids)
    }

    /// Runs all layers over embeddings of whole sequences.
    ///
    /// # Shapes
    /// `[batch, seq, hidden]` → `[batch, seq, hidden]`, after the final norm
    pub fn forward(
        &self,
        embeds: Tensor<B, 3>,
        positions: &Positions,
        mask: Mask,
        mode: &Mode,
    ) -> Tensor<B, 3> {
        let context = self.context(&embeds, positions, mask, mode);
        let mut hidden = self.enter(embeds, mode);
        for layer in &self.layers {
            hidden = layer.forward(hidden, None, &context);
        }
        self.norm.forward(hidden)
    }

    /// Runs all layers over the rows of a pass, whose keys and values are written to `cache`.
    ///
    /// # Shapes
    /// `[1, rows, hidden]` → `[1, rows, hidden]`, after the final norm
    pub(crate) fn forward_cached(
        &self,
        embeds: Tensor<B, 3>,
        cache: &mut KvCache<B>,
        pass: &KvPass<B>,
        mode: &Mode,
    ) -> Tensor<B, 3> {
        let positions = Positions::listed(pass.row_positions());
        let context = self.context(&embeds, &positions, Mask::CAUSAL, mode);
        let mut hidden = self.enter(embeds, mode);
        for (layer, cache) in self.layers.iter().zip(cache.layers_mut()) {
            let cached = CachedLayer { layer: cache, pass };
            hidden = layer.forward(hidden, Some(cached), &context);
        }
        self.norm.forward(hidden)
    }

    /// What all layers share in a pass over `embeds`.
    pub fn context<'a>(
        &self,
        embeds: &Tensor<B, 3>,
        positions: &Positions,
        mask: Mask,
        mode: &'a Mode,
    ) -> ForwardContext<'a, B> {
        let [batch, seq, _] = embeds.dims();
        let device = embeds.device();
        ForwardContext {
            rope: Rope::new(positions, self.rotary_dim, self.rope_theta, &device),
            mask: AttentionMask::new(mask, batch, seq, seq, &device).within(self.sliding_window),
            mode,
        }
    }

    /// What the first layer gets of embeddings, words' and pictures': scaled, and some dropped in
    /// training.
    ///
    /// # Shapes
    /// `[batch, seq, hidden]` → the same
    pub fn enter(&self, embeds: Tensor<B, 3>, mode: &Mode) -> Tensor<B, 3> {
        let embeds = scaled(embeds, self.embedding_scale);
        dropout(embeds, self.embedding_dropout, mode, u64::MAX)
    }
}

/// One layer: attention and MLP around the residual stream.
#[derive(Module, Debug)]
pub struct DecoderLayer<B: Backend> {
    /// The norm before attention, and before the MLP too where they run in parallel.
    pub input_layernorm: Norm<B>,
    /// The norm before the MLP of a sequential layer.
    pub post_attention_layernorm: Option<Norm<B>>,
    /// Attention.
    pub self_attn: SelfAttention<B>,
    /// The MLP.
    pub mlp: Mlp<B>,
    residual_scale: f64,
    residual_dropout: f64,
    index: u64,
}

impl<B: Backend> DecoderLayer<B> {
    fn new(config: &DecoderConfig, index: usize, builder: &Builder<'_, B>) -> Self {
        Self {
            input_layernorm: norm(config, &builder.child("input_layernorm")),
            post_attention_layernorm: match config.block {
                BlockOrder::Parallel => None,
                BlockOrder::Sequential => {
                    Some(norm(config, &builder.child("post_attention_layernorm")))
                }
            },
            self_attn: SelfAttention::new(config, &builder.child("self_attn")),
            mlp: Mlp::new(config, &builder.child("mlp")),
            residual_scale: config.residual_scale(),
            residual_dropout: config.residual_dropout,
            index: index as u64,
        }
    }

    /// The products, in the order in which they are built and described.
    pub fn products_mut(&mut self) -> impl Iterator<Item = &mut Linear<B>> {
        let (attention, mlp) = (&mut self.self_attn, &mut self.mlp);
        let inputs = attention.inputs.products_mut().into_iter();
        inputs
            .chain([&mut attention.o_proj])
            .chain(mlp.inputs.products_mut())
            .chain([&mut mlp.down_proj])
    }

    /// # Shapes
    /// `[batch, seq, hidden]` → the same
    pub fn forward(
        &self,
        hidden: Tensor<B, 3>,
        cached: Option<CachedLayer<'_, B>>,
        context: &ForwardContext<'_, B>,
    ) -> Tensor<B, 3> {
        let mode = context.mode;
        let drop = |branch, place| {
            let branch = scaled(branch, self.residual_scale);
            dropout(branch, self.residual_dropout, mode, 2 * self.index + place)
        };
        let normed = self.input_layernorm.forward(hidden.clone());
        match &self.post_attention_layernorm {
            None => {
                let attended = self.self_attn.forward(normed.clone(), cached, context);
                let widened = self.mlp.forward(normed, mode);
                drop(attended, 0) + drop(widened, 1) + hidden
            }
            Some(norm) => {
                let attended = self.self_attn.forward(normed, cached, context);
                let hidden = hidden + drop(attended, 0);
                let widened = self.mlp.forward(norm.forward(hidden.clone()), mode);
                hidden + drop(widened, 1)
            }
        }
    }
}

/// A tensor, `factor` times.
fn scaled<B: Backend, const D: usize>(tensor: Tensor<B, D>, factor: f64) -> Tensor<B, D> {
    match factor {
        1.0 => tensor,
        _ => tensor.mul_scalar(factor),
    }
}

fn norm<B: Backend>(config: &DecoderConfig, builder: &Builder<'_, B>) -> Norm<B> {
    match config.norm {
        NormKind::LayerNorm => Norm::layer_norm(builder, config.hidden_size, config.norm_eps),
        NormKind::RmsNorm => Norm::rms_norm(builder, config.hidden_size, config.norm_eps),
    }
}
