//! A server over the built-in model, and plain requests to it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bunny_core::{
    checkpoint::{Precision, builtin},
    generate::{GenerationOptions, Pipeline},
    input::image::{DecodeOptions, decode},
};
use bunny_serve::{Server, ServerOptions};
use burn_flex::Flex;
use serde_json::{Value, json};

/// A picture of the model's world.
pub const PICTURE: &[u8] = include_bytes!("../../../examples/pictures/shapes.jpg");
/// The head of a request whose body is JSON.
pub const CHAT: &str =
    "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";

/// A server on a port of its own, stopped when dropped.
pub struct Running {
    pub address: SocketAddr,
    pub stop: Box<dyn Fn() + Send + Sync>,
    pub server: Option<thread::JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        (self.stop)();
        if let Some(server) = self.server.take() {
            server.join().unwrap();
        }
    }
}

pub fn start(change: impl FnOnce(&mut ServerOptions)) -> Running {
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
pub struct Reply {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub fn error(&self) -> Value {
        self.json()["error"].clone()
    }
}

pub fn send(server: &Running, head: &str, body: &[u8]) -> TcpStream {
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

pub fn request(server: &Running, head: &str, body: &[u8]) -> Reply {
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
pub fn unchunked(mut body: &str) -> String {
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

pub fn get(server: &Running, path: &str) -> Reply {
    request(
        server,
        &format!("GET {path} HTTP/1.1\r\nHost: localhost"),
        b"",
    )
}

pub fn post(server: &Running, path: &str, body: &Value) -> Reply {
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json");
    request(server, &head, body.to_string().as_bytes())
}

pub fn ask(server: &Running, body: Value) -> Reply {
    post(server, "/v1/chat/completions", &body)
}

pub fn question(text: &str) -> Value {
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
pub fn alone(text: &str) -> String {
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

pub fn content(reply: &Reply) -> String {
    reply.json()["choices"][0]["message"]["content"]
        .as_str()
        .unwrap_or_else(|| panic!("{}", reply.body))
        .to_string()
}

/// A number that `/metrics` tells.
pub fn metric(reply: &Reply, name: &str) -> f64 {
    let begin = format!("bunny:{name}{{");
    let line = reply.body.lines().find(|line| line.starts_with(&begin));
    let line = line.unwrap_or_else(|| panic!("no {name}: {}", reply.body));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// The events of a stream.
pub fn events(reply: &Reply) -> Vec<Value> {
    let data = reply
        .body
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap_or(json!(data)))
        .collect()
}
