//! `POST /v1/chat/completions`.

use serde_json::Value;

use super::{ApiError, Generation, body::Body};

/// The most alternatives to a token.
const MOST_ALTERNATIVES: usize = 20;

/// A question, and how it is to be answered.
#[derive(Debug, Clone)]
pub(crate) struct ChatRequest {
    /// Instead of the template's own.
    pub system: Option<String>,
    /// The turns, the user's first and last.
    pub turns: Vec<Turn>,
    pub generation: Generation,
}

/// What one side says: texts joined, pictures in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Turn {
    pub by_assistant: bool,
    pub text: String,
    /// Addresses of pictures: data URLs, or others that may be refused.
    pub pictures: Vec<String>,
}

impl ChatRequest {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        let body = Body::parse(bytes)?;
        for field in [
            "tools",
            "tool_choice",
            "functions",
            "function_call",
            "audio",
        ] {
            body.refuse(field, &["none", "auto"])?;
        }
        let format = body
            .object("response_format")?
            .and_then(|format| format.get("type"));
        if format.is_some_and(|kind| kind != "text") {
            return Err(ApiError::invalid(
                "response_format",
                "this server has no grammar that could hold a model to a format: only `text` is supported",
            ));
        }
        let (system, turns) = conversation(&body)?;
        let mut generation = Generation::read(&body)?;
        let most = body.count("max_completion_tokens", [1, usize::MAX])?;
        let most = most.or(body.count("max_tokens", [1, usize::MAX])?);
        generation.options.max_new_tokens = most.unwrap_or(usize::MAX);
        let alternatives = body.count("top_logprobs", [0, MOST_ALTERNATIVES])?;
        generation.options.log_probabilities = match (body.boolean("logprobs")?, alternatives) {
            (true, alternatives) => Some(alternatives.unwrap_or(0)),
            (false, None | Some(0)) => None,
            (false, Some(_)) => {
                return Err(ApiError::invalid(
                    "top_logprobs",
                    "`top_logprobs` needs `logprobs`: true",
                ));
            }
        };
        Ok(Self {
            system,
            turns,
            generation,
        })
    }
}

/// The system text and the turns, neighbours of one side joined.
fn conversation(body: &Body) -> Result<(Option<String>, Vec<Turn>), ApiError> {
    let messages = body.list("messages")?.ok_or_else(|| {
        ApiError::invalid(
            "messages",
            "`messages` is missing: give at least one of a user",
        )
    })?;
    let mut system: Option<String> = None;
    let mut turns: Vec<Turn> = Vec::new();
    for (number, message) in messages.iter().enumerate() {
        let place = format!("messages[{number}]");
        let role = message.get("role").and_then(Value::as_str);
        let content = Content::read(message.get("content"), &format!("{place}.content"))?;
        match role {
            Some("system" | "developer") if turns.is_empty() => {
                if !content.pictures.is_empty() {
                    return Err(ApiError::invalid(
                        place,
                        "a system message holds no pictures",
                    ));
                }
                let system = system.get_or_insert_default();
                if !system.is_empty() {
                    system.push('\n');
                }
                system.push_str(&content.text);
            }
            Some("user" | "assistant") => {
                let by_assistant = role == Some("assistant");
                if by_assistant && !content.pictures.is_empty() {
                    return Err(ApiError::invalid(place, "an assistant shows no pictures"));
                }
                if by_assistant && turns.is_empty() {
                    return Err(ApiError::invalid(
                        place,
                        "the first turn must be the user's",
                    ));
                }
                match turns
                    .last_mut()
                    .filter(|last| last.by_assistant == by_assistant)
                {
                    Some(last) => last.add(content),
                    None => turns.push(Turn {
                        by_assistant,
                        text: content.text,
                        pictures: content.pictures,
                    }),
                }
            }
            Some(role @ ("system" | "developer")) => {
                return Err(ApiError::invalid(
                    format!("{place}.role"),
                    format!(
                        "`{role}` must come before all turns: the model's template has one place for it"
                    ),
                ));
            }
            Some("tool" | "function") => {
                return Err(ApiError::invalid(
                    format!("{place}.role"),
                    "tools are not supported by this server",
                ));
            }
            _ => {
                return Err(ApiError::invalid(
                    format!("{place}.role"),
                    "`role` must be system, developer, user or assistant",
                ));
            }
        }
    }
    match turns.last() {
        Some(last) if !last.by_assistant => Ok((system, turns)),
        _ => Err(ApiError::invalid(
            "messages",
            "the last message must be the user's",
        )),
    }
}

/// The content of a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Content {
    text: String,
    pictures: Vec<String>,
}

impl Content {
    fn read(content: Option<&Value>, place: &str) -> Result<Self, ApiError> {
        let parts = match content {
            None | Some(Value::Null) => return Ok(Self::default()),
            Some(Value::String(text)) => {
                return Ok(Self {
                    text: text.clone(),
                    pictures: Vec::new(),
                });
            }
            Some(Value::Array(parts)) => parts,
            Some(_) => {
                return Err(ApiError::invalid(
                    place,
                    "`content` must be a string or an array of parts",
                ));
            }
        };
        let mut read = Self::default();
        for (number, part) in parts.iter().enumerate() {
            let place = || format!("{place}[{number}]");
            match part.get("type").and_then(Value::as_str) {
                Some("text") => match part.get("text").and_then(Value::as_str) {
                    Some(text) => {
                        if !read.text.is_empty() {
                            read.text.push('\n');
                        }
                        read.text.push_str(text);
                    }
                    None => return Err(ApiError::invalid(place(), "a text part needs `text`")),
                },
                Some("image_url") => {
                    // Some clients send the address itself instead of an object that holds it.
                    let address = part.get("image_url");
                    let address = address.and_then(|value| value.get("url").or(Some(value)));
                    match address.and_then(Value::as_str) {
                        Some(address) => read.pictures.push(address.to_string()),
                        None => {
                            return Err(ApiError::invalid(
                                place(),
                                "a picture part needs `image_url.url`",
                            ));
                        }
                    }
                }
                Some(kind) => {
                    return Err(ApiError::invalid(
                        place(),
                        format!(
                            "a part must be `text` or `image_url`, not `{}`",
                            shortened(kind)
                        ),
                    ));
                }
                None => return Err(ApiError::invalid(place(), "a part needs a `type`")),
            }
        }
        Ok(read)
    }
}

/// What a client wrote, of which no more goes back than says which it was.
fn shortened(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}

impl Turn {
    fn add(&mut self, content: Content) {
        if !self.text.is_empty() && !content.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(&content.text);
        self.pictures.extend(content.pictures);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(change: impl FnOnce(&mut Value)) -> Result<ChatRequest, ApiError> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hello"}]});
        change(&mut body);
        ChatRequest::parse(body.to_string().as_bytes())
    }

    #[test]
    fn a_request_of_three_fields_has_the_defaults_of_the_api() {
        let request = parse(|_| {}).unwrap();
        assert_eq!(request.turns.len(), 1);
        let Generation {
            options,
            choices,
            stream,
            ..
        } = request.generation;
        assert_eq!((choices, stream), (1, false));
        assert_eq!(options.temperature, 1.0);
        assert_eq!(options.max_new_tokens, usize::MAX);
        assert_eq!(options.log_probabilities, None);
    }

    #[test]
    fn pictures_come_in_any_place_of_their_turn_and_texts_are_joined() {
        let request = parse(|body| {
            body["messages"] = json!([
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [
                    {"type": "text", "text": "one"},
                    {"type": "image_url", "image_url": {"url": "data:,a", "detail": "low"}},
                    {"type": "text", "text": "two"},
                    {"type": "image_url", "image_url": "data:,b"},
                ]},
                {"role": "user", "content": "three"},
                {"role": "assistant", "content": "four"},
                {"role": "user", "content": "five", "name": "x"},
            ]);
        })
        .unwrap();
        assert_eq!(request.system.as_deref(), Some("Be brief."));
        let [first, second, third] = &request.turns[..] else {
            panic!("{:?}", request.turns);
        };
        assert_eq!(first.text, "one\ntwo\nthree");
        assert_eq!(first.pictures, ["data:,a", "data:,b"]);
        assert_eq!((second.by_assistant, &*second.text), (true, "four"));
        assert_eq!((third.by_assistant, &*third.text), (false, "five"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_field() {
        for (field, value, param) in [
            ("messages", json!(null), "messages"),
            ("messages", json!([]), "messages"),
            ("messages", json!("hello"), "messages"),
            (
                "messages",
                json!([{"role": "assistant", "content": "a"}]),
                "messages[0]",
            ),
            (
                "messages",
                json!([{"role": "tool", "content": "a"}]),
                "messages[0].role",
            ),
            ("messages", json!([{"content": "a"}]), "messages[0].role"),
            (
                "messages",
                json!([{"role": "user", "content": 3}]),
                "messages[0].content",
            ),
            (
                "messages",
                json!([{"role": "user", "content": [{"type": "input_audio"}]}]),
                "messages[0].content[0]",
            ),
            (
                "messages",
                json!([{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]),
                "messages[1].role",
            ),
            ("temperature", json!(2.5), "temperature"),
            ("temperature", json!("hot"), "temperature"),
            ("top_p", json!(-0.1), "top_p"),
            ("n", json!(0), "n"),
            ("n", json!(1e300), "n"),
            ("max_tokens", json!(-1), "max_tokens"),
            ("max_completion_tokens", json!(0), "max_completion_tokens"),
            ("stop", json!([1]), "stop"),
            ("stop", json!(""), "stop"),
            ("stop_token_ids", json!(["a"]), "stop_token_ids"),
            ("min_tokens", json!(-1), "min_tokens"),
            ("logit_bias", json!({"x": 1}), "logit_bias"),
            ("logit_bias", json!({"1": 101}), "logit_bias"),
            ("top_logprobs", json!(3), "top_logprobs"),
            ("tools", json!([{}]), "tools"),
            (
                "response_format",
                json!({"type": "json_object"}),
                "response_format",
            ),
            ("stream", json!("yes"), "stream"),
            ("seed", json!(1.5), "seed"),
        ] {
            let error = parse(|body| body[field] = value.clone()).unwrap_err();
            assert_eq!(
                error.param.as_deref(),
                Some(param),
                "{field}: {}",
                error.message
            );
            assert_eq!(error.status, 400);
        }
        for bytes in [&b"{"[..], b"[]", b"\"a\"", b"", b"\xff"] {
            assert_eq!(ChatRequest::parse(bytes).unwrap_err().status, 400);
        }
    }

    #[test]
    fn what_other_servers_clients_send_is_taken_or_passed_over() {
        let request = parse(|body| {
            body["top_k"] = json!(-1);
            body["repetition_penalty"] = json!(1.1);
            body["min_p"] = json!(0.05);
            body["tools"] = json!([]);
            body["tool_choice"] = json!("auto");
            body["response_format"] = json!({"type": "text"});
            body["user"] = json!("someone");
            body["no_field_of_ours"] = json!({"a": [1]});
            body["logprobs"] = json!(true);
            body["logit_bias"] = json!({"7": -3.5, "2": 1});
            body["stop"] = json!("\n");
            body["max_tokens"] = json!(5);
            body["max_completion_tokens"] = json!(9);
            body["min_tokens"] = json!(2);
            body["ignore_eos"] = json!(true);
            body["stop_token_ids"] = json!([5]);
        })
        .unwrap();
        let Generation {
            options,
            ends,
            ignore_eos,
            ..
        } = request.generation;
        assert_eq!((ends, ignore_eos), (vec![5], true));
        assert_eq!(options.min_new_tokens, 2);
        assert_eq!(options.top_k, 0);
        assert_eq!(options.repetition_penalty, 1.1);
        assert_eq!(options.log_probabilities, Some(0));
        assert_eq!(options.logit_bias, [(2, 1.0), (7, -3.5)]);
        assert_eq!(options.stop, ["\n"]);
        assert_eq!(options.max_new_tokens, 9);
    }
}
