//! From the tower's features to the decoder's embedding space.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};

use crate::{
    checkpoint::Builder,
    error::ConfigError,
    fields::Fields,
    nn::{Activation, Linear, Mode},
};

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

    /// How many parameters the projector has.
    pub fn parameters(&self) -> u64 {
        let (input, output) = (self.input as u64, self.output as u64);
        let first = (input + 1) * output;
        match self.kind {
            ProjectorKind::Identity => 0,
            ProjectorKind::Linear => first,
            ProjectorKind::Mlp { depth } => first + (depth as u64 - 1) * (output + 1) * output,
        }
    }
}

/// The N of `mlpNx_gelu`.
fn mlp_depth(name: &str) -> Option<usize> {
    let depth = name.strip_prefix("mlp")?.strip_suffix("x_gelu")?;
    depth.parse().ok().filter(|depth| (1..=64).contains(depth))
}

/// Maps the tower's features into the decoder's embedding space.
#[derive(Module, Debug)]
pub struct Projector<B: Backend> {
    /// The products; a GELU stands between each two.
    pub layers: Vec<Linear<B>>,
}

impl<B: Backend> Projector<B> {
    /// A projector whose parameters are those below `builder`.
    pub fn new(config: &ProjectorConfig, builder: &Builder<'_, B>) -> Self {
        let layers = match config.kind {
            ProjectorKind::Identity => Vec::new(),
            ProjectorKind::Linear => {
                vec![Linear::new(builder, config.input, config.output, true)]
            }
            // A sequence in which every other place is a GELU: products are 0, 2, 4, ...
            ProjectorKind::Mlp { depth } => (0..depth)
                .map(|at| {
                    let input = if at == 0 { config.input } else { config.output };
                    Linear::new(&builder.child(2 * at), input, config.output, true)
                })
                .collect(),
        };
        Self { layers }
    }

    /// # Shapes
    /// `[pictures, tokens, input]` → `[pictures, tokens, output]`
    pub fn forward(&self, features: Tensor<B, 3>, mode: &Mode) -> Tensor<B, 3> {
        let mut features = features;
        for (at, layer) in self.layers.iter().enumerate() {
            if at > 0 {
                features = Activation::Gelu.apply(features);
            }
            features = layer.forward(features, mode);
        }
        features
    }
}
