//! From the tower's features to the decoder's embedding space.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};

use crate::{
    config::{ProjectorConfig, ProjectorKind},
    nn::{Activation, Builder, Linear, Mode},
};

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
