//! Phi-3: a Llama whose queries, keys and values are one product, as are the two of its gated MLP, and
//! which looks back no further than its window.

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

pub(super) static PHI3: Definition = Definition {
    model_types: &["phi3"],
    bunny: ["bunny-phi3", "BunnyPhi3ForCausalLM"],
    base: ["phi3", "Phi3ForCausalLM"],
    template: Template::Phi3,
    defaults: || DecoderConfig {
        sliding_window: None,
        ..DecoderConfig::phi_3_mini()
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
        RMS_NORM_EPS,
        ROPE_THETA,
        Field {
            name: "partial_rotary_factor",
            read: Some(|fields, config| read_rotary_share(fields, config, 1.0)),
            write: |config| rotary_share(config).into(),
        },
        TIE_WORD_EMBEDDINGS,
        ATTENTION_DROPOUT,
    ],
    own_fields: &[
        field!("resid_pdrop" => residual_dropout, share),
        field!("embd_pdrop" => embedding_dropout, share),
        Field {
            name: "sliding_window",
            read: Some(|fields, config| {
                let window = fields.get("sliding_window");
                let window = window.map(|_| fields.needed("sliding_window", 1 << 24));
                config.sliding_window = window.transpose()?;
                Ok(())
            }),
            write: |config| config.sliding_window.into(),
        },
    ],
    refused: &[],
    class_defaults: || {
        Some(json!({
            "vocab_size": 32_064, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
            "num_attention_heads": 32, "bos_token_id": 1, "eos_token_id": 32_000,
        }))
    },
    names: NameTable {
        renames: &[],
        fused: &[],
        unused: &["*.rotary_emb.inv_freq"],
    },
};
