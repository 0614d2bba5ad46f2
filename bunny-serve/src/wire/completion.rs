//! `POST /v1/completions`: texts as they stand, no template, no pictures.

use serde_json::Value;

use super::{ApiError, Generation, body::Body};

/// OpenAI's default for `max_tokens` here.
const DEFAULT_TOKENS: usize = 16;
/// The most alternatives to a token.
const MOST_ALTERNATIVES: usize = 5;
/// The most prompts of one request.
const MOST_PROMPTS: usize = 128;

/// Texts to go on with.
#[derive(Debug, Clone)]
pub(crate) struct CompletionRequest {
    pub prompts: Vec<PromptText>,
    /// Whether the prompt comes before its answer.
    pub echo: bool,
    pub generation: Generation,
}

/// A prompt: words, or the tokens that they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PromptText {
    Words(String),
    Ids(Vec<u32>),
}

impl CompletionRequest {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        let body = Body::parse(bytes)?;
        body.refuse("suffix", &[])?;
        let mut generation = Generation::read(&body)?;
        let best = body.count("best_of", [1, usize::MAX])?;
        if best.is_some_and(|best| best != generation.choices) {
            let wanted = "`best_of` must be the same as `n`";
            return Err(ApiError::invalid("best_of", wanted));
        }
        let echo = body.boolean("echo")?;
        let most = body.count("max_tokens", [usize::from(!echo), usize::MAX])?;
        generation.options.max_new_tokens = most.unwrap_or(DEFAULT_TOKENS);
        generation.options.log_probabilities = body.count("logprobs", [0, MOST_ALTERNATIVES])?;
        generation.scores_prompts = echo && generation.options.log_probabilities.is_some();
        Ok(Self {
            prompts: prompts(&body)?,
            echo,
            generation,
        })
    }
}

fn prompts(body: &Body) -> Result<Vec<PromptText>, ApiError> {
    let ids = |value: &Value| -> Option<Vec<u32>> {
        let id = |value: &Value| u32::try_from(value.as_u64()?).ok();
        value.as_array()?.iter().map(id).collect()
    };
    let one = |value: &Value| match value {
        Value::String(text) => Some(PromptText::Words(text.clone())),
        value => ids(value).map(PromptText::Ids),
    };
    let several = |value: &Value| match value {
        Value::Array(items) if items.first().is_some_and(|item| !item.is_number()) => {
            items.iter().map(one).collect()
        }
        value => one(value).map(|prompt| vec![prompt]),
    };
    let prompts = body.get("prompt").and_then(several);
    match prompts.filter(|prompts: &Vec<PromptText>| prompts.len() <= MOST_PROMPTS) {
        Some(prompts) => Ok(prompts),
        None => Err(ApiError::invalid(
            "prompt",
            format!("`prompt` must be a string, token ids, or at most {MOST_PROMPTS} of either"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn prompts_come_in_the_four_forms_of_the_api() {
        let prompts = |prompt: Value| {
            let body = json!({"prompt": prompt}).to_string();
            CompletionRequest::parse(body.as_bytes()).map(|request| request.prompts)
        };
        let words = |text: &str| PromptText::Words(text.into());
        assert_eq!(prompts(json!("a")).unwrap(), [words("a")]);
        assert_eq!(
            prompts(json!(["a", "b"])).unwrap(),
            [words("a"), words("b")]
        );
        assert_eq!(
            prompts(json!([1, 2])).unwrap(),
            [PromptText::Ids(vec![1, 2])]
        );
        assert_eq!(
            prompts(json!([[1], [2]])).unwrap(),
            [PromptText::Ids(vec![1]), PromptText::Ids(vec![2])]
        );
        for wrong in [
            json!(null),
            json!({}),
            json!([1, "a"]),
            json!([-1]),
            json!(3),
        ] {
            assert_eq!(prompts(wrong).unwrap_err().param.as_deref(), Some("prompt"));
        }
    }

    #[test]
    fn no_new_token_is_asked_for_only_where_the_prompt_comes_back() {
        let parse = |echo: bool| {
            let body = json!({"prompt": "a", "max_tokens": 0, "echo": echo, "logprobs": 1});
            CompletionRequest::parse(body.to_string().as_bytes())
        };
        assert_eq!(parse(true).unwrap().generation.options.max_new_tokens, 0);
        assert_eq!(
            parse(false).unwrap_err().param.as_deref(),
            Some("max_tokens")
        );
    }
}
