//! What is refused, and how.

use serde_json::{Value, json};

use crate::running::{CHAT, ask, get, request, start};

#[test]
fn every_error_has_the_shape_and_the_status_of_the_api() {
    let server = start(|options| {
        options.max_body = 32_768;
        options.max_pictures = 1;
        (options.slots, options.queue) = (1, 1);
    });
    let plain = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    let image = |url: &str| plain(json!([{"type": "image_url", "image_url": {"url": url}}]));
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
            "a name that is no UTF-8",
            get(&server, "/v1/models/%FF"),
            400,
            "invalid_request_error",
        ),
        (
            "a sample that is no UTF-8",
            get(&server, "/samples/%FF"),
            400,
            "invalid_request_error",
        ),
        (
            "more answers than ever have a place",
            ask(
                &server,
                json!({"messages": [{"role": "user", "content": "a"}], "n": 3}),
            ),
            400,
            "invalid_request_error",
        ),
        (
            "method",
            get(&server, "/v1/chat/completions"),
            405,
            "invalid_request_error",
        ),
        (
            "JSON",
            request(&server, CHAT, b"{\"messages\": ["),
            400,
            "invalid_request_error",
        ),
        (
            "size",
            request(&server, CHAT, &[b' '; 40_000]),
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
    let key = "Authorization: Bearer secret";
    for [first, second] in [
        ["localhost", "elsewhere.example"],
        ["elsewhere.example", "localhost"],
    ] {
        let both = models(&format!("Host: {first}\r\nHost: {second}\r\n{key}"));
        assert_eq!(both.status, 421);
        let address = format!("GET http://{first}/v1/models HTTP/1.1\r\nHost: {second}\r\n{key}");
        assert_eq!(request(&server, &address, b"").status, 421);
    }
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
