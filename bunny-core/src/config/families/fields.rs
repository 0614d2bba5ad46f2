//! Fields that the `config.json` of several families have in common.

use crate::config::{
    ConfigError, Fields,
    decoder::DecoderConfig,
    table::{Field, field},
};

pub(super) const VOCAB_SIZE: Field<DecoderConfig> =
    field!("vocab_size" => vocab_size, needed up to 1 << 24);

pub(super) const HIDDEN_SIZE: Field<DecoderConfig> =
    field!("hidden_size" => hidden_size, needed up to 1 << 24);

pub(super) const INTERMEDIATE_SIZE: Field<DecoderConfig> =
    field!("intermediate_size" => intermediate_size, needed up to 1 << 24);

pub(super) const NUM_HIDDEN_LAYERS: Field<DecoderConfig> =
    field!("num_hidden_layers" => num_hidden_layers, needed up to 1024);

/// Behind [`HIDDEN_SIZE`]; decides the width of a head, and how many keys and values there are
/// unless [`NUM_KEY_VALUE_HEADS`] does.
pub(super) const NUM_ATTENTION_HEADS: Field<DecoderConfig> = Field {
    name: "num_attention_heads",
    read: Some(|fields, config| {
        let (heads, hidden) = (
            fields.needed("num_attention_heads", 1 << 24)?,
            config.hidden_size,
        );
        if !hidden.is_multiple_of(heads) {
            return Err(fields.invalid(
                "num_attention_heads",
                format!("is {heads}, which does not divide hidden_size {hidden}"),
            ));
        }
        config.num_attention_heads = heads;
        config.num_key_value_heads = heads;
        config.head_dim = hidden / heads;
        Ok(())
    }),
    write: |config| config.num_attention_heads.into(),
};

pub(super) const NUM_KEY_VALUE_HEADS: Field<DecoderConfig> = Field {
    name: "num_key_value_heads",
    read: Some(|fields, config| {
        let (default, limit) = (config.num_key_value_heads, config.num_attention_heads);
        config.num_key_value_heads = fields.count("num_key_value_heads", default, limit)?;
        Ok(())
    }),
    write: |config| config.num_key_value_heads.into(),
};

pub(super) const HIDDEN_ACT: Field<DecoderConfig> = field!("hidden_act" => activation, activation);

pub(super) const MAX_POSITION_EMBEDDINGS: Field<DecoderConfig> =
    field!("max_position_embeddings" => max_position_embeddings, count up to 1 << 24);

pub(super) const LAYER_NORM_EPS: Field<DecoderConfig> =
    field!("layer_norm_eps" => norm_eps, number);

pub(super) const RMS_NORM_EPS: Field<DecoderConfig> = field!("rms_norm_eps" => norm_eps, number);

/// Behind [`NUM_ATTENTION_HEADS`]: the width of a head, where it is not its share of the stream.
pub(super) const HEAD_DIM: Field<DecoderConfig> = Field {
    name: "head_dim",
    read: Some(|fields, config| {
        config.head_dim = fields.count("head_dim", config.head_dim, 1 << 16)?;
        config.rotary_dim = config.head_dim;
        Ok(())
    }),
    write: |config| config.head_dim.into(),
};

/// Biases of all four projections of attention.
pub(super) const ATTENTION_BIAS: Field<DecoderConfig> = Field {
    name: "attention_bias",
    read: Some(|fields, config| {
        let has = fields.boolean("attention_bias", config.output_bias)?;
        (config.qkv_bias, config.output_bias) = (has, has);
        Ok(())
    }),
    write: |config| config.output_bias.into(),
};

pub(super) const ROPE_THETA: Field<DecoderConfig> = Field {
    name: "rope_theta",
    read: Some(|fields, config| {
        config.rope_theta = rope_number(fields, "rope_theta", config.rope_theta)?;
        Ok(())
    }),
    write: |config| config.rope_theta.into(),
};

pub(super) const TIE_WORD_EMBEDDINGS: Field<DecoderConfig> =
    field!("tie_word_embeddings" => tie_word_embeddings, flag);

pub(super) const ATTENTION_DROPOUT: Field<DecoderConfig> =
    field!("attention_dropout" => attention_dropout, share);

/// The share of a head's channels that are rotated, `default` unless the file says it.
pub(super) fn read_rotary_share(
    fields: &Fields,
    config: &mut DecoderConfig,
    default: f64,
) -> Result<(), ConfigError> {
    let share = rope_number(fields, "partial_rotary_factor", default)?;
    config.rotary_dim = (share * config.head_dim as f64) as usize;
    Ok(())
}

pub(super) fn rotary_share(config: &DecoderConfig) -> f64 {
    config.rotary_dim as f64 / config.head_dim as f64
}

/// A rotary parameter, at the top level or under `rope_parameters` (transformers 5).
fn rope_number(fields: &Fields, field: &str, default: f64) -> Result<f64, ConfigError> {
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
