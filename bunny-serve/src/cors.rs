//! Pages of other origins, where they are allowed: what a browser wants to hear before it lets their scripts
//! ask, and read the answers.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::desk::Desk;

/// Allows all origins.
const ANY: &str = "*";
/// How many seconds a browser need not ask again.
const REMEMBERED: HeaderValue = HeaderValue::from_static("600");
const ASKS_PRIVATE: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOWS_PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// Tells browsers that a page of an origin that is allowed may ask. Whoever else asks hears nothing of it.
pub(crate) async fn allowed(
    State(desk): State<Arc<Desk>>,
    request: Request,
    next: Next,
) -> Response {
    let origins = &desk.options.allow_origins;
    if origins.is_empty() {
        return next.run(request).await;
    }
    let asked = request.headers();
    let origin = asked.get(header::ORIGIN).cloned();
    let origin = origin.filter(|origin| is_allowed(origin, origins));
    let asks_first = request.method() == Method::OPTIONS
        && asked.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match &origin {
        Some(_) if asks_first => may_ask(asked),
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let exposed = HeaderValue::from_static("x-request-id, retry-after");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    response
}

fn is_allowed(origin: &HeaderValue, origins: &[String]) -> bool {
    let mut origins = origins.iter();
    origins.any(|ours| ours == ANY || ours.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
}

/// The answer to a browser that asks first: any method of the API, with the headers that it names. No cookie
/// and no key of the browser's own comes with it.
fn may_ask(asked: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static("GET, POST");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    if let Some(names) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    if asked.contains_key(ASKS_PRIVATE) {
        headers.insert(ALLOWS_PRIVATE, HeaderValue::from_static("true"));
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, REMEMBERED);
    response
}
