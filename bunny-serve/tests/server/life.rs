//! Clients that come and go, and the server's end.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::running::{CHAT, ask, get, question, send, start};

/// A stream that only the model's positions end.
fn without_end() -> Value {
    let mut body = question("Describe the picture.");
    body["max_tokens"] = json!(null);
    body["ignore_eos"] = json!(true);
    body["stream"] = json!(true);
    body
}

#[test]
fn who_goes_away_is_cancelled_and_too_many_are_refused() {
    let server = start(|options| {
        options.slots = 1;
        options.queue = 1;
    });
    let long = without_end();
    let body = long.to_string();
    let mut first = send(&server, CHAT, body.as_bytes());
    // The first bytes of a response say that it was admitted.
    first.read_exact(&mut [0; 12]).unwrap();
    let mut waiting = send(&server, CHAT, body.as_bytes());
    let mut heard = Vec::new();
    while !heard.ends_with(b": waits its turn, 1 before it\n") {
        let mut byte = [0];
        waiting.read_exact(&mut byte).unwrap();
        heard.extend(byte);
    }
    let refused = ask(&server, question("What is in the picture?"));
    assert_eq!(refused.status, 429, "{}", refused.body);
    assert!(refused.headers.contains("retry-after: 1"));
    assert_eq!(refused.error()["code"], "queue_full");
    drop((first, waiting));
    let started = Instant::now();
    loop {
        let metrics = get(&server, "/metrics").body;
        if metrics.contains("bunny:num_requests_running{model_name=\"builtin\"} 0")
            && metrics.contains("finished_reason=\"abort\"} 2")
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
fn a_stopping_server_ends_its_answers_and_itself() {
    let mut server = start(|options| options.grace = Duration::from_millis(100));
    let body = without_end();
    let mut stream = send(&server, CHAT, body.to_string().as_bytes());
    stream.read_exact(&mut [0; 12]).unwrap();
    (server.stop)();
    let started = Instant::now();
    let mut rest = String::new();
    drop(stream.read_to_string(&mut rest));
    server.server.take().unwrap().join().unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(
        rest.contains("unavailable_error") && !rest.contains("[DONE]"),
        "{rest}"
    );
    assert!(TcpStream::connect(server.address).is_err());
}

#[test]
fn a_stopping_server_waits_for_answers_alone() {
    let mut server = start(|options| options.grace = Duration::from_secs(60));
    let say = |text: &str| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    let half_a_head = [say(""), say(&CHAT[..40])];
    let asks_first = "Expect: 100-continue\r\nContent-Length: 100";
    let mut half_a_body = say(&format!("{CHAT}\r\n{asks_first}\r\n\r\n{{\"messages\""));
    // It is told to go on when its body is waited for.
    let mut heard = [0; 25];
    half_a_body.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(get(&server, "/health").status, 200);
    (server.stop)();
    let started = Instant::now();
    server.server.take().unwrap().join().unwrap();
    assert!(started.elapsed() < Duration::from_secs(30));
    let mut refusal = String::new();
    drop(half_a_body.read_to_string(&mut refusal));
    assert!(refusal.starts_with("HTTP/1.1 503 "), "{refusal}");
    drop(half_a_head);
}

#[test]
fn a_picture_that_does_not_come_holds_up_nobody_else() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/a.png", silent.local_addr().unwrap());
    let server = start(|options| {
        options.allow_hosts = vec!["127.0.0.1".into()];
        options.timeout = Duration::from_secs(3);
        options.slots = 1;
        options.queue = 8;
    });
    let content = json!([
        {"type": "text", "text": "What is in the picture?"},
        {"type": "image_url", "image_url": {"url": address}},
    ]);
    let body = json!({"messages": [{"role": "user", "content": content}]}).to_string();
    let waiting: Vec<TcpStream> = (0..8)
        .map(|_| send(&server, CHAT, body.as_bytes()))
        .collect();
    // All are there.
    let held: Vec<_> = (0..8).map(|_| silent.accept().unwrap()).collect();
    let words = json!({"messages": [{"role": "user", "content": "What is 2 plus 2?"}]});
    let asked = Instant::now();
    assert_eq!(ask(&server, words.clone()).status, 200);
    assert!(
        asked.elapsed() < Duration::from_secs(3),
        "it waited for them"
    );
    // One more place was left, and none for two.
    let mut two = words.clone();
    two["n"] = json!(2);
    assert_eq!(ask(&server, two).status, 429);
    for mut stream in waiting {
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert!(reply.starts_with("HTTP/1.1 504"), "{reply}");
    }
    drop(held);
}
