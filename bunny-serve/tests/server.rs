//! The server over the built-in model, by plain requests on loopback.
#![recursion_limit = "256"]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bunny_core::{
    checkpoint::{Precision, builtin},
    generate::Pipeline,
};
use bunny_serve::{Server, ServerOptions};
use burn_flex::Flex;
use serde_json::{Value, json};

const PICTURE: &[u8] = include_bytes!("../../examples/pictures/shapes.jpg");

/// A server on a port of its own, stopped when dropped.
struct Running {
    address: SocketAddr,
    stop: Box<dyn Fn() + Send + Sync>,
    server: Option<thread::JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        (self.stop)();
        if let Some(server) = self.server.take() {
            server.join().unwrap();
        }
    }
}

fn start(change: impl FnOnce(&mut ServerOptions)) -> Running {
    let mut options = ServerOptions::named("builtin");
    change(&mut options);
    let open = builtin::open().unwrap();
    let pipeline = Pipeline::<Flex>::from_open(open, Precision::F32, Default::default()).unwrap();
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), pipeline, options).unwrap();
    let (address, stop) = (server.address(), Box::new(server.stopper()));
    let server = thread::spawn(move || server.run().unwrap());
    Running {
        address,
        stop,
        server: Some(server),
    }
}

/// A response: status, headers in lower case, body.
struct Reply {
    status: u16,
    headers: String,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn error(&self) -> Value {
        self.json()["error"].clone()
    }
}

fn send(server: &Running, head: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let head = format!(
        "{head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A server may answer, and close, before it has read all of a body that it refuses.
    drop(stream.write_all(body));
    stream
}

fn request(server: &Running, head: &str, body: &[u8]) -> Reply {
    let mut bytes = Vec::new();
    // What came before a connection was cut counts.
    drop(send(server, head, body).read_to_end(&mut bytes));
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let headers = head.to_lowercase();
    let body = match headers.contains("transfer-encoding: chunked") {
        true => unchunked(body),
        false => body.to_string(),
    };
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply {
        status,
        headers,
        body,
    }
}

/// A body in chunks as one.
fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        whole += &rest[..size];
        body = &rest[size + 2..];
    }
    whole
}

fn get(server: &Running, path: &str) -> Reply {
    request(
        server,
        &format!("GET {path} HTTP/1.1\r\nHost: localhost"),
        b"",
    )
}

fn post(server: &Running, path: &str, body: &Value) -> Reply {
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json");
    request(server, &head, body.to_string().as_bytes())
}

fn ask(server: &Running, body: Value) -> Reply {
    post(server, "/v1/chat/completions", &body)
}

fn question(text: &str) -> Value {
    let picture = format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(PICTURE));
    json!({
        "model": "builtin",
        "temperature": 0,
        "max_tokens": 48,
        "messages": [{"role": "user", "content": [
            {"type": "text", "text": text},
            {"type": "image_url", "image_url": {"url": picture}},
        ]}],
    })
}

/// The answer that the same model gives in a conversation of its own.
fn alone(text: &str) -> String {
    use bunny_core::{
        generate::GenerationOptions,
        input::image::{DecodeOptions, decode},
    };
    let open = builtin::open().unwrap();
    let pipeline = Pipeline::<Flex>::from_open(open, Precision::F32, Default::default()).unwrap();
    let picture = decode(PICTURE, DecodeOptions::upright()).unwrap();
    let options = GenerationOptions {
        max_new_tokens: 48,
        ..Default::default()
    };
    let go_on = |_: &str| std::ops::ControlFlow::Continue(());
    pipeline
        .chat()
        .ask(text, &[picture], &options, go_on)
        .unwrap()
        .text
}

fn content(reply: &Reply) -> String {
    reply.json()["choices"][0]["message"]["content"]
        .as_str()
        .unwrap_or_else(|| panic!("{}", reply.body))
        .to_string()
}

/// The events of a stream.
fn events(reply: &Reply) -> Vec<Value> {
    let data = reply
        .body
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap_or(json!(data)))
        .collect()
}

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
        metrics.contains("finished_reason=\"end_of_text\"} 64"),
        "{metrics}"
    );
    assert!(
        metrics.contains("bunny:num_requests_running{model_name=\"builtin\"} 0"),
        "{metrics}"
    );
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
fn every_error_has_the_shape_and_the_status_of_the_api() {
    let server = start(|options| {
        options.max_body = 32_768;
        options.max_pictures = 1;
    });
    let plain = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    let image = |url: &str| plain(json!([{"type": "image_url", "image_url": {"url": url}}]));
    let json_head =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
    for (what, reply, status, kind) in [
        (
            "no path",
            get(&server, "/v1/nothing"),
            404,
            "not_found_error",
        ),
        (
            "no model",
            get(&server, "/v1/models/gpt"),
            404,
            "not_found_error",
        ),
        (
            "method",
            get(&server, "/v1/chat/completions"),
            405,
            "invalid_request_error",
        ),
        (
            "JSON",
            request(&server, json_head, b"{\"messages\": ["),
            400,
            "invalid_request_error",
        ),
        (
            "size",
            request(&server, json_head, &[b' '; 40_000]),
            413,
            "invalid_request_error",
        ),
        (
            "type",
            request(
                &server,
                "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain",
                b"{}",
            ),
            415,
            "invalid_request_error",
        ),
        (
            "model",
            ask(
                &server,
                json!({"model": "gpt", "messages": [{"role": "user", "content": "a"}]}),
            ),
            404,
            "not_found_error",
        ),
        (
            "picture",
            ask(&server, image("data:image/png;base64,AAAA")),
            400,
            "invalid_request_error",
        ),
        (
            "address",
            ask(&server, image("http://localhost/a.png")),
            400,
            "invalid_request_error",
        ),
        (
            "file",
            ask(&server, image("file:///a.png")),
            400,
            "invalid_request_error",
        ),
        (
            "pictures",
            ask(
                &server,
                plain(json!([
                    {"type": "image_url", "image_url": {"url": "data:;base64,AA"}},
                    {"type": "image_url", "image_url": {"url": "data:;base64,AA"}},
                ])),
            ),
            400,
            "invalid_request_error",
        ),
        (
            "long",
            ask(&server, plain(json!("word ".repeat(5000)))),
            400,
            "invalid_request_error",
        ),
    ] {
        assert_eq!(reply.status, status, "{what}: {}", reply.body);
        assert_eq!(reply.error()["type"], kind, "{what}");
        assert!(
            !reply.error()["message"].as_str().unwrap().is_empty(),
            "{what}"
        );
    }
    // And the server goes on.
    assert_eq!(ask(&server, plain(json!("What is 2 + 2?"))).status, 200);
}

#[test]
fn only_its_own_names_and_the_key_open_it() {
    let server = start(|options| {
        options.api_key = Some("secret".into());
        options.public_names = vec!["bunny.example".into()];
    });
    let models = |headers: &str| {
        request(
            &server,
            &format!("GET /v1/models HTTP/1.1\r\n{headers}"),
            b"",
        )
    };
    assert_eq!(
        models("Host: elsewhere.example\r\nAuthorization: Bearer secret").status,
        421
    );
    let refused = models("Host: bunny.example");
    assert_eq!(refused.status, 401);
    assert!(refused.headers.contains("www-authenticate: bearer"));
    assert_eq!(
        models("Host: localhost\r\nAuthorization: Bearer wrong").status,
        401
    );
    assert_eq!(
        models("Host: bunny.example\r\nAuthorization: Bearer secret").status,
        200
    );
    assert_eq!(get(&server, "/health").status, 200, "health needs no key");
    let page = get(&server, "/");
    assert_eq!(page.status, 200, "the page asks for the key itself");
    assert!(
        page.headers
            .contains("content-security-policy: default-src 'none'")
    );
}

#[test]
fn who_goes_away_is_cancelled_and_too_many_are_refused() {
    let server = start(|options| {
        options.slots = 1;
        options.queue = 1;
    });
    // An answer that lasts: nothing ends it but its length.
    let mut long = question("Describe the picture.");
    long["max_tokens"] = json!(400);
    long["logit_bias"] = json!({});
    long["temperature"] = json!(2);
    long["stream"] = json!(true);
    let head =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
    let body = long.to_string();
    let mut held: Vec<TcpStream> = (0..2)
        .map(|_| send(&server, head, body.as_bytes()))
        .collect();
    for stream in &mut held {
        // The first bytes of a response say that it was admitted.
        stream.read_exact(&mut [0; 12]).unwrap();
    }
    let refused = ask(&server, question("What is in the picture?"));
    if refused.status == 429 {
        assert!(refused.headers.contains("retry-after: 1"));
        assert_eq!(refused.error()["code"], "queue_full");
    } else {
        // Both may have ended by then.
        assert_eq!(refused.status, 200);
    }
    drop(held);
    let started = Instant::now();
    loop {
        let metrics = get(&server, "/metrics").body;
        if metrics.contains("bunny:num_requests_running{model_name=\"builtin\"} 0")
            && metrics.contains("bunny:num_requests_waiting{model_name=\"builtin\"} 0")
        {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{metrics}");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(
        ask(&server, question("What is in the picture?")).status,
        200
    );
}

#[test]
fn texts_are_completed_as_they_stand() {
    let server = start(|_| {});
    let body = json!({"prompt": "USER: What is 2 + 2? ASSISTANT:", "max_tokens": 8, "temperature": 0, "logprobs": 2, "echo": true});
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
}

#[test]
fn a_stopping_server_ends_its_answers_and_itself() {
    let mut server = start(|options| options.grace = Duration::from_millis(100));
    let mut body = question("Describe the picture.");
    body["stream"] = json!(true);
    body["temperature"] = json!(2);
    body["max_tokens"] = json!(400);
    let head =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
    let mut stream = send(&server, head, body.to_string().as_bytes());
    stream.read_exact(&mut [0; 12]).unwrap();
    (server.stop)();
    let started = Instant::now();
    let mut rest = String::new();
    drop(stream.read_to_string(&mut rest));
    server.server.take().unwrap().join().unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(
        rest.contains("[DONE]") || rest.contains("unavailable_error"),
        "{rest}"
    );
    assert!(TcpStream::connect(server.address).is_err());
}
