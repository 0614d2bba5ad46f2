//! A model with all it takes to talk: tokenizer and image processor.

use std::sync::Arc;

use burn::tensor::backend::Backend;

use crate::{
    Bunny, Error,
    checkpoint::{ModelSource, OpenModel, Precision},
    input::{
        conversation::Template,
        image::ImageProcessor,
        tokenizer::{Token, Tokenizer},
    },
};

use super::{Chat, Engine, EngineOptions, GenerationOptions, Sequence};

/// A model on its device, with its tokenizer and its image processor. A clone shares all that is large.
#[derive(Debug)]
pub struct Pipeline<B: Backend> {
    /// The model.
    pub model: Arc<Bunny<B>>,
    /// Words to ids and back.
    pub tokenizer: Arc<Tokenizer>,
    /// Pictures to pixels.
    pub image_processor: ImageProcessor,
    /// The template the model was trained with.
    pub template: Template,
    /// Where the model lives.
    pub device: B::Device,
}

impl<B: Backend> Clone for Pipeline<B> {
    fn clone(&self) -> Self {
        Self {
            model: self.model.clone(),
            tokenizer: self.tokenizer.clone(),
            image_processor: self.image_processor.clone(),
            template: self.template,
            device: self.device.clone(),
        }
    }
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
            template: open.config.family.template_for(&open.tokenizer),
            model: Arc::new(model),
            tokenizer: Arc::new(open.tokenizer),
            image_processor: open.image_processor,
            device,
        })
    }

    /// The tokens that end an answer: the one the template writes behind an answer, else the
    /// tokenizer's or the configuration's; and where the configuration has several, all of them.
    pub fn ends_of_text(&self) -> Vec<u32> {
        self.ends_under(self.template)
    }

    /// The same under another template.
    pub(super) fn ends_under(&self, template: Template) -> Vec<u32> {
        let said = &self.model.config().eos_token_ids;
        let usual = template
            .end_of_text()
            .and_then(|token| self.tokenizer.token_to_id(token))
            .or(self.tokenizer.special_tokens().eos)
            .or(said.first().copied());
        let others: &[u32] = if said.len() > 1 { said } else { &[] };
        usual.into_iter().chain(others.iter().copied()).collect()
    }

    /// A new conversation.
    pub fn chat(&self) -> Chat<B> {
        Chat::new(self.clone())
    }

    /// An engine that answers several prompts at once.
    pub fn engine(&self, options: EngineOptions) -> Engine<B> {
        Engine::new(self.model.clone(), options, self.device.clone())
    }

    /// The answer to be of a prompt, as text and tokens, which ends as this model's do.
    pub fn sequence(&self, prompt: &[Token], options: &GenerationOptions) -> Sequence {
        Sequence::new(prompt, options, self.tokenizer.clone()).ending_with(self.ends_of_text())
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn_flex::Flex;

    use super::*;

    #[test]
    fn an_answer_ends_as_the_template_of_its_conversation_says() {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/models/phi-siglip"
        );
        let source = ModelSource::merged(folder);
        let mut pipeline =
            Pipeline::<Flex>::load(&source, Precision::F32, Default::default()).unwrap();
        let own = pipeline.ends_of_text();
        assert_eq!(own, [380]);
        assert_eq!(
            pipeline.ends_under(Template::MiniCpm),
            own,
            "it has no other"
        );

        let json = std::fs::read_to_string(format!("{folder}/tokenizer.json")).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let added = json["added_tokens"].as_array_mut().unwrap();
        let mut end = added[0].clone();
        end["id"] = 384.into();
        end["content"] = "</s>".into();
        added.push(end);
        pipeline.tokenizer = Arc::new(Tokenizer::from_json(&json.to_string(), None).unwrap());
        assert_eq!(pipeline.ends_under(Template::MiniCpm), [384]);
        assert_eq!(pipeline.ends_of_text(), own);
    }
}
