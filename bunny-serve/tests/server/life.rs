//! Clients that come and go, and the server's end.

use std::{
    io::Read,
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
    let mut held: Vec<TcpStream> = (0..2)
        .map(|_| send(&server, CHAT, body.as_bytes()))
        .collect();
    for stream in &mut held {
        // The first bytes of a response say that it was admitted.
        stream.read_exact(&mut [0; 12]).unwrap();
    }
    let refused = ask(&server, question("What is in the picture?"));
    assert_eq!(refused.status, 429, "{}", refused.body);
    assert!(refused.headers.contains("retry-after: 1"));
    assert_eq!(refused.error()["code"], "queue_full");
    drop(held);
    let started = Instant::now();
    loop {
        let metrics = get(&server, "/metrics").body;
        if metrics.contains("bunny:num_requests_running{model_name=\"builtin\"} 0")
            && metrics.contains("finished_reason=\"cancelled\"} 2")
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
