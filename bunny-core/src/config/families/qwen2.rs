//! Qwen1.5: sequential blocks under RMSNorms, gated SiLU MLP, biases of queries, keys and values alone.

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

/// The earliest of the published Bunnies call themselves `bunny-qwen`.
pub(super) static QWEN2: Definition = Definition {
    model_types: &["qwen2", "qwen"],
    bunny: ["bunny-qwen2", "BunnyQwen2ForCausalLM"],
    base: ["qwen2", "Qwen2ForCausalLM"],
    template: Template::Bunny,
    defaults: || DecoderConfig {
        rope_theta: 10_000.0,
        ..DecoderConfig::qwen1_5_1_8b()
    },
    fields: &[
        VOCAB_SIZE,
        HIDDEN_SIZE,
        INTERMEDIATE_SIZE,
        NUM_HIDDEN_LAYERS,
        NUM_ATTENTION_HEADS,
        NUM_KEY_VALUE_HEADS,
        HEAD_DIM,
        HIDDEN_ACT,
        MAX_POSITION_EMBEDDINGS,
        RMS_NORM_EPS,
        ROPE_THETA,
        TIE_WORD_EMBEDDINGS,
        ATTENTION_DROPOUT,
    ],
    own_fields: &[
        // Some layers would look less far back than others.
        field!("use_sliding_window" says |_| false.into()),
        // Says how far, where the switch above is on.
        Field {
            name: "sliding_window",
            read: None,
            write: |config| config.max_position_embeddings.into(),
        },
    ],
    refused: &["use_sliding_window"],
    class_defaults: || {
        Some(json!({
            "vocab_size": 151_936, "hidden_size": 4096, "intermediate_size": 22_016, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32,
        }))
    },
    names: NameTable {
        renames: &[],
        fused: &[],
        unused: &["*.rotary_emb.inv_freq"],
    },
};
