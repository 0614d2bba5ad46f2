//! StableLM-2: sequential blocks under LayerNorms with biases, gated SiLU MLP, a quarter rotated.

use serde_json::Value;

use crate::{
    config::{
        ConfigError, Fields,
        decoder::{DecoderConfig, common_fields, probability, rope_number},
    },
    nn::NameTable,
};

/// Reads both spellings: of the hub's present configurations, and of the older StableLMEpoch code
/// that the reference vendors.
pub(super) fn decoder_config(fields: &Fields) -> Result<DecoderConfig, ConfigError> {
    for feature in ["qk_layernorm", "use_parallel_residual"] {
        if fields.boolean(feature, false)? {
            return Err(ConfigError::NotSupported {
                file: fields.file().into(),
                feature: format!("`{feature}`"),
            });
        }
    }
    let config = common_fields(fields, DecoderConfig::stablelm_2_1_6b())?;
    let rotary = fields.number("rope_pct", 0.25)?;
    Ok(DecoderConfig {
        norm_eps: fields.number("layer_norm_eps", fields.number("norm_eps", 1e-5)?)?,
        rotary_dim: (rope_number(fields, "partial_rotary_factor", rotary)? * config.head_dim as f64)
            as usize,
        qkv_bias: fields.boolean("use_qkv_bias", true)?,
        residual_dropout: probability(fields, "hidden_dropout", 0.0)?,
        attention_dropout: probability(fields, "attention_dropout", 0.0)?,
        ..config
    })
}

/// Each setting in both spellings.
pub(super) fn own_fields(config: &DecoderConfig) -> Vec<(&'static str, Value)> {
    vec![
        ("use_qkv_bias", config.qkv_bias.into()),
        ("hidden_dropout", config.residual_dropout.into()),
        ("norm_eps", config.norm_eps.into()),
        (
            "rope_pct",
            (config.rotary_dim as f64 / config.head_dim as f64).into(),
        ),
    ]
}

pub(super) static NAMES: NameTable = NameTable {
    renames: &[],
    fused: &[],
    unused: &["*.rotary_emb.inv_freq"],
};
