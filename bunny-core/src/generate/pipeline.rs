//! A model with all it takes to talk: tokenizer and image processor.

use burn::tensor::backend::Backend;

use crate::{
    Bunny, Error,
    checkpoint::{ModelSource, OpenModel, Precision},
    conversation::Template,
    image_processor::ImageProcessor,
    tokenizer::Tokenizer,
};

use super::Chat;

/// A model on its device, with its tokenizer and its image processor.
#[derive(Debug)]
pub struct Pipeline<B: Backend> {
    /// The model.
    pub model: Bunny<B>,
    /// Words to ids and back.
    pub tokenizer: Tokenizer,
    /// Pictures to pixels.
    pub image_processor: ImageProcessor,
    /// The template the model was trained with.
    pub template: Template,
    /// Where the model lives.
    pub device: B::Device,
}

impl<B: Backend> Pipeline<B> {
    /// Loads a checkpoint.
    ///
    /// # Errors
    /// When files are missing or damaged, or do not fit each other.
    pub fn load(
        source: &ModelSource,
        precision: Precision,
        device: B::Device,
    ) -> Result<Self, Error> {
        Self::from_open(source.open()?, precision, device)
    }

    /// Loads the weights of a checkpoint that is already open.
    ///
    /// # Errors
    /// When tensors are missing, misshapen or unexpected.
    pub fn from_open(
        open: OpenModel,
        precision: Precision,
        device: B::Device,
    ) -> Result<Self, Error> {
        let model = Bunny::load(&open.config, &open.weights, precision, &device)?;
        Ok(Self {
            template: open.config.family.template(),
            model,
            tokenizer: open.tokenizer,
            image_processor: open.image_processor,
            device,
        })
    }

    /// The token that ends an answer: the one the template writes behind an answer, else the
    /// tokenizer's or the configuration's.
    pub fn end_of_text(&self) -> Option<u32> {
        self.template
            .end_of_text()
            .and_then(|token| self.tokenizer.token_to_id(token))
            .or(self.tokenizer.special_tokens().eos)
            .or(self.model.config().eos_token_id)
    }

    /// A new conversation.
    pub fn chat(&self) -> Chat<'_, B> {
        Chat::new(self)
    }
}
