//! Who may ask: the key, and the name that a request was sent to.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{desk::Desk, wire::ApiError};

/// Refuses a request whose `Host` is a name that nobody gave this server. A page of another site can have
/// its own name lead to this machine, and would then be of one origin with it; it cannot make a browser
/// send an address.
pub(crate) async fn host(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    match is_for_us(&request, &desk.options.public_names) {
        true => next.run(request).await,
        false => ApiError::misdirected().into_response(),
    }
}

/// Whether a request names a host, and all that it names are ours: it may do so several times, and in its address.
fn is_for_us(request: &Request, names: &[String]) -> bool {
    let headers = request.headers().get_all(header::HOST).iter();
    let headers = headers.map(|host| host.to_str().unwrap_or_default());
    let address = request.uri().authority();
    let address = address.map(|authority| authority.as_str());
    let mut hosts = headers.chain(address).peekable();
    hosts.peek().is_some() && hosts.all(|host| is_ours(host, names))
}

/// Whether a host, with or without a port, is an address, localhost, or one of `names`.
fn is_ours(host: &str, names: &[String]) -> bool {
    let name = match host.rsplit_once(':') {
        // In brackets, colons are the address's.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    let name = name.strip_suffix('.').unwrap_or(name);
    address.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|ours| ours.eq_ignore_ascii_case(name))
}

/// What stands before a key.
const BEARER: &[u8] = b"Bearer ";

/// Refuses a request without the key, where there is one.
pub(crate) async fn key(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    let Some(key) = &desk.options.api_key else {
        return next.run(request).await;
    };
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .map(HeaderValue::as_bytes);
    let given = given.and_then(|given| given.split_at_checked(BEARER.len()));
    let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(BEARER));
    let given = given.map(|(_, key)| key);
    match given.is_some_and(|given| same(given, key.as_bytes())) {
        true => next.run(request).await,
        false => ApiError::unauthorized().into_response(),
    }
}

/// Compares without telling by its time how much is right.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differing = a
        .iter()
        .zip(b)
        .fold(0, |differing, (a, b)| differing | (a ^ b));
    a.len() == b.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_and_given_names_are_ours() {
        let names = ["bunny.example".to_string()];
        for host in [
            "127.0.0.1",
            "127.0.0.1:8000",
            "[::1]:8000",
            "[::1]",
            "localhost",
            "LOCALHOST:1",
            "localhost.",
            "bunny.example",
            "Bunny.Example:443",
            "192.168.1.5:80",
        ] {
            assert!(is_ours(host, &names), "{host}");
        }
        for host in [
            "",
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com:80",
            "bunny.example.com",
            "[::1",
        ] {
            assert!(!is_ours(host, &names), "{host}");
        }
    }

    #[test]
    fn keys_are_the_same_or_not() {
        assert!(same(b"abc", b"abc"));
        assert!(!same(b"abd", b"abc"));
        assert!(!same(b"ab", b"abc"));
        assert!(!same(b"", b"abc"));
    }
}
