//! Models of random weights, from their configurations alone: for programs that put a part of a Bunny
//! into a model of their own.
//!
//! Weights are f32, drawn as the reference draws them, and the same at every call;
//! [`Builder::random`](crate::nn::Builder::random) takes a seed and other number types.

use burn::tensor::backend::Backend;

use super::{
    Bunny, Decoder, Projector, VisionTower,
    tower::{EvaClip, Siglip},
};
use crate::{
    config::{
        BunnyConfig, DecoderConfig, EvaClipConfig, ProjectorConfig, SiglipConfig, VisionConfig,
    },
    nn::{Builder, NameTable, Precision},
};

fn drawn<B: Backend, M>(device: &B::Device, make: impl FnOnce(&Builder<'_, B>) -> M) -> M {
    Builder::random(0, &NameTable::SAME, Precision::F32, device, make)
}

impl SiglipConfig {
    /// A tower of these sizes and random weights.
    ///
    /// ```
    /// use bunny_core::config::SiglipConfig;
    /// use burn::tensor::Tensor;
    /// use burn_flex::Flex;
    ///
    /// let config = SiglipConfig {
    ///     hidden_size: 32,
    ///     intermediate_size: 64,
    ///     num_hidden_layers: 3,
    ///     num_attention_heads: 2,
    ///     image_size: 28,
    ///     ..SiglipConfig::so400m_patch14_384()
    /// };
    /// let device = Default::default();
    /// let tower = config.init::<Flex>(&device);
    /// let pixels = Tensor::zeros([1, 3, 28, 28], &device);
    /// assert_eq!(tower.forward(pixels).dims(), [1, 4, 32]); // [pictures, patches, hidden]
    /// ```
    pub fn init<B: Backend>(&self, device: &B::Device) -> Siglip<B> {
        drawn(device, |builder| Siglip::new(self, builder))
    }
}

impl EvaClipConfig {
    /// A tower of these sizes and random weights.
    ///
    /// ```
    /// use bunny_core::config::EvaClipConfig;
    /// use burn::tensor::Tensor;
    /// use burn_flex::Flex;
    ///
    /// let config = EvaClipConfig {
    ///     width: 32,
    ///     layers: 3,
    ///     head_width: 16,
    ///     intermediate_size: 64,
    ///     image_size: 28,
    ///     ..EvaClipConfig::eva02_l_14_336()
    /// };
    /// let device = Default::default();
    /// let tower = config.init::<Flex>(&device);
    /// let pixels = Tensor::zeros([1, 3, 28, 28], &device);
    /// assert_eq!(tower.forward(pixels).dims(), [1, 4, 32]); // [pictures, patches, width]
    /// ```
    pub fn init<B: Backend>(&self, device: &B::Device) -> EvaClip<B> {
        drawn(device, |builder| EvaClip::new(self, builder))
    }
}

impl VisionConfig {
    /// A tower of this kind and these sizes, and of random weights.
    pub fn init<B: Backend>(&self, device: &B::Device) -> VisionTower<B> {
        drawn(device, |builder| VisionTower::new(self, builder))
    }
}

impl ProjectorConfig {
    /// A projector between these sizes, of random weights.
    ///
    /// ```
    /// use bunny_core::{config::ProjectorConfig, nn::Mode};
    /// use burn::tensor::Tensor;
    /// use burn_flex::Flex;
    ///
    /// let device = Default::default();
    /// let projector = ProjectorConfig::mlp2x_gelu(32, 48).init::<Flex>(&device);
    /// let features = Tensor::zeros([1, 4, 32], &device);
    /// let embeddings = projector.forward(features, &Mode::INFERENCE);
    /// assert_eq!(embeddings.dims(), [1, 4, 48]); // [pictures, tokens, output]
    /// ```
    pub fn init<B: Backend>(&self, device: &B::Device) -> Projector<B> {
        drawn(device, |builder| Projector::new(self, builder))
    }
}

impl DecoderConfig {
    /// A language model of these sizes and random weights.
    ///
    /// ```
    /// use bunny_core::{config::DecoderConfig, nn::{Mask, Mode, Positions}};
    /// use burn_flex::Flex;
    ///
    /// let config = DecoderConfig {
    ///     vocab_size: 100,
    ///     hidden_size: 32,
    ///     intermediate_size: 64,
    ///     num_hidden_layers: 2,
    ///     num_attention_heads: 2,
    ///     num_key_value_heads: 2,
    ///     head_dim: 16,
    ///     rotary_dim: 8,
    ///     ..DecoderConfig::phi_2()
    /// };
    /// let decoder = config.init::<Flex>(&Default::default());
    /// let embeds = decoder.model.embed(&[1, 2, 3]).unsqueeze(); // [batch, seq, hidden]
    /// let positions = Positions::consecutive(0, 3);
    /// let hidden = decoder.model.forward(embeds, &positions, Mask::CAUSAL, &Mode::INFERENCE);
    /// let logits = decoder.logits(hidden.squeeze_dim::<2>(0));
    /// assert_eq!(logits.dims(), [3, 100]); // [seq, vocab]
    /// ```
    pub fn init<B: Backend>(&self, device: &B::Device) -> Decoder<B> {
        drawn(device, |builder| Decoder::new(self, builder))
    }
}

impl BunnyConfig {
    /// A whole model of these sizes and random weights.
    ///
    /// ```
    /// use bunny_core::config::{
    ///     DecoderConfig, ProjectorConfig, SiglipConfig, VisionConfig, presets::Preset,
    /// };
    /// use burn::tensor::Tensor;
    /// use burn_flex::Flex;
    ///
    /// let mut config = Preset::named("bunny-phi-2-siglip").unwrap().config();
    /// config.decoder = DecoderConfig {
    ///     vocab_size: 100,
    ///     hidden_size: 32,
    ///     intermediate_size: 64,
    ///     num_hidden_layers: 2,
    ///     num_attention_heads: 2,
    ///     num_key_value_heads: 2,
    ///     head_dim: 16,
    ///     rotary_dim: 8,
    ///     ..config.decoder
    /// };
    /// config.vision = VisionConfig::Siglip(SiglipConfig {
    ///     hidden_size: 24,
    ///     intermediate_size: 48,
    ///     num_hidden_layers: 3,
    ///     num_attention_heads: 2,
    ///     image_size: 28,
    ///     ..SiglipConfig::so400m_patch14_384()
    /// });
    /// config.projector = ProjectorConfig::mlp2x_gelu(24, 32);
    ///
    /// let model = config.init::<Flex>(&Default::default());
    /// let embeds = Tensor::zeros([1, 5, 32], &Default::default());
    /// let scores = model.last_logits(model.forward(embeds));
    /// assert_eq!(scores.dims(), [1, 100]); // [batch, vocab]
    /// ```
    pub fn init<B: Backend>(&self, device: &B::Device) -> Bunny<B> {
        drawn(device, |builder| Bunny::new(self, builder))
    }
}
