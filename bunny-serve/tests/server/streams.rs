//! Streams beside whole answers: what is stopped, drawn, and cut inside characters.

use bunny_core::checkpoint::{Precision, builtin};
use bunny_core::generate::Pipeline;
use burn_flex::Flex;
use serde_json::{Map, Value, json};

use crate::running::{Running, ask, content, events, question, start};

/// The choices of a whole answer, after a stream has said the same in pieces.
fn both_ways(server: &Running, mut body: Value) -> Vec<Value> {
    body["stream"] = json!(false);
    let whole = ask(server, body.clone());
    let choices = whole.json()["choices"].as_array().unwrap().clone();
    body["stream"] = json!(true);
    let reply = ask(server, body);
    let mut events = events(&reply);
    assert_eq!(events.pop(), Some(json!("[DONE]")), "{}", reply.body);
    for choice in &choices {
        let pieces = events.iter().map(|event| &event["choices"][0]);
        let pieces = pieces.filter(|piece| piece["index"] == choice["index"]);
        let pieces: Vec<&Value> = pieces.collect();
        let texts = pieces
            .iter()
            .filter_map(|piece| piece["delta"]["content"].as_str());
        assert_eq!(
            json!(texts.collect::<String>()),
            choice["message"]["content"]
        );
        let last = pieces.last().unwrap();
        assert_eq!(last["finish_reason"], choice["finish_reason"]);
        let tokens = pieces
            .iter()
            .filter_map(|piece| piece["logprobs"]["content"].as_array());
        let tokens: Vec<Value> = tokens.flatten().cloned().collect();
        let known = choice["logprobs"]["content"].as_array();
        assert_eq!(Some(&tokens), known, "{choice}");
    }
    choices
}

/// The bytes of an answer's tokens.
fn bytes(choice: &Value) -> Vec<u8> {
    let tokens = choice["logprobs"]["content"].as_array().unwrap();
    let bytes = tokens
        .iter()
        .flat_map(|token| token["bytes"].as_array().unwrap());
    bytes.map(|byte| byte.as_u64().unwrap() as u8).collect()
}

#[test]
fn a_stop_text_ends_an_answer_wherever_in_its_tokens_it_stands() {
    let server = start(|_| {});
    let body = question("What is in the picture?");
    let whole = content(&ask(&server, body.clone()));
    // The second word of it and the third, and characters of them.
    let words: Vec<&str> = whole.split(' ').collect();
    let across = format!("{} {}", &words[1][1..], &words[2][..1]);
    let inside = &words[3][1..3];
    for stops in [
        json!(across),
        json!([inside, "no such text"]),
        json!([&whole[..1]]),
        json!("no such text"),
    ] {
        let mut stopped = body.clone();
        stopped["stop"] = stops.clone();
        stopped["logprobs"] = json!(true);
        let choice = &both_ways(&server, stopped)[0];
        let stops = stops.as_array().cloned().unwrap_or(vec![stops]);
        let places = stops
            .iter()
            .filter_map(|stop| whole.find(stop.as_str().unwrap()));
        let expected = &whole[..places.min().unwrap_or(whole.len())];
        assert_eq!(choice["message"]["content"], expected);
        assert_eq!(choice["finish_reason"], "stop");
        // Its tokens go on to where the stop text was whole.
        let said = String::from_utf8(bytes(choice)).unwrap();
        assert!(said.trim_start().starts_with(expected), "{said}");
    }
}

#[test]
fn drawn_answers_are_streamed_each_as_it_would_be_whole() {
    let server = start(|_| {});
    let mut body = question("Describe the picture.");
    body["n"] = json!(3);
    body["temperature"] = json!(1.5);
    body["seed"] = json!(3);
    body["logprobs"] = json!(true);
    body["top_logprobs"] = json!(2);
    body["presence_penalty"] = json!(0.5);
    let choices = both_ways(&server, body);
    let texts = choices.iter().map(|choice| &choice["message"]["content"]);
    let texts: Vec<&Value> = texts.collect();
    assert!(texts.iter().any(|text| *text != texts[0]), "{texts:?}");
}

#[test]
fn no_character_is_cut_in_a_stream() {
    let open = builtin::open().unwrap();
    let pipeline = Pipeline::<Flex>::from_open(open, Precision::F32, Default::default()).unwrap();
    let tokenizer = pipeline.tokenizer;
    let is_part = |id: &u32| matches!(tokenizer.token_bytes(*id)[..], [byte] if !byte.is_ascii());
    let parts = (0..tokenizer.vocab_size() as u32).filter(is_part);
    // Nothing but parts of characters can be said.
    let bias: Map<String, Value> = parts.map(|id| (id.to_string(), json!(100))).collect();
    assert_eq!(bias.len(), 128);
    let server = start(|_| {});
    for seed in 0..4 {
        let mut body = question("Describe the picture.");
        body["logit_bias"] = json!(bias);
        body["temperature"] = json!(2);
        body["seed"] = json!(seed);
        body["logprobs"] = json!(true);
        let choice = &both_ways(&server, body)[0];
        let expected = bytes(choice);
        let expected = String::from_utf8_lossy(&expected);
        assert_eq!(choice["message"]["content"], expected.trim_start());
        assert_eq!(choice["finish_reason"], "length");
    }
}
