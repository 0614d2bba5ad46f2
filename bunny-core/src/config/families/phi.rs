//! Phi-1.5 and Phi-2: parallel blocks under one LayerNorm, partial rotary, biases everywhere.

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

pub(super) static PHI: Definition = Definition {
    model_types: &["phi", "phi-msft"],
    bunny: ["bunny-phi", "BunnyPhiForCausalLM"],
    base: ["phi", "PhiForCausalLM"],
    template: Template::Bunny,
    defaults: || DecoderConfig {
        residual_dropout: 0.0,
        ..DecoderConfig::phi_2()
    },
    fields: &[
        VOCAB_SIZE,
        HIDDEN_SIZE,
        INTERMEDIATE_SIZE,
        NUM_HIDDEN_LAYERS,
        NUM_ATTENTION_HEADS,
        NUM_KEY_VALUE_HEADS,
        HIDDEN_ACT,
        MAX_POSITION_EMBEDDINGS,
        LAYER_NORM_EPS,
        ROPE_THETA,
        Field {
            name: "partial_rotary_factor",
            read: Some(|fields, config| read_rotary_share(fields, config, 0.5)),
            write: |config| rotary_share(config).into(),
        },
        TIE_WORD_EMBEDDINGS,
        ATTENTION_DROPOUT,
    ],
    own_fields: &[
        field!("resid_pdrop" => residual_dropout, share),
        field!("embd_pdrop" => embedding_dropout, share),
        field!("qk_layernorm" says |_| false.into()),
    ],
    refused: &["qk_layernorm"],
    class_defaults: || {
        Some(json!({
            "vocab_size": 51200, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24,
            "num_attention_heads": 32, "bos_token_id": 1, "eos_token_id": 2,
        }))
    },
    // Bunny's Phi has no bias on its head: the base checkpoint's is dropped, as the reference does.
    names: NameTable {
        renames: &[
            ("model.norm", "model.final_layernorm"),
            ("self_attn.o_proj", "self_attn.dense"),
            ("mlp.up_proj", "mlp.fc1"),
            ("mlp.down_proj", "mlp.fc2"),
        ],
        fused: &[],
        unused: &["lm_head.bias", "*.rotary_emb.inv_freq"],
    },
};
