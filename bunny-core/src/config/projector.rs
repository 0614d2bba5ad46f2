//! The kinds of projector.

use super::{ConfigError, Fields};

/// The kind of projector (`mm_projector_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectorKind {
    /// `identity`: features enter the decoder as they are.
    Identity,
    /// `linear`: one product, its tensors directly under `mm_projector`.
    Linear,
    /// `mlpNx_gelu`: N products with a GELU (error function) between them; `mlp2x_gelu` in every
    /// published Bunny.
    Mlp {
        /// How many products.
        depth: usize,
    },
}

/// The projector's kind and sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProjectorConfig {
    /// The kind.
    pub kind: ProjectorKind,
    /// Channels of the tower's features.
    pub input: usize,
    /// Channels of the decoder's embeddings.
    pub output: usize,
}

impl ProjectorConfig {
    /// `mlp2x_gelu`, as in every published Bunny.
    pub fn mlp2x_gelu(input: usize, output: usize) -> Self {
        Self {
            kind: ProjectorKind::Mlp { depth: 2 },
            input,
            output,
        }
    }

    pub(crate) fn of(fields: &Fields, input: usize, output: usize) -> Result<Self, ConfigError> {
        let field = "mm_projector_type";
        let kind = match fields.string(field)?.unwrap_or("mlp2x_gelu") {
            "identity" if input != output => {
                return Err(fields.invalid(
                    field,
                    format!(
                        "is `identity`, but features have {input} channels, embeddings {output}"
                    ),
                ));
            }
            "identity" => ProjectorKind::Identity,
            "linear" => ProjectorKind::Linear,
            other => match mlp_depth(other) {
                Some(depth) => ProjectorKind::Mlp { depth },
                None => {
                    return Err(fields.invalid(
                        field,
                        format!("is `{other}`, which is none of linear, mlpNx_gelu, identity"),
                    ));
                }
            },
        };
        Ok(Self {
            kind,
            input,
            output,
        })
    }

    /// The name in `config.json`.
    pub fn name(&self) -> String {
        match self.kind {
            ProjectorKind::Identity => "identity".into(),
            ProjectorKind::Linear => "linear".into(),
            ProjectorKind::Mlp { depth } => format!("mlp{depth}x_gelu"),
        }
    }
}

/// The N of `mlpNx_gelu`.
fn mlp_depth(name: &str) -> Option<usize> {
    let depth = name.strip_prefix("mlp")?.strip_suffix("x_gelu")?;
    depth.parse().ok().filter(|depth| (1..=64).contains(depth))
}
