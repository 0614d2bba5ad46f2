//! What is answered, and how it is told.

use std::{sync::Arc, thread};

use serde_json::{Value, json};

use crate::running::{alone, ask, content, events, get, metric, post, question, start};

#[test]
fn a_question_about_a_picture_is_answered_as_in_a_chat() {
    let server = start(|_| {});
    let text = "What is in the picture?";
    let reply = ask(&server, question(text));
    assert_eq!(reply.status, 200, "{}", reply.body);
    let json = reply.json();
    assert_eq!(json["object"], "chat.completion");
    assert_eq!(json["model"], "builtin");
    assert_eq!(json["choices"][0]["finish_reason"], "stop");
    assert_eq!(json["choices"][0]["message"]["role"], "assistant");
    assert_eq!(content(&reply), alone(text));
    let usage = &json["usage"];
    let count = |field: &str| usage[field].as_u64().unwrap();
    assert_eq!(
        count("prompt_tokens") + count("completion_tokens"),
        count("total_tokens")
    );
    let details = &usage["prompt_tokens_details"];
    assert!(details["image_tokens"].as_u64().unwrap() > 1);
    assert_eq!(details["cached_tokens"], 0);
    assert_eq!(details["audio_tokens"], 0);
    assert_eq!(
        usage["completion_tokens_details"],
        json!({
            "text_tokens": count("completion_tokens"), "reasoning_tokens": 0, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        })
    );

    // A second question about the picture reads only its own words.
    let second = ask(&server, question("What number is written in the picture?")).json();
    let cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
        .as_u64()
        .unwrap();
    assert!(
        cached > details["image_tokens"].as_u64().unwrap(),
        "{second}"
    );
}

#[test]
fn a_stream_begins_with_the_role_and_ends_with_reason_usage_and_done() {
    let server = start(|_| {});
    let mut body = question("What is in the picture?");
    let whole = content(&ask(&server, body.clone()));
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let reply = ask(&server, body);
    assert!(
        reply.headers.contains("content-type: text/event-stream"),
        "{}",
        reply.headers
    );
    assert!(reply.headers.contains("cache-control: no-cache"));
    let events = events(&reply);
    let [first, middle @ .., last, usage, done] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(
        first["choices"][0]["delta"],
        json!({"role": "assistant", "content": ""})
    );
    assert_eq!(*done, json!("[DONE]"));
    assert_eq!(usage["choices"], json!([]));
    assert!(usage["usage"]["completion_tokens"].as_u64().unwrap() > 0);
    assert_eq!(last["choices"][0]["delta"], json!({}));
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    let delta = |event: &Value| {
        event["choices"][0]["delta"]["content"]
            .as_str()
            .unwrap()
            .to_string()
    };
    assert_eq!(middle.iter().map(delta).collect::<String>(), whole);
    for event in middle {
        assert_eq!(event["object"], "chat.completion.chunk");
        assert_eq!(event["id"], first["id"]);
        assert_eq!(event["choices"][0]["finish_reason"], Value::Null);
        assert_eq!(event["usage"], Value::Null);
    }
}

#[test]
fn sixty_four_clients_get_the_answers_that_each_gets_alone() {
    let server = Arc::new(start(|options| options.slots = 16));
    let texts = [
        "What is in the picture?",
        "What number is written in the picture?",
        "Where is the black diamond?",
    ];
    let expected: Vec<String> = texts.iter().map(|text| alone(text)).collect();
    let clients: Vec<_> = (0..64)
        .map(|number| {
            let (server, text) = (server.clone(), texts[number % texts.len()]);
            thread::spawn(move || content(&ask(&server, question(text))))
        })
        .collect();
    for (number, client) in clients.into_iter().enumerate() {
        assert_eq!(client.join().unwrap(), expected[number % texts.len()]);
    }
    let metrics = get(&server, "/metrics").body;
    assert!(
        metrics.contains("finished_reason=\"stop\"} 64"),
        "{metrics}"
    );
    assert!(
        metrics.contains("bunny:num_requests_running{model_name=\"builtin\"} 0"),
        "{metrics}"
    );
}

#[test]
fn steps_count_the_tokens_that_answers_count() {
    let server = start(|options| options.chunk = 64);
    let mut told = (0, 0);
    for text in ["What is in the picture?", "Where is the black diamond?"] {
        let usage = ask(&server, question(text)).json()["usage"].clone();
        let count = |pointer: &str| usage.pointer(pointer).unwrap().as_u64().unwrap();
        let known = count("/prompt_tokens_details/cached_tokens");
        let (read, said) = (count("/prompt_tokens") - known, count("/completion_tokens"));
        // The step that reads the end of a prompt chooses the first token.
        told = (told.0 + read + said, told.1 + read.div_ceil(64) + said - 1);
        let metrics = get(&server, "/metrics");
        for (name, expected) in [("sum", told.0), ("count", told.1)] {
            let name = format!("iteration_tokens_total_{name}");
            assert_eq!(metric(&metrics, &name), expected as f64, "{name}: {usage}");
        }
    }
}

#[test]
fn log_probabilities_come_with_their_alternatives_and_bytes() {
    let server = start(|_| {});
    let mut body = question("What is in the picture?");
    body["logprobs"] = json!(true);
    body["top_logprobs"] = json!(3);
    let json = ask(&server, body).json();
    let tokens = json["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap()
        .clone();
    assert_eq!(
        tokens.len() as u64,
        json["usage"]["completion_tokens"].as_u64().unwrap()
    );
    for token in &tokens {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        // Greedy: the token is the likeliest.
        assert_eq!(top[0]["token"], token["token"]);
        assert_eq!(top[0]["logprob"], token["logprob"]);
        let sum: f64 = top
            .iter()
            .map(|one| one["logprob"].as_f64().unwrap().exp())
            .sum();
        assert!(sum <= 1.0 + 1e-5, "{sum}");
    }
    let bytes: Vec<u8> = tokens
        .iter()
        .flat_map(|token| token["bytes"].as_array().unwrap())
        .map(|byte| byte.as_u64().unwrap() as u8)
        .collect();
    let said = String::from_utf8(bytes).unwrap();
    let text = json["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(said.trim_start().starts_with(text), "{said} | {text}");
}

#[test]
fn several_answers_differ_by_their_draws_and_a_seed_repeats_them() {
    let server = start(|_| {});
    let mut body = question("Describe the picture.");
    body["n"] = json!(4);
    body["temperature"] = json!(1.5);
    body["seed"] = json!(7);
    let texts = || -> Vec<String> {
        let json = ask(&server, body.clone()).json();
        let choices = json["choices"].as_array().unwrap().clone();
        assert_eq!(choices.len(), 4);
        choices
            .iter()
            .map(|choice| choice["message"]["content"].as_str().unwrap().to_string())
            .collect()
    };
    let first = texts();
    assert!(first.iter().any(|text| *text != first[0]), "{first:?}");
    assert_eq!(texts(), first);
}

#[test]
fn texts_are_completed_as_they_stand() {
    let server = start(|_| {});
    let body = json!({
        "prompt": "USER: What is 2 + 2? ASSISTANT:", "max_tokens": 8, "temperature": 0, "logprobs": 2, "echo": true,
    });
    let reply = post(&server, "/v1/completions", &body);
    assert_eq!(reply.status, 200, "{}", reply.body);
    let json = reply.json();
    assert_eq!(json["object"], "text_completion");
    let text = json["choices"][0]["text"].as_str().unwrap();
    assert!(
        text.starts_with("USER: What is 2 + 2? ASSISTANT:"),
        "{text}"
    );
    assert_eq!(
        post(&server, "/completions", &body).json()["choices"],
        json["choices"]
    );

    // The prompt's own tokens are scored, all but the first, which nothing foretells.
    let list = |json: &Value, field: &str| {
        let scored = &json["choices"][0]["logprobs"][field];
        scored.as_array().unwrap().clone()
    };
    let (tokens, numbers) = (list(&json, "tokens"), list(&json, "token_logprobs"));
    let tops = list(&json, "top_logprobs");
    let joined: String = tokens.iter().map(|token| token.as_str().unwrap()).collect();
    assert!(joined.starts_with(text), "{joined} | {text}");
    assert_eq!((&numbers[0], &tops[0]), (&Value::Null, &Value::Null));
    assert_eq!((numbers.len(), tops.len()), (tokens.len(), tokens.len()));
    for ((token, number), top) in tokens.iter().zip(&numbers).zip(&tops).skip(1) {
        let top = top.as_object().unwrap().values();
        let likeliest = top.map(|of| of.as_f64().unwrap()).fold(f64::MIN, f64::max);
        assert!(number.as_f64().unwrap() <= likeliest, "{token}: {number}");
    }
    // They are the same without an answer.
    let mut alone = body;
    alone["max_tokens"] = json!(0);
    let alone = post(&server, "/v1/completions", &alone).json();
    let scored = list(&alone, "token_logprobs");
    assert_eq!(scored, numbers[..scored.len()]);
    assert_eq!(alone["usage"]["completion_tokens"], 0);
}

#[test]
fn a_streamed_echo_is_the_whole_one_in_pieces() {
    let server = start(|_| {});
    // The last two characters are of several tokens each.
    let prompts = json!(["USER: What is 2 + 2? ASSISTANT:", "One, two, é 😀"]);
    let mut body =
        json!({"prompt": prompts, "max_tokens": 6, "temperature": 0, "echo": true, "n": 2});
    for scored in [false, true] {
        if scored {
            body["logprobs"] = json!(1);
        }
        body["stream"] = json!(false);
        let whole = post(&server, "/v1/completions", &body).json();
        body["stream"] = json!(true);
        let reply = post(&server, "/v1/completions", &body);
        let mut events = events(&reply);
        assert_eq!(events.pop(), Some(json!("[DONE]")), "{}", reply.body);
        for choice in whole["choices"].as_array().unwrap() {
            let pieces = events.iter().map(|event| &event["choices"][0]);
            let pieces = pieces.filter(|piece| piece["index"] == choice["index"]);
            let pieces: Vec<&Value> = pieces.collect();
            let texts = pieces.iter().map(|piece| piece["text"].as_str().unwrap());
            assert_eq!(texts.collect::<String>(), choice["text"].as_str().unwrap());
            let prompt = &prompts[choice["index"].as_u64().unwrap() as usize / 2];
            assert_eq!(pieces[0]["text"], *prompt, "the prompt comes first");
            assert_eq!(
                pieces.last().unwrap()["finish_reason"],
                choice["finish_reason"]
            );
            if !scored {
                continue;
            }
            assert_offsets(choice);
            for field in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
                let parts = pieces
                    .iter()
                    .filter_map(|piece| piece["logprobs"][field].as_array());
                let joined: Vec<Value> = parts.flatten().cloned().collect();
                assert_eq!(json!(joined), choice["logprobs"][field], "{field}");
            }
        }
    }
}

/// Every token stands where it is said to; one that is no text by itself, in the character that it is a part of.
fn assert_offsets(choice: &Value) {
    let text: Vec<char> = choice["text"].as_str().unwrap().chars().collect();
    let list = |field: &str| choice["logprobs"][field].as_array().unwrap();
    let mut parts = 0;
    for (token, offset) in list("tokens").iter().zip(list("text_offset")) {
        let (token, offset) = (token.as_str().unwrap(), offset.as_u64().unwrap() as usize);
        match token.starts_with("bytes:") {
            true => {
                parts += 1;
                assert!(text[offset].len_utf8() > 1, "{token} at {offset}: {choice}");
            }
            // What ends an answer is no part of its text.
            false if offset == text.len() => assert_eq!(token, "<|endoftext|>"),
            false => {
                let there: String = text[offset..].iter().take(token.chars().count()).collect();
                assert_eq!(there, token, "at {offset}: {choice}");
            }
        }
    }
    let is_split = choice["text"].as_str().unwrap().contains('😀');
    assert_eq!(parts > 0, is_split, "{choice}");
}
