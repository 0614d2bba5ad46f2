//! The model: pictures through tower and projector, words through the embedding, both through the
//! decoder.

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{DType, Int, Tensor, backend::Backend},
};

use crate::{
    Error,
    config::{BunnyConfig, DecoderConfig},
    input::{image::Pixels, tokenizer::Token},
    model::{
        decoder::Decoder,
        projector::Projector,
        tower::{VisionTower, stack_pixels},
    },
    nn::{
        Builder, KvCache, KvPass, KvSequence, Mask, Mode, Part, Positions, Precision, WeightFormat,
        Weights,
    },
    ops,
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

    pub(super) fn new(config: &BunnyConfig, builder: &Builder<'_, B>) -> Self {
        Self {
            language_model: Decoder::new(&config.decoder, builder),
            vision_tower: VisionTower::new(&config.vision, &builder.part(Part::VisionTower)),
            mm_projector: Projector::new(&config.projector, &builder.part(Part::Projector)),
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

    /// The format in which the products of its language model's layers are held.
    pub fn language_model_format(&self) -> WeightFormat {
        match self.language_model.model.layers.first() {
            Some(layer) => layer.self_attn.o_proj.weight.format(),
            None => self.precision.weights,
        }
    }

    /// An empty cache for what sequences leave behind, cut as suits the backend.
    ///
    /// On CPUs it holds 16 bits where the weights do, or eight where [`Precision::cache_int8`] says so: it
    /// is read whole with every token.
    pub fn new_cache(&self, device: &B::Device) -> KvCache<B> {
        let table_limit = self.precision.table_limit;
        let DecoderConfig {
            num_hidden_layers: layers,
            num_key_value_heads: kv_heads,
            head_dim,
            ..
        } = self.config.decoder;
        let dtype = self.cache_type();
        let mut blocks = ops::kv_blocks::<B>();
        // A tensor is no larger than a kernel can read.
        let block = blocks.positions * kv_heads * ops::kv_row_bytes(dtype, head_dim);
        blocks.per_tensor = blocks.per_tensor.min((table_limit / block).max(1));
        KvCache::new(layers, kv_heads, head_dim, dtype, blocks, device)
    }

    /// The type of what the cache holds.
    fn cache_type(&self) -> DType {
        let Precision {
            weights,
            packing,
            compute,
            cache_int8,
            ..
        } = self.precision;
        if cache_int8 && ops::narrows_cache::<B>() && compute == DType::F32 {
            return DType::I8;
        }
        // Beside integers the cache would be read longest.
        let weights = match packing {
            Some(_) => DType::F16,
            None => weights.dtype(),
        };
        let narrows = ops::narrows_cache::<B>() && weights.size() < compute.size();
        if narrows { weights } else { compute }
    }

    /// Bytes that a token of an answer reads behind so many positions: weights, and what the cache holds
    /// of those. Of the token table it reads a row.
    pub fn bytes_per_token(&self, positions: usize) -> u64 {
        let Decoder { model, lm_head, .. } = &self.language_model;
        let mut read = Read(0);
        model.layers.iter().for_each(|layer| layer.visit(&mut read));
        model.norm.visit(&mut read);
        match lm_head {
            Some(head) => head.visit(&mut read),
            None => Module::<B>::visit(&model.embed_tokens, &mut read),
        }
        let decoder = &self.config.decoder;
        let row = ops::kv_row_bytes(self.cache_type(), decoder.head_dim);
        let cached = positions * 2 * decoder.num_hidden_layers * decoder.num_key_value_heads * row;
        read.0 + cached as u64
    }

    /// Pictures to embeddings.
    ///
    /// # Shapes
    /// each picture `[3, size, size]` → `[pictures, tokens, hidden]`
    pub fn encode_pictures(&self, pictures: &[&Pixels], device: &B::Device) -> Tensor<B, 3> {
        let pixels = stack_pixels::<B>(pictures.iter().copied(), device);
        let pixels = pixels.cast(self.precision.compute);
        let features = self.vision_tower.forward(pixels);
        self.mm_projector.forward(features, &Mode::PREFILL)
    }

    /// The embeddings of a text with pictures: the picture slots, in reading order, become
    /// `features`, each `[1, tokens, hidden]`.
    ///
    /// # Shapes
    /// `tokens` → `[1, seq, hidden]`, where a slot counts for all features of its picture
    ///
    /// # Errors
    /// When there are no tokens, or not as many features as slots, or a token has no row.
    pub fn embed(
        &self,
        tokens: &[Token],
        features: Vec<Tensor<B, 3>>,
    ) -> Result<Tensor<B, 3>, Error> {
        let id_of = |token: &Token| match token {
            Token::Text(id) => Some(*id),
            Token::Picture(_) => None,
        };
        let is_picture = |token: &Token| id_of(token).is_none();
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
        // Checked here: of rows that are not there some backends give zeros, and others panic.
        let rows = self.config.decoder.vocab_size;
        if let Some(id) = tokens
            .iter()
            .filter_map(id_of)
            .find(|id| *id as usize >= rows)
        {
            return Err(Error::NoSuchToken { id, rows });
        }
        let mut features = features.into_iter();
        let runs = tokens.chunk_by(|a, b| !is_picture(a) && !is_picture(b));
        let parts = runs.filter_map(|run| {
            let ids: Vec<u32> = run.iter().filter_map(id_of).collect();
            match ids.is_empty() {
                true => features.next(),
                false => Some(self.embed_ids(&ids)),
            }
        });
        Ok(Tensor::cat(parts.collect(), 1))
    }

    /// The embeddings of tokens, `[1, ids, hidden]`.
    pub(crate) fn embed_ids(&self, ids: &[u32]) -> Tensor<B, 3> {
        let ids: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
        let rows = self.language_model.model.embed(&ids);
        rows.cast(self.precision.compute).unsqueeze()
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

    /// Runs the decoder over embeddings of whole sequences.
    ///
    /// # Shapes
    /// `[batch, seq, hidden]` → `[batch, seq, hidden]`, after the final norm
    pub fn forward(&self, embeds: Tensor<B, 3>) -> Tensor<B, 3> {
        let positions = Positions::consecutive(0, embeds.dims()[1]);
        let stack = &self.language_model.model;
        stack.forward(embeds, &positions, Mask::CAUSAL, &Mode::INFERENCE)
    }

    /// Reads the next part of a prompt behind what `sequence` has read of it.
    ///
    /// # Shapes
    /// `[1, seq, hidden]` → `[1, seq, hidden]`, after the final norm
    ///
    /// # Panics
    /// When the sequence is another cache's.
    pub fn prefill(
        &self,
        embeds: Tensor<B, 3>,
        cache: &mut KvCache<B>,
        sequence: &mut KvSequence,
    ) -> Tensor<B, 3> {
        let count = embeds.dims()[1];
        cache.reserve(sequence, count);
        let pass = cache.pass([(&*sequence, count)]);
        let hidden = self.run(embeds, cache, &pass, &Mode::PREFILL);
        sequence.advance(count);
        hidden
    }

    /// Reads one more token of each of several sequences.
    ///
    /// # Shapes
    /// an id a sequence → `[1, sequences, hidden]`, after the final norm
    ///
    /// # Panics
    /// When there are not as many ids as sequences, or a sequence is another cache's.
    pub fn decode(
        &self,
        ids: &[u32],
        cache: &mut KvCache<B>,
        sequences: &mut [&mut KvSequence],
    ) -> Tensor<B, 3> {
        assert_eq!(ids.len(), sequences.len(), "an id a sequence");
        for sequence in &mut *sequences {
            cache.reserve(sequence, 1);
        }
        let pass = cache.pass(sequences.iter().map(|sequence| (&**sequence, 1)));
        let hidden = self.run(self.embed_ids(ids), cache, &pass, &Mode::DECODE);
        for sequence in sequences {
            sequence.advance(1);
        }
        hidden
    }

    /// Runs the decoder over the rows of a pass; whether they count as read is for the caller to say.
    ///
    /// # Shapes
    /// `[1, rows, hidden]` → `[1, rows, hidden]`, after the final norm
    pub(crate) fn run(
        &self,
        embeds: Tensor<B, 3>,
        cache: &mut KvCache<B>,
        pass: &KvPass<B>,
        mode: &Mode,
    ) -> Tensor<B, 3> {
        let stack = &self.language_model.model;
        stack.forward_cached(embeds, cache, pass, mode)
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

/// Bytes of parameters.
struct Read(u64);

impl<B: Backend> ModuleVisitor<B> for Read {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let value = param.val();
        self.0 += (value.shape().num_elements() * value.dtype().size()) as u64;
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<B, D, Int>>) {
        let value = param.val();
        self.0 += (value.shape().num_elements() * value.dtype().size()) as u64;
    }
}
