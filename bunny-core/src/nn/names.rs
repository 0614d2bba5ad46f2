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
    /// Tensors of the base model that a Bunny does not use; `*` in front stands for any start.
    pub unused: &'static [&'static str],
}

const PROJECTOR: &str = "model.mm_projector.";
const TOWER: &str = "model.vision_tower.";

/// EVA-CLIP keeps the biases of queries and values beside the projections, not in them.
const TOWER_RENAMES: &[(&str, &str)] = &[
    ("attn.q_proj.bias", "attn.q_bias"),
    ("attn.v_proj.bias", "attn.v_bias"),
];

impl NameTable {
    /// The published name of the tensor that is called `name` here.
    pub fn published(&self, name: &str) -> String {
        self.rename(name, |&(here, published)| (here, published))
    }

    /// The name here of the tensor that is published as `name`.
    pub fn local(&self, name: &str) -> String {
        self.rename(name, |&(here, published)| (published, here))
    }

    /// Whether a Bunny of this family leaves the published tensor `name` aside.
    pub fn is_unused(&self, name: &str) -> bool {
        // EVA-CLIP's rotary tables, shared by its blocks, are saved with each of them.
        let rotary = name.starts_with(TOWER) && name.contains(".rope.freqs_");
        rotary
            || self
                .unused
                .iter()
                .any(|pattern| match pattern.strip_prefix('*') {
                    Some(end) => name.ends_with(end),
                    None => name == *pattern,
                })
    }

    fn rename(
        &self,
        name: &str,
        direction: impl Fn(&(&'static str, &'static str)) -> (&'static str, &'static str),
    ) -> String {
        let renames = match name {
            name if name.starts_with(PROJECTOR) => &[],
            name if name.starts_with(TOWER) => TOWER_RENAMES,
            _ => self.renames,
        };
        for (from, to) in renames.iter().map(direction) {
            if let Some(at) = find_components(name, from) {
                return format!("{}{to}{}", &name[..at], &name[at + from.len()..]);
            }
        }
        name.to_string()
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
