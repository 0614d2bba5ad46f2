//! How long conversations are, in the tokens of a model.

use std::path::PathBuf;

use anyhow::{Context, Result};
use bunny_core::input::{
    conversation::{Conversation, Template},
    tokenizer::Tokenizer,
};
use bunny_data::{record::Record, validate::TokenCounter};
use clap::builder::RangedU64ValueParser;

/// The flags that say how tokens are counted.
#[derive(Debug, clap::Args)]
pub struct TokenArgs {
    /// Count tokens with the tokenizer of this model folder
    #[arg(long, value_name = "FOLDER")]
    tokenizer: Option<PathBuf>,
    /// The template that renders conversations: bunny, phi3, minicpm, llama or plain
    #[arg(long, default_value = "bunny", requires = "tokenizer")]
    template: Template,
    /// Tokens that a picture takes: 729 with SigLIP, 576 with EVA-CLIP
    #[arg(long, value_name = "N", default_value_t = 729, requires = "tokenizer",
          value_parser = RangedU64ValueParser::<usize>::new().range(..=1 << 20))]
    picture_tokens: usize,
}

impl TokenArgs {
    /// What counts, if it is asked for.
    pub fn counter(&self) -> Result<Option<Counter>> {
        let Some(folder) = &self.tokenizer else {
            return Ok(None);
        };
        let tokenizer = Tokenizer::from_folder(folder).context("--tokenizer")?;
        Ok(Some(Counter {
            tokenizer,
            template: self.template,
            picture_tokens: self.picture_tokens,
        }))
    }
}

/// Counts as training does: the whole rendered conversation, and the features of its pictures.
#[derive(Debug)]
pub struct Counter {
    tokenizer: Tokenizer,
    template: Template,
    picture_tokens: usize,
}

impl TokenCounter for Counter {
    /// Zero for what no template can render; other checks say why.
    fn count(&self, record: &Record) -> usize {
        let turns = record
            .conversations
            .iter()
            .map(|turn| (turn.from.as_str(), turn.value.as_str()));
        let has_picture = !record.images().is_empty();
        let Ok(conversation) = Conversation::from_record(self.template, turns, has_picture) else {
            return 0;
        };
        self.tokenizer
            .encode(&conversation.segments(false))
            .map_or(0, |encoded| {
                let pictures = encoded.pictures();
                encoded.tokens.len() - pictures + pictures * self.picture_tokens
            })
    }
}
