//! HTTP as clients of all ages speak it.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::json;

use crate::running::{CHAT, Running, get, question, request, start};

/// What comes back until the server closes.
fn say(server: &Running, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).unwrap();
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).unwrap();
    stream.write_all(bytes).unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    heard
}

#[test]
fn a_client_of_http_1_0_reads_a_stream_until_it_is_closed() {
    let server = start(|_| {});
    let mut body = question("What is in the picture?");
    body["stream"] = json!(true);
    let body = body.to_string();
    let head = CHAT.replace("HTTP/1.1", "HTTP/1.0");
    let length = format!("Content-Length: {}", body.len());
    let heard = say(
        &server,
        format!("{head}\r\n{length}\r\n\r\n{body}").as_bytes(),
    );
    assert!(heard.starts_with("HTTP/1.0 200 OK\r\n"), "{heard}");
    assert!(!heard.contains("transfer-encoding"), "{heard}");
    assert!(heard.ends_with("data: [DONE]\n\n"), "{heard}");
}

#[test]
fn requests_may_come_behind_one_another_and_bodies_in_chunks() {
    let server = start(|_| {});
    let mut body = question("What is in the picture?");
    body["max_tokens"] = json!(1);
    let body = body.to_string();
    let (left, right) = body.as_bytes().split_at(body.len() / 2);
    let mut bytes = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    bytes.extend(
        format!("{CHAT}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n").bytes(),
    );
    for chunk in [left, right, b""] {
        bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
    }
    let heard = say(&server, &bytes);
    assert_eq!(heard.matches("HTTP/1.1 200 OK\r\n").count(), 101, "{heard}");
    assert_eq!(heard.matches(r#"{"status":"ok"}"#).count(), 100);
    assert!(heard.contains(r#""finish_reason":"length""#), "{heard}");
}

#[test]
fn a_head_alone_and_methods_that_a_path_does_not_take() {
    let server = start(|_| {});
    let asked = |line: &str| request(&server, &format!("{line} HTTP/1.1\r\nHost: localhost"), b"");
    for path in ["/", "/health", "/v1/models"] {
        let head = asked(&format!("HEAD {path}"));
        assert_eq!((head.status, &*head.body), (200, ""), "{path}");
        let length = format!("content-length: {}", get(&server, path).body.len());
        assert!(head.headers.contains(&length), "{path}: {}", head.headers);
    }
    for method in ["HEAD", "OPTIONS", "PUT", "DELETE"] {
        let refused = asked(&format!("{method} /v1/chat/completions"));
        assert_eq!(refused.status, 405, "{method}");
        assert!(
            refused.headers.contains("allow: post"),
            "{}",
            refused.headers
        );
    }
    let away = asked("OPTIONS *");
    assert_eq!(away.error()["type"], "not_found_error");
}
