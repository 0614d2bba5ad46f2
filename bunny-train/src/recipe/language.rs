//! The keys of stage `language`.

use std::path::PathBuf;

use bunny_core::{
    ConfigError, Fields,
    config::{DecoderConfig, Family},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    TrainingArguments,
    keys::{Fault, Keys},
};

/// A language model made from nothing: a Phi of any size, learnt from texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LanguageRecipe {
    /// Its sizes: the table `[language.model]`.
    pub model: PhiSizes,
    /// A folder with a tokenizer; without one, a tokenizer is trained on the texts.
    pub tokenizer: Option<PathBuf>,
    /// Tokens of the tokenizer that is trained, bytes and `<|endoftext|>` included.
    pub vocab_size: usize,
    /// Positions of a row; texts are packed into rows.
    pub model_max_length: usize,
    /// Keep less in memory, and compute layers twice.
    pub gradient_checkpointing: bool,
    /// Data, rates and steps.
    #[serde(flatten)]
    pub training: TrainingArguments,
}

/// The sizes of a Phi, under the names of transformers' `PhiConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PhiSizes {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; as many as query heads unless given.
    pub num_key_value_heads: Option<usize>,
    /// The longest sequence that the model is said to be for.
    pub max_position_embeddings: usize,
    /// Share of a head's channels that are rotated.
    pub partial_rotary_factor: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Added to the variance in every norm.
    pub layer_norm_eps: f64,
    /// Dropout on both branches of a layer, in training.
    pub resid_pdrop: f64,
    /// Dropout on the embeddings, in training.
    pub embd_pdrop: f64,
    /// Standard deviation of new weights.
    pub initializer_range: f64,
}

impl Default for PhiSizes {
    fn default() -> Self {
        Self {
            hidden_size: 160,
            intermediate_size: 640,
            num_hidden_layers: 5,
            num_attention_heads: 5,
            num_key_value_heads: None,
            max_position_embeddings: 2048,
            partial_rotary_factor: 0.5,
            rope_theta: 10_000.0,
            layer_norm_eps: 1e-5,
            resid_pdrop: 0.0,
            embd_pdrop: 0.0,
            initializer_range: 0.02,
        }
    }
}

impl Default for LanguageRecipe {
    fn default() -> Self {
        Self {
            model: PhiSizes::default(),
            tokenizer: None,
            vocab_size: 768,
            model_max_length: 512,
            gradient_checkpointing: false,
            training: TrainingArguments::default(),
        }
    }
}

impl Keys for LanguageRecipe {
    fn full() -> Self {
        Self {
            tokenizer: Some("x".into()),
            training: TrainingArguments::full(),
            ..Self::default()
        }
    }
}

impl LanguageRecipe {
    pub(super) fn check(&self) -> Result<(), Fault> {
        self.training.check()?;
        let wrong = |key: &str, problem: String| Err((format!(".{key}"), problem));
        if self.vocab_size <= SMALLEST_VOCABULARY {
            let problem = format!("must be above {SMALLEST_VOCABULARY}: every byte is a token");
            return wrong("vocab_size", problem);
        }
        if self.model_max_length < 2 {
            return wrong("model_max_length", "must be at least 2".into());
        }
        let range = self.model.initializer_range;
        if !(range.is_finite() && range > 0.0) {
            return wrong("model.initializer_range", "must be above 0".into());
        }
        match self.model.decoder_config(self.vocab_size) {
            Ok(_) => Ok(()),
            Err(error) => wrong("model", problem_of(&error)),
        }
    }
}

/// Bytes and `<|endoftext|>`.
const SMALLEST_VOCABULARY: usize = 257;

/// What a configuration error says of its field, without the file, which is the recipe.
pub(super) fn problem_of(error: &ConfigError) -> String {
    match error {
        ConfigError::Field { field, problem, .. } => format!("`{field}` {problem}"),
        other => other.to_string(),
    }
}

impl PhiSizes {
    /// The sizes under their names in `config.json`.
    pub fn to_json(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(sizes)) => sizes,
            _ => unreachable!("sizes are numbers with names"),
        }
    }

    /// The decoder of this size.
    ///
    /// # Errors
    /// When sizes do not fit each other.
    pub fn decoder_config(&self, vocab_size: usize) -> Result<DecoderConfig, ConfigError> {
        let mut sizes = self.to_json();
        sizes.insert("vocab_size".into(), vocab_size.into());
        let fields = Fields::of("[language.model]", sizes);
        let config = Family::PHI.decoder_config(&fields)?;
        config.validate(&fields)?;
        Ok(config)
    }
}
