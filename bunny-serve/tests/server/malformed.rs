//! What is no request: bodies that are cut, flipped, of wrong types, nested, too large, with damaged pictures, and
//! heads that are flipped.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::running::{CHAT, PICTURE, ask, content, question, request, start};

/// Draws that are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // Knuth's generator of MMIX; its high bits are the better ones.
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % sides
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.roll(items.len())]
    }

    fn flip(&mut self, bytes: &mut [u8], times: usize) {
        for _ in 0..times {
            let at = self.roll(bytes.len());
            bytes[at] ^= 1 << self.roll(8);
        }
    }
}

const FIELDS: [&str; 12] = [
    "messages",
    "temperature",
    "max_tokens",
    "n",
    "stop",
    "seed",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "stream",
    "tools",
    "response_format",
];

const TEXT_FIELDS: [&str; 8] = [
    "prompt",
    "max_tokens",
    "echo",
    "logprobs",
    "n",
    "best_of",
    "suffix",
    "stop_token_ids",
];

/// Bytes that are cut or flipped.
fn damaged(dice: &mut Dice, mut bytes: Vec<u8>) -> Vec<u8> {
    match dice.roll(2) {
        0 => bytes.truncate(dice.roll(bytes.len())),
        _ => {
            let times = 1 + dice.roll(20);
            dice.flip(&mut bytes, times);
        }
    }
    bytes
}

/// A text completion with something wrong, most often.
fn malformed_text(dice: &mut Dice) -> Vec<u8> {
    let mut body = json!({"prompt": "USER: What is 2 + 2? ASSISTANT:", "max_tokens": 2, "echo": true, "logprobs": 1});
    if dice.roll(2) == 0 {
        return damaged(dice, body.to_string().into_bytes());
    }
    let wrong = [
        json!(-1),
        json!(1e308),
        json!(u64::MAX),
        json!({"a": 1}),
        json!([]),
        json!([[], [1]]),
        json!([1_u64 << 40]),
        json!("a".repeat(20_000)),
        json!(vec![700; 20_000]),
    ];
    body[*dice.pick(&TEXT_FIELDS)] = dice.pick(&wrong).clone();
    body.to_string().into_bytes()
}

fn malformed(dice: &mut Dice, valid: &Value) -> Vec<u8> {
    let mut body = valid.clone();
    let image = "/messages/0/content/1/image_url/url";
    match dice.roll(6) {
        0 | 1 => damaged(dice, body.to_string().into_bytes()),
        2 => {
            let wrong = [
                json!(-1),
                json!(1e308),
                json!(u64::MAX),
                json!("\u{0}"),
                json!([[[]]]),
                json!({"a": {}}),
                json!([null, 1, "a"]),
                json!([{"role": "user", "content": [{"type": "text"}]}]),
                json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": 1}}]}]),
            ];
            body[*dice.pick(&FIELDS)] = dice.pick(&wrong).clone();
            body.to_string().into_bytes()
        }
        3 => {
            let depth = 1 + dice.roll(200_000);
            let open = *dice.pick(&["[", "{\"a\":", "[{\"messages\":"]);
            open.repeat(depth).into_bytes()
        }
        4 => {
            let mut picture = PICTURE.to_vec();
            let times = 1 + dice.roll(200);
            dice.flip(&mut picture, times);
            picture.truncate(1 + dice.roll(PICTURE.len()));
            let picture = BASE64_STANDARD.encode(picture);
            *body.pointer_mut(image).unwrap() = json!(format!("data:image/png;base64,{picture}"));
            body.to_string().into_bytes()
        }
        _ => {
            let addresses = [
                "",
                "data:",
                "data:;base64,%",
                "data:;base64,AAAA",
                "file:///etc/passwd",
                "http://[::1",
            ];
            *body.pointer_mut(image).unwrap() = json!(dice.pick(&addresses));
            body.to_string().into_bytes()
        }
    }
}

/// A hundred times as many where there is time.
fn count(usual: usize) -> usize {
    match std::env::var_os("BUNNY_LONG") {
        Some(_) => 100 * usual,
        None => usual,
    }
}

/// The head of a text completion.
const TEXT: &str =
    "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";

#[test]
fn no_body_harms_the_server_or_the_answers_of_others() {
    let count = count(1000);
    let server = start(|_| {});
    let expected = content(&ask(&server, question("What is in the picture?")));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(SeqCst) {
                let found = content(&ask(&server, question("What is in the picture?")));
                assert_eq!(found, expected);
            }
        });
        let clients: Vec<_> = (0..4u64)
            .map(|client| {
                let server = &server;
                scope.spawn(move || {
                    let mut dice = Dice(client);
                    let mut valid = question("What is in the picture?");
                    valid["max_tokens"] = json!(2);
                    let mut refused = 0;
                    for _ in 0..count / 4 {
                        let (head, body) = match dice.roll(8) {
                            0 => (TEXT, malformed_text(&mut dice)),
                            _ => (CHAT, malformed(&mut dice, &valid)),
                        };
                        let reply = request(server, head, &body);
                        let shown = String::from_utf8_lossy(&body[..body.len().min(200)]);
                        match reply.status {
                            // Some are requests still.
                            200 => {}
                            400..=499 => {
                                assert!(reply.error()["message"].is_string(), "{}", reply.body);
                                refused += 1;
                            }
                            status => panic!("{status} {}: {shown}", reply.body),
                        }
                    }
                    refused
                })
            })
            .collect();
        let refused: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        is_over.store(true, SeqCst);
        let refused: usize = refused.into_iter().map(|refused| refused.unwrap()).sum();
        assert!(
            refused > count / 2,
            "only {refused} of {count} were refused"
        );
    });
}

#[test]
fn no_head_harms_the_server() {
    let server = start(|options| options.read_timeout = Duration::from_secs(5));
    let head =
        "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nX-Request-Id: a-1\r\n\r\n";
    let mut dice = Dice(7);
    for _ in 0..count(200) {
        let bytes = damaged(&mut dice, head.as_bytes().to_vec());
        let mut stream = TcpStream::connect(server.address).unwrap();
        let patience = Some(Duration::from_secs(30));
        stream.set_read_timeout(patience).unwrap();
        stream.write_all(&bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut heard = Vec::new();
        // What came before a connection was cut counts.
        drop(stream.read_to_end(&mut heard));
        // A flipped version may be that of an older client, who is answered in its own.
        let status = heard.strip_prefix(b"HTTP/1.1 ");
        let status = status.or_else(|| heard.strip_prefix(b"HTTP/1.0 "));
        let is_fine = heard.is_empty()
            || status.is_some_and(|status| status.starts_with(b"200 ") || status.starts_with(b"4"));
        assert!(
            is_fine,
            "{:?}: {:?}",
            bytes.escape_ascii().to_string(),
            heard.escape_ascii().to_string()
        );
    }
    assert_eq!(
        ask(&server, question("What is in the picture?")).status,
        200
    );
}
