//! What makes one decoder differ from another.

use crate::{
    config::{ConfigError, Fields},
    nn::Activation,
};

/// The normalisation before each branch and after the last layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NormKind {
    /// Mean and variance, with weight and bias.
    LayerNorm,
    /// Root mean square, with weight only.
    RmsNorm,
}

/// How attention and MLP share the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockOrder {
    /// One norm feeds both: `x + attention(n) + mlp(n)` (Phi).
    Parallel,
    /// `x += attention(norm(x)); x += mlp(norm(x))` (Llama and its kin).
    Sequential,
}

/// The MLP's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MlpKind {
    /// `down(activation(up(x)))`.
    Plain,
    /// `down(activation(gate(x)) * up(x))`.
    Gated,
}

impl MlpKind {
    /// How many products it has.
    pub fn products(self) -> usize {
        match self {
            Self::Plain => 2,
            Self::Gated => 3,
        }
    }
}

/// The sizes and choices of a decoder-only language model.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// Rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; each serves `num_attention_heads / num_key_value_heads` query heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// The longest sequence the model has positions for.
    pub max_position_embeddings: usize,
    /// The kind of norm.
    pub norm: NormKind,
    /// Added to the variance in every norm.
    pub norm_eps: f64,
    /// How a layer's two branches are arranged.
    pub block: BlockOrder,
    /// The shape of the MLP.
    pub mlp: MlpKind,
    /// The MLP's nonlinearity.
    pub activation: Activation,
    /// How many of a head's first channels are rotated; even.
    pub rotary_dim: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Whether the query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub output_bias: bool,
    /// Whether the MLP's projections have biases.
    pub mlp_bias: bool,
    /// Whether queries, keys and values are one product, and the two of a gated MLP another.
    pub fused_products: bool,
    /// How many positions a token sees, itself included; all before it unless given.
    pub sliding_window: Option<usize>,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// What embeddings are multiplied with before the first layer, pictures' included.
    pub embedding_scale: f64,
    /// What both branches of a layer are multiplied with, over the root of how many layers there are.
    pub depth_scale: Option<f64>,
    /// Before the head, vectors are divided by how many times wider than this they are.
    pub logits_width: Option<usize>,
    /// Dropout on both branches' outputs, in training only (0.1 in Phi-2).
    pub residual_dropout: f64,
    /// Dropout on the embeddings, in training only.
    pub embedding_dropout: f64,
    /// Dropout on the attention's weights, in training only.
    pub attention_dropout: f64,
}

impl DecoderConfig {
    /// Phi-1.5 as Bunny uses it: rows cut to the tokenizer's 50,295 tokens.
    pub fn phi_1_5() -> Self {
        Self {
            hidden_size: 2048,
            intermediate_size: 8192,
            num_hidden_layers: 24,
            head_dim: 64,
            residual_dropout: 0.0,
            ..Self::phi_2()
        }
    }

    /// Phi-2 as Bunny uses it: rows cut to the tokenizer's 50,295 tokens.
    pub fn phi_2() -> Self {
        Self {
            vocab_size: 50295,
            hidden_size: 2560,
            intermediate_size: 10240,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: 32,
            head_dim: 80,
            max_position_embeddings: 2048,
            norm: NormKind::LayerNorm,
            norm_eps: 1e-5,
            block: BlockOrder::Parallel,
            mlp: MlpKind::Plain,
            activation: Activation::GeluTanh,
            rotary_dim: 32,
            rope_theta: 10_000.0,
            qkv_bias: true,
            output_bias: true,
            mlp_bias: true,
            fused_products: false,
            sliding_window: None,
            tie_word_embeddings: false,
            embedding_scale: 1.0,
            depth_scale: None,
            logits_width: None,
            residual_dropout: 0.1,
            embedding_dropout: 0.0,
            attention_dropout: 0.0,
        }
    }

    /// StableLM-2-1.6B.
    pub fn stablelm_2_1_6b() -> Self {
        Self {
            norm: NormKind::LayerNorm,
            norm_eps: 1e-5,
            vocab_size: 100_352,
            intermediate_size: 5632,
            num_attention_heads: 32,
            num_key_value_heads: 32,
            head_dim: 64,
            rotary_dim: 16,
            rope_theta: 10_000.0,
            max_position_embeddings: 4096,
            ..Self::qwen1_5_1_8b()
        }
    }

    /// Qwen1.5-1.8B as Bunny uses it: rows cut to the tokenizer's 151,646 tokens.
    pub fn qwen1_5_1_8b() -> Self {
        Self {
            vocab_size: 151_646,
            hidden_size: 2048,
            intermediate_size: 5504,
            num_hidden_layers: 24,
            num_attention_heads: 16,
            num_key_value_heads: 16,
            head_dim: 128,
            rotary_dim: 128,
            rope_theta: 1e6,
            max_position_embeddings: 32_768,
            norm_eps: 1e-6,
            qkv_bias: true,
            ..Self::llama_3_8b()
        }
    }

    /// MiniCPM-2B.
    pub fn minicpm_2b() -> Self {
        Self {
            vocab_size: 122_753,
            hidden_size: 2304,
            intermediate_size: 5760,
            num_hidden_layers: 40,
            num_attention_heads: 36,
            num_key_value_heads: 36,
            head_dim: 64,
            rotary_dim: 64,
            rope_theta: 10_000.0,
            max_position_embeddings: 2048,
            tie_word_embeddings: true,
            embedding_scale: 12.0,
            depth_scale: Some(1.4),
            logits_width: Some(256),
            ..Self::llama_3_8b()
        }
    }

    /// Phi-3-mini-4k with the rows of its present tokenizer, 32,011.
    pub fn phi_3_mini() -> Self {
        Self {
            vocab_size: 32_011,
            hidden_size: 3072,
            intermediate_size: 8192,
            num_attention_heads: 32,
            num_key_value_heads: 32,
            head_dim: 96,
            rotary_dim: 96,
            rope_theta: 10_000.0,
            max_position_embeddings: 4096,
            fused_products: true,
            sliding_window: Some(2047),
            ..Self::llama_3_8b()
        }
    }

    /// Llama-3-8B.
    pub fn llama_3_8b() -> Self {
        Self {
            vocab_size: 128_256,
            hidden_size: 4096,
            intermediate_size: 14_336,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: 8,
            head_dim: 128,
            rotary_dim: 128,
            rope_theta: 500_000.0,
            max_position_embeddings: 8192,
            norm: NormKind::RmsNorm,
            block: BlockOrder::Sequential,
            mlp: MlpKind::Gated,
            activation: Activation::Silu,
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            residual_dropout: 0.0,
            ..Self::phi_2()
        }
    }

    /// What both branches of a layer are multiplied with.
    pub fn residual_scale(&self) -> f64 {
        let layers = self.num_hidden_layers as f64;
        self.depth_scale.map_or(1.0, |scale| scale / layers.sqrt())
    }

    /// What the last vectors are divided by before the head.
    pub fn logits_divisor(&self) -> f64 {
        let width = self.logits_width.unwrap_or(self.hidden_size);
        self.hidden_size as f64 / width as f64
    }

    /// Width of all query heads together.
    pub fn query_size(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub fn key_value_size(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Bytes of keys and values that one token adds to the cache, at `bytes` per number.
    pub fn kv_bytes_per_token(&self, bytes: usize) -> usize {
        2 * self.num_hidden_layers * self.key_value_size() * bytes
    }

    /// Checks what the sizes of one decoder demand of each other; `fields` is named in errors.
    ///
    /// # Errors
    /// When they do not fit.
    pub fn validate(&self, fields: &Fields) -> Result<(), ConfigError> {
        if !self
            .num_attention_heads
            .is_multiple_of(self.num_key_value_heads)
        {
            return Err(fields.invalid(
                "num_key_value_heads",
                format!(
                    "is {}, which does not divide the {} attention heads",
                    self.num_key_value_heads, self.num_attention_heads
                ),
            ));
        }
        if self.rotary_dim == 0
            || !self.rotary_dim.is_multiple_of(2)
            || self.rotary_dim > self.head_dim
        {
            return Err(fields.invalid(
                "partial_rotary_factor",
                format!(
                    "rotates {} of {} channels; it must be an even number of them",
                    self.rotary_dim, self.head_dim
                ),
            ));
        }
        if self.rope_theta <= 0.0 {
            let problem = format!("is {}, must be above 0", self.rope_theta);
            return Err(fields.invalid("rope_theta", problem));
        }
        if self.norm_eps < 0.0 {
            let problem = format!("is {}, must not be below 0", self.norm_eps);
            let field = match self.norm {
                NormKind::LayerNorm => "layer_norm_eps",
                NormKind::RmsNorm => "rms_norm_eps",
            };
            return Err(fields.invalid(field, problem));
        }
        Ok(())
    }
}
