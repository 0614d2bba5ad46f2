//! A tokenizer as transformers opens it, whatever it was read from.

use std::sync::OnceLock;

use serde_json::{Value, json};
use tokenizers::{AddedToken, PreTokenizerWrapper};

use super::{Tokenizer, TokenizerError};

impl Tokenizer {
    /// The same with a special token more, and its id; where there is one of this text already, it is
    /// that.
    ///
    /// # Errors
    /// When the library refuses the token.
    pub(crate) fn with_special_token(&self, token: &str) -> Result<(Self, u32), TokenizerError> {
        let refused = |source| TokenizerError::Export { source };
        let mut inner = self.inner.clone();
        let added = AddedToken::from(token, true).normalized(false);
        inner.add_special_tokens([added]).map_err(refused)?;
        let id = inner
            .token_to_id(token)
            .ok_or_else(|| TokenizerError::NoSuchToken {
                token: token.to_owned(),
            })?;
        let tokenizer = Self {
            inner,
            literal: OnceLock::new(),
            special_tokens: self.special_tokens,
        };
        Ok((tokenizer, id))
    }

    /// `tokenizer.json`.
    ///
    /// # Errors
    /// When the library cannot write it.
    pub(crate) fn to_json(&self) -> Result<String, TokenizerError> {
        let text = self.inner.to_string(true);
        text.map_err(|source| TokenizerError::Export { source })
    }

    /// `tokenizer_config.json` beside it, for a model whose texts begin with `bos` and whose answers end in
    /// `eos`, that reads pictures where `image_token` stands, and sequences of up to `length` tokens.
    ///
    /// The class takes `tokenizer.json` as it is: others build their own rules from the vocabulary.
    pub(crate) fn transformers_config(
        &self,
        [bos, eos]: [Option<u32>; 2],
        image_token: &str,
        length: usize,
    ) -> Value {
        let text = |id: Option<u32>| id.and_then(|id| self.inner.id_to_token(id));
        let special = self.special_tokens;
        let mut config = json!({
            "bos_token": text(bos),
            "clean_up_tokenization_spaces": false,
            "eos_token": text(eos),
            "extra_special_tokens": {"image_token": image_token},
            "image_token": image_token,
            // Transformers 4 makes `token_type_ids` too, unless told otherwise, and LLaVA then refuses them.
            "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": length,
            "pad_token": text(self.pad_id().or(eos)),
            // Answers stand side by side behind prompts of several lengths.
            "padding_side": "left",
            "processor_class": "LlavaProcessor",
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": text(special.unk),
        });
        if let Some(PreTokenizerWrapper::ByteLevel(bytes)) = self.inner.get_pre_tokenizer() {
            // Where nothing is said, transformers 4 takes the space away.
            config["add_prefix_space"] = bytes.add_prefix_space.into();
        }
        if let Value::Object(fields) = &mut config {
            fields.retain(|_, value| !value.is_null());
        }
        config
    }
}
