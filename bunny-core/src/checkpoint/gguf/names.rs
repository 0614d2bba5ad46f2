//! What tensors are called in GGUF files. The names here are the uniform ones, before a family's own.

/// Parts of a layer of the language model.
static LAYER: [(&str, &str); 11] = [
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    // One product with both, the gate first.
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// The rest of it.
static AROUND: [(&str, &str); 3] = [
    ("model.embed_tokens", "token_embd"),
    ("model.norm", "output_norm"),
    ("lm_head", "output"),
];

/// Parts of a layer of SigLIP.
static TOWER_LAYER: [(&str, &str); 8] = [
    ("layer_norm1", "ln1"),
    ("layer_norm2", "ln2"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.out_proj", "attn_out"),
    ("mlp.fc1", "ffn_up"),
    ("mlp.fc2", "ffn_down"),
];

/// The rest of it.
static TOWER_AROUND: [(&str, &str); 2] = [
    ("embeddings.patch_embedding", "v.patch_embd"),
    ("embeddings.position_embedding", "v.position_embd"),
];

fn renamed<'t>(part: &str, table: &'t [(&str, &'t str)]) -> Option<&'t str> {
    let found = table.iter().find(|(here, _)| *here == part);
    found.map(|(_, theirs)| *theirs)
}

/// A name in a layer: `start`, its number, the part.
fn of_layer(name: &str, start: &str, table: &[(&str, &str)]) -> Option<String> {
    let (layer, part) = name.strip_prefix(start)?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    Some(format!("blk.{layer}.{}", renamed(part, table)?))
}

/// What a tensor of the language model is called in its file.
pub(super) fn of_text(local: &str) -> Option<String> {
    let (part, parameter) = local.rsplit_once('.')?;
    let name = match renamed(part, &AROUND) {
        Some(name) => name.to_owned(),
        None => of_layer(part, "model.layers.", &LAYER)?,
    };
    Some(format!("{name}.{parameter}"))
}

/// What a tensor of a SigLIP, its name without that of the tower, is called in a projector file.
pub(super) fn of_tower(name: &str) -> Option<String> {
    let name = name.strip_prefix("vision_model.")?;
    let (part, parameter) = name.rsplit_once('.')?;
    let name = match renamed(part, &TOWER_AROUND) {
        Some(name) => name.to_owned(),
        None => format!("v.{}", of_layer(part, "encoder.layers.", &TOWER_LAYER)?),
    };
    Some(format!("{name}.{parameter}"))
}
