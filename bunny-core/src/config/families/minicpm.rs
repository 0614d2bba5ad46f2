//! MiniCPM: a Llama whose embeddings, branches and last vectors are scaled, so that learning rates carry
//! over from small models to large ones (Hu et al., "MiniCPM", 2024, §3.2), and whose head is its
//! embedding.

use super::{Definition, fields::*};
use crate::{
    config::{
        decoder::DecoderConfig,
        table::{Field, field},
    },
    input::conversation::Template,
    nn::NameTable,
};

pub(super) static MINICPM: Definition = Definition {
    model_types: &["minicpm"],
    bunny: ["bunny-minicpm", "BunnyMiniCPMForCausalLM"],
    base: ["minicpm", "MiniCPMForCausalLM"],
    template: Template::MiniCpm,
    defaults: || DecoderConfig {
        norm_eps: 1e-6,
        embedding_scale: 1.0,
        depth_scale: None,
        // As the class has it; every published configuration says another.
        logits_width: Some(1),
        ..DecoderConfig::minicpm_2b()
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
    own_fields: &[
        field!("scale_emb" => embedding_scale, number),
        Field {
            name: "scale_depth",
            read: Some(|fields, config| {
                config.depth_scale = Some(fields.number("scale_depth", 1.0)?);
                Ok(())
            }),
            write: |config| config.depth_scale.into(),
        },
        Field {
            name: "dim_model_base",
            read: Some(|fields, config| {
                config.logits_width = Some(fields.count("dim_model_base", 1, 1 << 24)?);
                Ok(())
            }),
            write: |config| config.logits_width.into(),
        },
    ],
    refused: &[],
    class_defaults: || None,
    names: NameTable {
        renames: &[],
        fused: &[],
        unused: &["*.rotary_emb.inv_freq"],
    },
};
