//! A request's name: the one it came with, or a new one; it is in the answer's id, and goes back.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue},
    middleware::Next,
    response::Response,
};

use crate::clock::now;

/// The header, in and out.
const HEADER: &str = "x-request-id";

/// The name, for handlers.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub String);

/// Names a request, and notes what became of it; nothing of its content.
pub(crate) async fn named(mut request: Request, next: Next) -> Response {
    let id = given(request.headers()).unwrap_or_else(fresh);
    let (method, path) = (request.method().clone(), request.uri().path().to_string());
    request.extensions_mut().insert(RequestId(id.clone()));
    let started = Instant::now();
    let mut response = next.run(request).await;
    let (status, seconds) = (response.status().as_u16(), started.elapsed().as_secs_f64());
    tracing::debug!("{method} {path} {status} after {seconds:.3} s ({id})");
    // Letters, digits and three signs make a header.
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HEADER, id);
    }
    response
}

/// The name that a request came with, if that is plain.
fn given(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(HEADER)?.to_str().ok()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    ((1..=128).contains(&id.len()) && id.bytes().all(is_plain)).then(|| id.to_string())
}

fn fresh() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("{:x}-{:x}", now(), NUMBER.fetch_add(1, Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_is_kept_and_no_other() {
        let given = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_str(id).unwrap());
            given(&headers)
        };
        assert_eq!(given("a-B_3.4").as_deref(), Some("a-B_3.4"));
        for id in ["", "a b", "a\"b", &"a".repeat(129)] {
            assert_eq!(given(id), None, "{id}");
        }
        assert_ne!(fresh(), fresh());
    }
}
