//! What makes one decoder differ from another.

use crate::{
    config::{ConfigError, Fields},
    nn::Activation,
};

/// The normalisation before each branch and after the last layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Mean and variance, with weight and bias.
    LayerNorm,
    /// Root mean square, with weight only.
    RmsNorm,
}

/// How attention and MLP share the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockOrder {
    /// One norm feeds both: `x + attention(n) + mlp(n)` (Phi).
    Parallel,
    /// `x += attention(norm(x)); x += mlp(norm(x))` (Llama and its kin).
    Sequential,
}

/// The MLP's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MlpKind {
    /// `down(activation(up(x)))`.
    Plain,
    /// `down(activation(gate(x)) * up(x))`.
    Gated,
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
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
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
            tie_word_embeddings: false,
            residual_dropout: 0.1,
            embedding_dropout: 0.0,
            attention_dropout: 0.0,
        }
    }

    /// StableLM-2-1.6B.
    pub fn stablelm_2_1_6b() -> Self {
        Self {
            vocab_size: 100_352,
            hidden_size: 2048,
            intermediate_size: 5632,
            num_hidden_layers: 24,
            num_attention_heads: 32,
            num_key_value_heads: 32,
            head_dim: 64,
            max_position_embeddings: 4096,
            norm: NormKind::LayerNorm,
            norm_eps: 1e-5,
            block: BlockOrder::Sequential,
            mlp: MlpKind::Gated,
            activation: Activation::Silu,
            rotary_dim: 16,
            rope_theta: 10_000.0,
            qkv_bias: true,
            output_bias: false,
            mlp_bias: false,
            tie_word_embeddings: false,
            residual_dropout: 0.0,
            embedding_dropout: 0.0,
            attention_dropout: 0.0,
        }
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
        Ok(())
    }
}

/// What the configurations of all families share; a family overrides the rest.
pub(super) fn common_fields(
    fields: &Fields,
    defaults: DecoderConfig,
) -> Result<DecoderConfig, ConfigError> {
    let required = |field: &str| match fields.get(field) {
        Some(_) => fields.count(field, 0, 1 << 24),
        None => Err(fields.invalid(field, "is missing")),
    };
    let hidden_size = required("hidden_size")?;
    let num_attention_heads = required("num_attention_heads")?;
    if !hidden_size.is_multiple_of(num_attention_heads) {
        return Err(fields.invalid(
            "num_attention_heads",
            format!("is {num_attention_heads}, which does not divide hidden_size {hidden_size}"),
        ));
    }
    if fields.get("rope_scaling").is_some() {
        return Err(ConfigError::NotSupported {
            file: fields.file().into(),
            feature: "`rope_scaling`".into(),
        });
    }
    Ok(DecoderConfig {
        vocab_size: required("vocab_size")?,
        hidden_size,
        intermediate_size: required("intermediate_size")?,
        num_hidden_layers: fields.get("num_hidden_layers").map_or_else(
            || Err(fields.invalid("num_hidden_layers", "is missing")),
            |_| fields.count("num_hidden_layers", 0, 1024),
        )?,
        num_attention_heads,
        num_key_value_heads: fields.count(
            "num_key_value_heads",
            num_attention_heads,
            num_attention_heads,
        )?,
        head_dim: hidden_size / num_attention_heads,
        max_position_embeddings: fields.count(
            "max_position_embeddings",
            defaults.max_position_embeddings,
            1 << 24,
        )?,
        activation: fields.activation("hidden_act", defaults.activation)?,
        rope_theta: rope_number(fields, "rope_theta", defaults.rope_theta)?,
        tie_word_embeddings: fields.boolean("tie_word_embeddings", defaults.tie_word_embeddings)?,
        ..defaults
    })
}

/// A rotary parameter, at the top level or under `rope_parameters` (transformers 5).
pub(super) fn rope_number(fields: &Fields, field: &str, default: f64) -> Result<f64, ConfigError> {
    let default = fields.number(field, default)?;
    match fields.object("rope_parameters")? {
        Some(rope) => {
            match rope.string("rope_type")? {
                None | Some("default") => {}
                Some(kind) => {
                    return Err(ConfigError::NotSupported {
                        file: fields.file().into(),
                        feature: format!("`rope_parameters.rope_type` `{kind}`"),
                    });
                }
            }
            rope.number(field, default)
        }
        None => Ok(default),
    }
}

/// A probability in `[0, 1)`, or `default`.
pub(super) fn probability(fields: &Fields, field: &str, default: f64) -> Result<f64, ConfigError> {
    let value = fields.number(field, default)?;
    if (0.0..1.0).contains(&value) {
        Ok(value)
    } else {
        Err(fields.invalid(field, format!("is {value}, not within 0 to 1")))
    }
}
