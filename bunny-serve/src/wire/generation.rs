//! How tokens are chosen, and how often: what chats and text completions share.

use std::time::{SystemTime, UNIX_EPOCH};

use bunny_core::generate::GenerationOptions;
use serde_json::Value;

use super::{ApiError, body::Body};

/// The most stop texts of a request, and the most tokens that end an answer.
const MOST_STOPS: usize = 16;
/// The most answers to one question.
const MOST_CHOICES: usize = 128;

/// How a request is to be answered.
#[derive(Debug, Clone)]
pub(crate) struct Generation {
    pub model: Option<String>,
    pub options: GenerationOptions,
    /// How many answers.
    pub choices: usize,
    /// Tokens that end an answer, besides the model's own.
    pub ends: Vec<u32>,
    /// Whether the model's own does not.
    pub ignore_eos: bool,
    /// Whether it is asked how likely the prompts themselves are.
    pub scores_prompts: bool,
    pub stream: bool,
    pub include_usage: bool,
}

impl Generation {
    /// OpenAI's fields and defaults, and the names that other servers have for more; the lengths and
    /// log-probabilities, which have different ones in its two forms, are left to those.
    pub(super) fn read(body: &Body) -> Result<Self, ApiError> {
        let include_usage = body
            .object("stream_options")?
            .and_then(|options| options.get("include_usage"));
        Ok(Self {
            model: body.text("model")?.map(str::to_string),
            options: sampling(body)?,
            choices: body.count("n", [1, MOST_CHOICES])?.unwrap_or(1),
            ends: ends(body)?,
            ignore_eos: body.boolean("ignore_eos")?,
            scores_prompts: false,
            stream: body.boolean("stream")?,
            include_usage: include_usage == Some(&Value::Bool(true)),
        })
    }
}

fn sampling(body: &Body) -> Result<GenerationOptions, ApiError> {
    Ok(GenerationOptions {
        min_new_tokens: body.count("min_tokens", [0, usize::MAX])?.unwrap_or(0),
        temperature: body.number("temperature", [0.0, 2.0], 1.0)?,
        top_p: body.number("top_p", [0.0, 1.0], 1.0)?,
        top_k: match body.integer("top_k")? {
            // -1 is "all" to vLLM's clients.
            None | Some(-1 | 0) => 0,
            Some(count) => usize::try_from(count).map_err(|_| {
                ApiError::invalid("top_k", "`top_k` must be a count, or -1 for all")
            })?,
        },
        min_p: body.number("min_p", [0.0, 1.0], 0.0)?,
        repetition_penalty: body.number("repetition_penalty", [0.01, 100.0], 1.0)?,
        presence_penalty: body.number("presence_penalty", [-2.0, 2.0], 0.0)?,
        frequency_penalty: body.number("frequency_penalty", [-2.0, 2.0], 0.0)?,
        logit_bias: logit_bias(body)?,
        // Without one each request draws for itself; any 64 bits will do.
        seed: match body.integer("seed")? {
            Some(seed) => seed as u64,
            None => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |now| now.as_nanos() as u64),
        },
        stop: body.texts("stop", MOST_STOPS)?,
        ..GenerationOptions::default()
    })
}

fn logit_bias(body: &Body) -> Result<Vec<(u32, f32)>, ApiError> {
    let read = |(id, bias): (&String, &Value)| {
        let pair = id.parse::<u32>().ok().zip(bias.as_f64());
        let pair = pair.filter(|(_, bias)| (-100.0..=100.0).contains(bias));
        pair.map(|(id, bias)| (id, bias as f32))
    };
    let biases = body.object("logit_bias")?.into_iter().flatten().map(read);
    let mut biases: Vec<(u32, f32)> = biases.collect::<Option<_>>().ok_or_else(|| {
        let wanted = "`logit_bias` maps token ids to numbers from -100 to 100";
        ApiError::invalid("logit_bias", wanted)
    })?;
    biases.sort_unstable_by_key(|(id, _)| *id);
    Ok(biases)
}

fn ends(body: &Body) -> Result<Vec<u32>, ApiError> {
    let id = |value: &Value| u32::try_from(value.as_u64()?).ok();
    let ids = body.list("stop_token_ids")?.into_iter().flatten().map(id);
    let ids: Option<Vec<u32>> = ids.collect();
    ids.filter(|ids| ids.len() <= MOST_STOPS).ok_or_else(|| {
        let wanted = format!("`stop_token_ids` must be at most {MOST_STOPS} token ids");
        ApiError::invalid("stop_token_ids", wanted)
    })
}
