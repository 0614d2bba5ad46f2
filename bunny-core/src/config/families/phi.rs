//! Phi-1.5 and Phi-2: parallel blocks under one LayerNorm, partial rotary, biases everywhere.

use serde_json::Value;

use crate::{
    config::{
        ConfigError, Fields,
        decoder::{DecoderConfig, common_fields, probability, rope_number},
    },
    nn::NameTable,
};

pub(super) fn decoder_config(fields: &Fields) -> Result<DecoderConfig, ConfigError> {
    if fields.boolean("qk_layernorm", false)? {
        return Err(ConfigError::NotSupported {
            file: fields.file().into(),
            feature: "`qk_layernorm`".into(),
        });
    }
    let config = common_fields(fields, DecoderConfig::phi_2())?;
    Ok(DecoderConfig {
        norm_eps: fields.number("layer_norm_eps", 1e-5)?,
        rotary_dim: (rope_number(fields, "partial_rotary_factor", 0.5)? * config.head_dim as f64)
            as usize,
        residual_dropout: probability(fields, "resid_pdrop", 0.0)?,
        embedding_dropout: probability(fields, "embd_pdrop", 0.0)?,
        attention_dropout: probability(fields, "attention_dropout", 0.0)?,
        ..config
    })
}

pub(super) fn own_fields(config: &DecoderConfig) -> Vec<(&'static str, Value)> {
    vec![
        ("resid_pdrop", config.residual_dropout.into()),
        ("embd_pdrop", config.embedding_dropout.into()),
        ("qk_layernorm", false.into()),
    ]
}

/// Bunny's Phi has no bias on its head: the base checkpoint's is dropped, as the reference does.
pub(super) static NAMES: NameTable = NameTable {
    renames: &[
        ("model.norm", "model.final_layernorm"),
        ("self_attn.o_proj", "self_attn.dense"),
        ("mlp.up_proj", "mlp.fc1"),
        ("mlp.down_proj", "mlp.fc2"),
    ],
    fused: &[],
    unused: &["lm_head.bias", "*.rotary_emb.inv_freq"],
};
