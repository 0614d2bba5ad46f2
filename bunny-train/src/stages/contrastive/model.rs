//! Both towers of SigLIP, named as in transformers' `SiglipModel`.

use bunny_core::{
    checkpoint::Precision,
    config::SiglipConfig,
    model::tower::{Siglip, SiglipLayer, SiglipMlp},
    nn::{AttentionMask, Builder, Initial, Linear, Mask, Mode, NameTable, Norm, attention},
    ops,
};
use burn::{
    module::{Module, Param, ParamId},
    tensor::{Tensor, backend::Backend},
};

use super::loss::sigmoid_loss;
use crate::{
    recipe::ContrastiveRecipe,
    trainable::{NamedParameter, Part, reinitialize, walk},
};

/// Pictures and captions to vectors in one space.
#[derive(Module, Debug)]
pub struct SiglipPair<B: Backend> {
    /// The vision tower with all its layers.
    pub tower: Siglip<B>,
    /// What makes one vector of a picture's features.
    pub head: PoolingHead<B>,
    /// The text tower.
    pub text_model: TextTower<B>,
    /// `t'`, `[1]`: the logarithm of what products are multiplied with.
    pub logit_scale: Param<Tensor<B, 1>>,
    /// `b`, `[1]`: what is added to them.
    pub logit_bias: Param<Tensor<B, 1>>,
}

/// A learned query that attends to all features, and an MLP
/// (`SiglipMultiheadAttentionPoolingHead`).
#[derive(Module, Debug)]
pub struct PoolingHead<B: Backend> {
    /// The query, `[1, 1, hidden]`.
    pub probe: Param<Tensor<B, 3>>,
    /// Attention.
    pub attention: PoolingAttention<B>,
    /// Before the MLP.
    pub layernorm: Norm<B>,
    /// The MLP.
    pub mlp: SiglipMlp<B>,
}

/// `torch.nn.MultiheadAttention`: the weights of queries, keys and values in one.
#[derive(Module, Debug)]
pub struct PoolingAttention<B: Backend> {
    /// `[3 * hidden, hidden]`.
    pub in_proj_weight: Param<Tensor<B, 2>>,
    /// `[3 * hidden]`.
    pub in_proj_bias: Param<Tensor<B, 1>>,
    /// Behind the attention.
    pub out_proj: Linear<B>,
    heads: usize,
}

/// Words and positions, layers, and the last place to a vector.
#[derive(Module, Debug)]
pub struct TextTower<B: Backend> {
    /// Words and positions.
    pub embeddings: TextEmbeddings<B>,
    /// The layers; a place sees all others, padding included, as SigLIP's do.
    pub encoder: TextEncoder<B>,
    /// After the last layer.
    pub final_layer_norm: Norm<B>,
    /// To the vision tower's channels.
    pub head: Linear<B>,
}

/// One vector a token and one a place.
#[derive(Module, Debug)]
pub struct TextEmbeddings<B: Backend> {
    /// `[vocab, hidden]`.
    pub token_embedding: Table<B>,
    /// `[places, hidden]`.
    pub position_embedding: Table<B>,
}

/// Vectors by number.
#[derive(Module, Debug)]
pub struct Table<B: Backend> {
    /// `[rows, hidden]`.
    pub weight: Param<Tensor<B, 2>>,
}

/// The layers.
#[derive(Module, Debug)]
pub struct TextEncoder<B: Backend> {
    /// First to last.
    pub layers: Vec<SiglipLayer<B>>,
}

/// The paper's first `t'` and `b`: most pairs are wrong ones, so that all are thought so at first.
const INITIAL_SCALE: f32 = std::f32::consts::LN_10;
const INITIAL_BIAS: f32 = -10.0;

impl<B: Backend> SiglipPair<B> {
    /// Towers that have not learnt yet, weights drawn with LeCun's deviation, `1/√inputs`, which is
    /// transformers' for tables and patches and close to its Glorot's for products.
    pub fn random(
        recipe: &ContrastiveRecipe,
        vision: &SiglipConfig,
        vocab_size: usize,
        precision: Precision,
        device: &B::Device,
    ) -> Self {
        let seed = recipe.training.seed;
        let drawn = Builder::random(seed, &NameTable::SAME, precision, device, |builder| {
            Self::new(recipe, vision, vocab_size, builder)
        });
        reinitialize(drawn, |shape| {
            let inputs: usize = shape[1..].iter().product();
            (inputs as f32).sqrt().recip()
        })
    }

    /// Towers whose parameters are those below `builder`.
    pub fn new(
        recipe: &ContrastiveRecipe,
        vision: &SiglipConfig,
        vocab_size: usize,
        builder: &Builder<'_, B>,
    ) -> Self {
        // A tower in a Bunny leaves out its last layer; here all of them take part.
        let whole = SiglipConfig {
            num_hidden_layers: vision.num_hidden_layers + 1,
            ..vision.clone()
        };
        let head = builder.child("vision_model").child("head");
        Self {
            tower: Siglip::new(&whole, builder),
            head: PoolingHead::new(vision, &head),
            text_model: TextTower::new(recipe, vision, vocab_size, &builder.child("text_model")),
            logit_scale: builder.norm("logit_scale", 1, Initial::Constant(INITIAL_SCALE)),
            logit_bias: builder.norm("logit_bias", 1, Initial::Constant(INITIAL_BIAS)),
        }
    }

    /// The mean loss of pairs, `[1]`.
    ///
    /// # Shapes
    /// pixels `[pairs, 3, size, size]`, ids `[pairs * places]`
    pub fn loss(&self, pixels: Tensor<B, 4>, ids: &[i32]) -> Tensor<B, 1> {
        sigmoid_loss(
            self.pictures(pixels),
            self.captions(ids),
            self.logit_scale.val(),
            self.logit_bias.val(),
        )
    }

    /// One vector a picture.
    ///
    /// # Shapes
    /// `[pictures, 3, size, size]` → `[pictures, hidden]`
    pub fn pictures(&self, pixels: Tensor<B, 4>) -> Tensor<B, 2> {
        let features = self.tower.forward(pixels);
        let norm = &self.tower.vision_model.post_layernorm;
        self.head.forward(norm.forward(features))
    }

    /// One vector a caption.
    ///
    /// # Shapes
    /// `[captions * places]` → `[captions, hidden]`
    pub fn captions(&self, ids: &[i32]) -> Tensor<B, 2> {
        self.text_model.forward(ids)
    }

    /// Every parameter by its name in files.
    pub fn parameters(&self) -> Vec<NamedParameter> {
        walk(self, |path| {
            let name = match path {
                ["tower", rest @ ..] => rest.join("."),
                ["head", rest @ ..] => format!("vision_model.head.{}", rest.join(".")),
                path => path.join("."),
            };
            (name, 0, Part::Tower)
        })
    }
}

impl<B: Backend> PoolingHead<B> {
    fn new(config: &SiglipConfig, builder: &Builder<'_, B>) -> Self {
        let hidden = config.hidden_size;
        let attention = builder.child("attention");
        Self {
            probe: builder.addend("probe", [1, 1, hidden], Initial::Normal(0.02)),
            attention: PoolingAttention {
                in_proj_weight: attention.weight(
                    "in_proj_weight",
                    [3 * hidden, hidden],
                    Initial::Normal(0.02),
                ),
                in_proj_bias: attention.addend(
                    "in_proj_bias",
                    [3 * hidden],
                    Initial::Constant(0.0),
                ),
                out_proj: Linear::new(&attention.child("out_proj"), hidden, hidden, true),
                heads: config.num_attention_heads,
            },
            layernorm: Norm::layer_norm(&builder.child("layernorm"), hidden, config.layer_norm_eps),
            mlp: SiglipMlp::new(config, &builder.child("mlp")),
        }
    }

    /// # Shapes
    /// `[pictures, patches, hidden]` → `[pictures, hidden]`
    fn forward(&self, features: Tensor<B, 3>) -> Tensor<B, 2> {
        let [pictures, _, hidden] = features.dims();
        let probe = self.probe.val().expand([pictures, 1, hidden]);
        let pooled = self.attention.forward(probe, features); // [pictures, 1, hidden]
        let normed = self.layernorm.forward(pooled.clone());
        (pooled + self.mlp.forward(normed)).reshape([pictures, hidden])
    }
}

impl<B: Backend> PoolingAttention<B> {
    /// # Shapes
    /// queries `[batch, q, hidden]`, keys and values `[batch, kv, hidden]` → `[batch, q, hidden]`
    fn forward(&self, query: Tensor<B, 3>, features: Tensor<B, 3>) -> Tensor<B, 3> {
        let [batch, queries, hidden] = query.dims();
        let keys = features.dims()[1];
        let (weight, bias) = (self.in_proj_weight.val(), self.in_proj_bias.val());
        let project = |input: Tensor<B, 3>, part: usize| {
            let from = part * hidden;
            let linear = Linear {
                weight: Param::initialized(ParamId::new(), weight.clone().narrow(0, from, hidden)),
                bias: Some(Param::initialized(
                    ParamId::new(),
                    bias.clone().narrow(0, from, hidden),
                )),
                lora: None,
            };
            let [_, rows, _] = input.dims();
            linear
                .forward(input, &Mode::INFERENCE)
                .reshape([batch, rows, self.heads, hidden / self.heads])
                .swap_dims(1, 2) // [batch, heads, rows, head_dim]
        };
        let mask = AttentionMask::new(Mask::Full, batch, queries, keys, &features.device());
        let attended = attention(
            project(query, 0),
            project(features.clone(), 1),
            project(features, 2),
            &mask,
            weight.dtype(),
        );
        self.out_proj.forward(attended, &Mode::INFERENCE)
    }
}

impl<B: Backend> TextTower<B> {
    fn new(
        recipe: &ContrastiveRecipe,
        vision: &SiglipConfig,
        vocab_size: usize,
        builder: &Builder<'_, B>,
    ) -> Self {
        let text = &recipe.text;
        let config = text.layers(vision.layer_norm_eps);
        let embeddings = builder.child("embeddings");
        let layers = builder.child("encoder").child("layers");
        let table = |name: &str, rows: usize| Table {
            weight: embeddings.child(name).addend(
                "weight",
                [rows, text.hidden_size],
                Initial::Normal(0.02),
            ),
        };
        Self {
            embeddings: TextEmbeddings {
                token_embedding: table("token_embedding", vocab_size),
                position_embedding: table("position_embedding", text.max_position_embeddings),
            },
            encoder: TextEncoder {
                layers: (0..text.num_hidden_layers)
                    .map(|layer| SiglipLayer::new(&config, &layers.child(layer)))
                    .collect(),
            },
            final_layer_norm: Norm::layer_norm(
                &builder.child("final_layer_norm"),
                text.hidden_size,
                config.layer_norm_eps,
            ),
            head: Linear::new(
                &builder.child("head"),
                text.hidden_size,
                vision.hidden_size,
                true,
            ),
        }
    }

    /// # Shapes
    /// `[captions * places]` → `[captions, projection]`
    fn forward(&self, ids: &[i32]) -> Tensor<B, 2> {
        let positions = self.embeddings.position_embedding.weight.val();
        let [places, hidden] = positions.dims();
        let words = ops::token_rows(self.embeddings.token_embedding.weight.val(), ids);
        let captions = words.dims()[0] / places;
        let device = words.device();
        let mask = AttentionMask::new(Mask::Full, captions, places, places, &device);
        let mut states = words.reshape([captions, places, hidden]) + positions.unsqueeze();
        for layer in &self.encoder.layers {
            states = layer.forward(states, &mask);
        }
        // The norm is place by place, so the one place that is read is enough.
        let last = states.narrow(1, places - 1, 1).reshape([captions, hidden]);
        let last = self.final_layer_norm.forward(last);
        self.head.forward(last, &Mode::INFERENCE)
    }
}
