//! What a server allows itself and others: memory, time, and pages of other origins.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bunny_core::{
    checkpoint::{Precision, builtin},
    generate::Pipeline,
};
use bunny_serve::{ServeError, Server, ServerOptions};
use burn_flex::Flex;
use serde_json::{Value, json};

use crate::running::{CHAT, alone, ask, content, get, metric, post, question, request, start};

/// Keys and values of 128 positions: five layers of 160 numbers each.
const BLOCK: u64 = 128 * 2 * 5 * 160 * 4;

#[test]
fn within_little_memory_answers_wait_and_are_the_same() {
    // A question takes two blocks: 16 slots have memory for three of them.
    let server = Arc::new(start(|options| {
        options.slots = 16;
        options.cache_bytes = Some(7 * BLOCK);
    }));
    let texts = ["What is in the picture?", "Where is the black diamond?"];
    let expected: Vec<String> = texts.iter().map(|text| alone(text)).collect();
    let clients = (0..24).map(|number| {
        let server = server.clone();
        thread::spawn(move || content(&ask(&server, question(texts[number % 2]))))
    });
    let clients: Vec<_> = clients.collect();
    while !clients.iter().all(|client| client.is_finished()) {
        let metrics = get(&server, "/metrics");
        assert_eq!(
            metric(&metrics, "kv_cache_allowed_bytes"),
            (7 * BLOCK) as f64
        );
        let held = metric(&metrics, "kv_cache_held_bytes");
        assert!(metric(&metrics, "kv_cache_running_bytes") <= held);
        assert!(held <= (7 * BLOCK) as f64);
        assert!((0.0..=1.0).contains(&metric(&metrics, "kv_cache_usage_perc")));
        thread::sleep(Duration::from_millis(10));
    }
    for (number, client) in clients.into_iter().enumerate() {
        assert_eq!(client.join().unwrap(), expected[number % 2]);
    }
    let metrics = get(&server, "/metrics");
    assert_eq!(metric(&metrics, "mm_cache_queries_total"), 24.0);
    assert_eq!(metric(&metrics, "mm_cache_hits_total"), 23.0);
}

#[test]
fn a_queue_may_be_without_end() {
    let server = start(|options| options.queue = usize::MAX);
    let mut nine = question("What is in the picture?");
    nine["n"] = json!(9);
    assert_eq!(ask(&server, nine).status, 200);
}

#[test]
fn a_prompt_for_which_there_is_no_memory_is_refused() {
    let server = start(|options| options.cache_bytes = Some(2 * BLOCK + 1));
    let long = json!({"messages": [{"role": "user", "content": "one two ".repeat(200)}]});
    let refused = ask(&server, long);
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert_eq!(refused.error()["code"], "context_length_exceeded");
    assert!(refused.body.contains("there are 256"), "{}", refused.body);
    let model = get(&server, "/v1/models").json();
    assert_eq!(model["data"][0]["max_model_len"], 256);

    let pipeline =
        Pipeline::<Flex>::from_open(builtin::open().unwrap(), Precision::F32, Default::default());
    let options = ServerOptions {
        cache_bytes: Some(BLOCK - 1),
        ..ServerOptions::named("builtin")
    };
    let bound = Server::bind("127.0.0.1:0".parse().unwrap(), pipeline.unwrap(), options);
    match bound {
        Err(ServeError::Memory { allowed, block, .. }) => {
            assert_eq!((allowed, block), (BLOCK - 1, BLOCK));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_text_that_is_too_long_whatever_its_tokens_are_is_not_taken_apart() {
    let server = start(|_| {});
    let long = "a".repeat(8 << 20);
    // The longest of this vocabulary are " intelligence" and "<|endoftext|>".
    let least = format!("takes {} or more positions", (8 << 20) / 13);
    let chat = ask(
        &server,
        json!({"messages": [{"role": "user", "content": long}]}),
    );
    let text = post(&server, "/v1/completions", &json!({"prompt": long}));
    // Every turn takes a position, whatever is said in it.
    let turn = |number: usize| {
        let role = ["user", "assistant"][number % 2];
        json!({"role": role, "content": "a"})
    };
    let turns: Vec<Value> = (0..100_001).map(turn).collect();
    let turns = ask(&server, json!({"messages": turns}));
    let most = "takes 100001 or more positions";
    for (refused, told) in [(chat, &*least), (text, &*least), (turns, most)] {
        assert_eq!(refused.status, 400, "{}", refused.body);
        assert_eq!(refused.error()["code"], "context_length_exceeded");
        assert!(refused.body.contains(told), "{}", refused.body);
    }
}

#[test]
fn who_does_not_say_what_it_wants_is_not_waited_for() {
    let server = start(|options| options.read_timeout = Duration::from_millis(200));
    let started = Instant::now();
    let say = |text: &str| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let patience = Some(Duration::from_secs(30));
        stream.set_read_timeout(patience).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        heard
    };
    for head in ["", "POST /v1/chat/completions HTTP/1.1\r\nHost: loc"] {
        assert_eq!(say(head), "", "a head that does not end");
    }
    let heard = say(&format!(
        "{CHAT}\r\nContent-Length: 100\r\n\r\n{{\"messages\""
    ));
    assert!(heard.starts_with("HTTP/1.1 408 "), "{heard}");
    assert!(heard.contains("timeout_error"), "{heard}");
    assert!(started.elapsed() < Duration::from_secs(20));
    // Who asks in time is answered, however long that takes.
    assert_eq!(
        ask(&server, question("What is in the picture?")).status,
        200
    );
}

#[test]
fn who_is_refused_by_its_head_may_send_its_body_to_the_end() {
    let server = start(|options| {
        options.api_key = Some("secret".into());
        options.max_body = 1 << 20;
    });
    // More than sockets hold: it cannot all be sent while nobody reads.
    let body = vec![b' '; 16 << 20];
    let length = format!("Connection: close\r\nContent-Length: {}", body.len());
    let key = "Authorization: Bearer secret";
    let plain = CHAT.replace("application/json", "text/plain");
    let nowhere = CHAT.replace("/v1/chat", "/v1/nothing");
    for (head, status) in [
        (CHAT.to_string(), 401),
        (format!("{CHAT}\r\n{key}"), 413),
        (format!("{plain}\r\n{key}"), 415),
        (format!("{nowhere}\r\n{key}"), 404),
    ] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let patience = Some(Duration::from_secs(60));
        stream.set_read_timeout(patience).unwrap();
        let head = format!("{head}\r\n{length}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        assert!(heard.starts_with(&format!("HTTP/1.1 {status} ")), "{heard}");
    }
    // Who asks before it sends so much is not told to.
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = format!("{CHAT}\r\n{key}\r\nExpect: 100-continue\r\n{length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    assert!(heard.starts_with("HTTP/1.1 413 "), "{heard}");
}

#[test]
fn pages_of_origins_that_are_allowed_may_ask_and_no_others() {
    let asks_first = |origin: &str| {
        let head = "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: localhost";
        let wanted = "Access-Control-Request-Method: POST\r\n\
            Access-Control-Request-Headers: authorization,content-type,x-stainless-os";
        format!("{head}\r\nOrigin: {origin}\r\n{wanted}")
    };
    let asks =
        |origin: &str| format!("GET /v1/models HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}");
    let ours = "https://chat.example";
    let allow = "access-control-allow-origin";
    let server = start(|options| {
        options.allow_origins = vec![ours.into()];
        options.api_key = Some("secret".into());
    });
    let first = request(&server, &asks_first(ours), b"");
    assert_eq!(first.status, 204, "no key comes with it");
    for line in [
        format!("{allow}: {ours}"),
        "access-control-allow-methods: get, post".into(),
        "access-control-allow-headers: authorization,content-type,x-stainless-os".into(),
        "vary: origin".into(),
    ] {
        assert!(first.headers.contains(&line), "{line}: {}", first.headers);
    }
    // A page reads errors too.
    let unkeyed = request(&server, &asks(ours), b"");
    assert_eq!(unkeyed.status, 401);
    assert!(unkeyed.headers.contains(&format!("{allow}: {ours}")));
    for other in ["https://chat.example.org", "http://chat.example", "null"] {
        for head in [asks_first(other), asks(other)] {
            let reply = request(&server, &head, b"");
            assert!(!reply.headers.contains(allow), "{}", reply.headers);
            assert_ne!(reply.status, 204);
        }
    }

    let closed = start(|_| {});
    assert!(
        !request(&closed, &asks(ours), b"")
            .headers
            .contains("access-control")
    );
    let open = start(|options| options.allow_origins = vec!["*".into()]);
    let reply = request(&open, &asks("null"), b"");
    assert!(reply.headers.contains(&format!("{allow}: null")));
}

#[test]
fn a_model_has_all_the_names_that_it_was_given() {
    let server = start(|options| options.names = vec!["small/bunny@1".into(), "builtin".into()]);
    let told = get(&server, "/v1/models").json();
    assert_eq!(told["data"][0]["id"], "small/bunny@1");
    for name in ["small/bunny@1", "builtin"] {
        assert_eq!(get(&server, &format!("/v1/models/{name}")).status, 200);
        let mut asked = question("What is in the picture?");
        asked["model"] = json!(name);
        assert_eq!(ask(&server, asked).json()["model"], "small/bunny@1");
    }
    assert_eq!(get(&server, "/v1/models/small").status, 404);
}
