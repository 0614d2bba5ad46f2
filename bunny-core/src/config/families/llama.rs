//! Llama-3: sequential blocks under RMSNorms, gated SiLU MLP, shared key and value heads, no biases.

use serde_json::json;

use super::{Definition, fields::*};
use crate::{
    config::{decoder::DecoderConfig, table::field},
    input::conversation::Template,
    nn::NameTable,
};

/// Answers end in `<|end_of_text|>`, which the Instruct models' own files do not name as their end.
pub(super) static LLAMA: Definition = Definition {
    model_types: &["llama"],
    bunny: ["bunny-llama", "BunnyLlamaForCausalLM"],
    base: ["llama", "LlamaForCausalLM"],
    template: Template::Llama,
    defaults: || DecoderConfig {
        norm_eps: 1e-6,
        max_position_embeddings: 2048,
        rope_theta: 10_000.0,
        ..DecoderConfig::llama_3_8b()
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
        ATTENTION_BIAS,
    ],
    own_fields: &[field!("mlp_bias" => mlp_bias, flag)],
    refused: &[],
    class_defaults: || {
        Some(json!({
            "vocab_size": 32_000, "hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "bos_token_id": 1, "eos_token_id": 2,
        }))
    },
    names: NameTable {
        renames: &[],
        fused: &[],
        unused: &["*.rotary_emb.inv_freq"],
    },
};
