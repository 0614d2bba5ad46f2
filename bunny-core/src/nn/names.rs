//! What a tensor is called here, and what it is called in published files.

/// A family's table of names.
///
/// In this crate every decoder's parts have one name each, those of the Llama-like families
/// (`self_attn.o_proj`, `mlp.up_proj`, `model.norm`); a family whose published files say otherwise
/// lists its renames. Vision tower and projector are called the same everywhere.
#[derive(Debug)]
pub struct NameTable {
    /// Pairs of (name here, published name), each a run of whole path components.
    pub renames: &'static [(&'static str, &'static str)],
    /// What is one tensor in published files and several here.
    pub fused: &'static [FusedRows],
    /// Tensors of the base model that a Bunny does not use; `*` in front stands for any start.
    pub unused: &'static [&'static str],
}

/// EVA-CLIP's files keep the biases of queries and values beside the projections, not in them.
const TOWER_RENAMES: &[(&str, &str)] = &[
    ("attn.q_proj.bias", "attn.q_bias"),
    ("attn.v_proj.bias", "attn.v_bias"),
];

/// A published tensor whose rows are those of several tensors here, one below the other.
///
/// ```text
/// qkv_proj   [q + 2 kv, hidden]   rows 0..q          self_attn.q_proj
///                                 rows q..q + kv     self_attn.k_proj
///                                 rows q + kv..      self_attn.v_proj
/// ```
#[derive(Debug)]
pub struct FusedRows {
    /// The published name, a run of whole path components.
    pub published: &'static str,
    /// The names here, in the order of the rows, which is also that in which a model is built.
    pub parts: &'static [&'static str],
}

impl NameTable {
    /// Every tensor is published under the name it has here, and all are used.
    pub const SAME: Self = Self {
        renames: &[],
        fused: &[],
        unused: &[],
    };

    /// The published name of the tensor that is called `name` here, or of the one that holds it.
    pub fn published(&self, name: &str) -> String {
        let fused = self
            .fused
            .iter()
            .flat_map(|rows| rows.parts.iter().map(|part| (*part, rows.published)));
        let tower = TOWER_RENAMES.iter().copied();
        let all = self.renames.iter().copied().chain(fused).chain(tower);
        for (here, published) in all {
            if let Some(at) = find_components(name, here) {
                return format!("{}{published}{}", &name[..at], &name[at + here.len()..]);
            }
        }
        name.to_string()
    }

    /// Whether the tensor that is called `name` here is some rows of a published one.
    pub(super) fn is_fused(&self, name: &str) -> bool {
        let parts = self.fused.iter().flat_map(|rows| rows.parts);
        parts
            .into_iter()
            .any(|part| find_components(name, part).is_some())
    }

    /// Whether a Bunny of this family leaves the published tensor `name` aside.
    pub fn is_unused(&self, name: &str) -> bool {
        self.unused
            .iter()
            .any(|pattern| match pattern.strip_prefix('*') {
                Some(end) => name.ends_with(end),
                None => name == *pattern,
            })
    }
}

/// Where `components` occur in `name`, from a dot (or the start) to a dot (or the end).
fn find_components(name: &str, components: &str) -> Option<usize> {
    name.match_indices(components)
        .map(|(at, _)| at)
        .find(|&at| {
            let end = at + components.len();
            (at == 0 || name.as_bytes()[at - 1] == b'.')
                && (end == name.len() || name.as_bytes()[end] == b'.')
        })
}
