//! The model: pictures through tower and projector, words through the embedding, both through the
//! decoder.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};

use crate::{
    Error,
    config::BunnyConfig,
    input::{image::Pixels, tokenizer::Token},
    model::{
        decoder::Decoder,
        projector::Projector,
        tower::{VisionTower, stack_pixels},
    },
    nn::{Builder, KvCache, Mask, Mode, Positions, Precision, Weights},
};

/// A Bunny: vision tower, projector and decoder.
///
/// The model holds weights and nothing else; what changes while it answers (the KV cache) is passed
/// in, so that one model serves many conversations.
#[derive(Module, Debug)]
pub struct Bunny<B: Backend> {
    /// The language model.
    pub language_model: Decoder<B>,
    /// Pixels to features.
    pub vision_tower: VisionTower<B>,
    /// Features to embeddings.
    pub mm_projector: Projector<B>,
    #[module(skip)]
    config: BunnyConfig,
    #[module(skip)]
    precision: Precision,
}

impl<B: Backend> Bunny<B> {
    /// A model from stored weights.
    ///
    /// # Errors
    /// When tensors are missing, misshapen, unexpected or not floats; all of them are listed.
    pub fn load(
        config: &BunnyConfig,
        weights: &dyn Weights,
        precision: Precision,
        device: &B::Device,
    ) -> Result<Self, Error> {
        weights.read_ahead();
        let names = config.family.names();
        let model = Builder::build(weights, names, precision, device, |builder| {
            Self::new(config, builder)
        });
        Ok(model?)
    }

    /// A model of random weights, the same for the same seed on any backend.
    pub fn random(
        config: &BunnyConfig,
        seed: u64,
        precision: Precision,
        device: &B::Device,
    ) -> Self {
        Builder::random(seed, config.family.names(), precision, device, |builder| {
            Self::new(config, builder)
        })
    }

    fn new(config: &BunnyConfig, builder: &Builder<'_, B>) -> Self {
        let model = builder.child("model");
        Self {
            language_model: Decoder::new(&config.decoder, builder),
            // The name is doubled in published files: the reference's wrapper, then the tower.
            vision_tower: VisionTower::new(
                &config.vision,
                &model.child("vision_tower").child("vision_tower"),
            ),
            mm_projector: Projector::new(&config.projector, &model.child("mm_projector")),
            config: config.clone(),
            precision: builder.precision(),
        }
    }

    /// The sizes and choices of this model.
    pub fn config(&self) -> &BunnyConfig {
        &self.config
    }

    /// The number types of this model.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// An empty cache for `capacity` positions in each of `batch` rows.
    pub fn new_cache(&self, batch: usize, capacity: usize, device: &B::Device) -> KvCache<B> {
        KvCache::new(
            &self.config.decoder,
            batch,
            capacity,
            self.precision.compute,
            device,
        )
    }

    /// Pictures to embeddings.
    ///
    /// # Shapes
    /// each picture `[3, size, size]` → `[pictures, tokens, hidden]`
    pub fn encode_pictures(&self, pictures: &[&Pixels], device: &B::Device) -> Tensor<B, 3> {
        let pixels = stack_pixels::<B>(pictures.iter().copied(), device);
        let pixels = pixels.cast(self.precision.compute);
        let features = self.vision_tower.forward(pixels);
        self.mm_projector.forward(features, &Mode::INFERENCE)
    }

    /// The embeddings of a text with pictures: the picture slots, in reading order, become
    /// `features`, each `[1, tokens, hidden]`.
    ///
    /// # Shapes
    /// `tokens` → `[1, seq, hidden]`, where a slot counts for all features of its picture
    ///
    /// # Errors
    /// When there are no tokens, or not as many features as slots.
    pub fn embed(
        &self,
        tokens: &[Token],
        features: Vec<Tensor<B, 3>>,
    ) -> Result<Tensor<B, 3>, Error> {
        let is_picture = |token: &Token| matches!(token, Token::Picture(_));
        let slots = tokens.iter().filter(|token| is_picture(token)).count();
        if slots != features.len() {
            return Err(Error::Pictures {
                slots,
                given: features.len(),
            });
        }
        if tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        let mut features = features.into_iter();
        let runs = tokens.chunk_by(|a, b| !is_picture(a) && !is_picture(b));
        let parts = runs.filter_map(|run| match run[0] {
            Token::Text(_) => Some(self.embed_text(run).unsqueeze()),
            Token::Picture(_) => features.next(),
        });
        Ok(Tensor::cat(parts.collect(), 1))
    }

    /// The embeddings of words alone, `[seq, hidden]`; picture slots are passed over.
    pub(crate) fn embed_text(&self, tokens: &[Token]) -> Tensor<B, 2> {
        let ids: Vec<i32> = tokens
            .iter()
            .filter_map(|token| match token {
                Token::Text(id) => Some(*id as i32),
                Token::Picture(_) => None,
            })
            .collect();
        self.language_model
            .model
            .embed(&ids)
            .cast(self.precision.compute)
    }

    /// Positions that `tokens` take in the decoder: a picture takes as many as it has features.
    pub fn positions(&self, tokens: &[Token]) -> usize {
        let per_picture = self.config.vision.tokens();
        tokens
            .iter()
            .map(|token| match token {
                Token::Text(_) => 1,
                Token::Picture(_) => per_picture,
            })
            .sum()
    }

    /// Runs the decoder over embeddings and appends to the cache. `starts` gives the left padding
    /// of each row of a batch; empty when there is none.
    ///
    /// # Shapes
    /// `[batch, seq, hidden]` → `[batch, seq, hidden]`, after the final norm
    pub fn forward(
        &self,
        embeds: Tensor<B, 3>,
        starts: &[usize],
        cache: Option<&mut KvCache<B>>,
        mode: &Mode,
    ) -> Tensor<B, 3> {
        let past = cache.as_ref().map_or(0, |cache| cache.len());
        let seq = embeds.dims()[1];
        let positions = Positions::after_padding(starts, past, seq);
        let mask = Mask::Causal {
            starts: starts.to_vec(),
        };
        self.language_model
            .model
            .forward(embeds, &positions, mask, cache, mode)
    }

    /// Scores of every next token at the last position of each row.
    ///
    /// # Shapes
    /// `[batch, seq, hidden]` → `[batch, vocab]`, f32
    pub fn last_logits(&self, hidden: Tensor<B, 3>) -> Tensor<B, 2> {
        let [batch, seq, width] = hidden.dims();
        let last = hidden.narrow(1, seq - 1, 1).reshape([batch, width]);
        self.language_model.logits(last)
    }
}
