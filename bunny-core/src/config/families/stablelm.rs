//! StableLM-2: sequential blocks under LayerNorms with biases, gated SiLU MLP, a quarter rotated.

use serde_json::json;

use super::{Definition, fields::*};
use crate::{
    config::{
        decoder::DecoderConfig,
        table::{Field, field},
    },
    input::conversation::Template,
    nn::NameTable,
};

/// Reads and writes both spellings: of the hub's present configurations, and of the older
/// StableLMEpoch code that the reference vendors.
pub(super) static STABLELM: Definition = Definition {
    model_types: &["stablelm", "stablelm_epoch"],
    bunny: ["bunny-stablelm", "BunnyStableLMForCausalLM"],
    base: ["stablelm", "StableLmForCausalLM"],
    template: Template::Bunny,
    defaults: DecoderConfig::stablelm_2_1_6b,
    fields: &[
        VOCAB_SIZE,
        HIDDEN_SIZE,
        INTERMEDIATE_SIZE,
        NUM_HIDDEN_LAYERS,
        NUM_ATTENTION_HEADS,
        NUM_KEY_VALUE_HEADS,
        HIDDEN_ACT,
        MAX_POSITION_EMBEDDINGS,
        Field {
            name: "layer_norm_eps",
            read: Some(|fields, config| {
                let older = fields.number("norm_eps", config.norm_eps)?;
                config.norm_eps = fields.number("layer_norm_eps", older)?;
                Ok(())
            }),
            write: |config| config.norm_eps.into(),
        },
        ROPE_THETA,
        Field {
            name: "partial_rotary_factor",
            read: Some(|fields, config| {
                let older = fields.number("rope_pct", 0.25)?;
                read_rotary_share(fields, config, older)
            }),
            write: |config| rotary_share(config).into(),
        },
        TIE_WORD_EMBEDDINGS,
        ATTENTION_DROPOUT,
    ],
    own_fields: &[
        field!("use_qkv_bias" => qkv_bias, flag),
        field!("hidden_dropout" => residual_dropout, share),
        field!("norm_eps" says |config| config.norm_eps.into()),
        field!("rope_pct" says |config| rotary_share(config).into()),
    ],
    refused: &["qk_layernorm", "use_parallel_residual"],
    class_defaults: || {
        Some(json!({
            "vocab_size": 50304, "hidden_size": 2560, "intermediate_size": 6912, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "use_qkv_bias": false,
            "bos_token_id": 0, "eos_token_id": 0,
        }))
    },
    names: NameTable {
        renames: &[],
        fused: &[],
        unused: &["*.rotary_emb.inv_freq"],
    },
};
