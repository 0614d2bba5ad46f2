//! The page to talk in, and what it shows of the model.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};

use crate::{desk::Desk, wire::ApiError};

/// What the page may do: run its own script, show pictures that it was given, ask its own server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page's files.
const FILES: [(&str, &str, &str); 7] = [
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("../page/index.html"),
    ),
    (
        "/app.js",
        "text/javascript; charset=utf-8",
        include_str!("../page/app.js"),
    ),
    (
        "/backend.js",
        "text/javascript; charset=utf-8",
        include_str!("../page/backend.js"),
    ),
    (
        "/history.js",
        "text/javascript; charset=utf-8",
        include_str!("../page/history.js"),
    ),
    (
        "/markdown.js",
        "text/javascript; charset=utf-8",
        include_str!("../page/markdown.js"),
    ),
    (
        "/pictures.js",
        "text/javascript; charset=utf-8",
        include_str!("../page/pictures.js"),
    ),
    (
        "/style.css",
        "text/css; charset=utf-8",
        include_str!("../page/style.css"),
    ),
];

/// The page's files and what they hold, to be written for another host: `backend.js` alone knows who answers.
pub fn page_files() -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES.iter().map(|&(path, _, text)| match path {
        "/" => ("index.html", text),
        path => (path.trim_start_matches('/'), text),
    })
}

fn file(kind: &'static str, body: impl IntoResponse) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(POLICY),
        ),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
        (
            HeaderName::from_static("cache-control"),
            HeaderValue::from_static("no-cache"),
        ),
    ];
    (headers, body).into_response()
}

/// The routes of the page's files.
pub(crate) fn files() -> Router<Arc<Desk>> {
    let router = FILES
        .iter()
        .fold(Router::new(), |router, &(path, kind, text)| {
            router.route(path, get(move || async move { file(kind, text) }))
        });
    router.route("/samples/{number}", get(sample))
}

async fn sample(
    State(desk): State<Arc<Desk>>,
    number: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path(number) = number?;
    let number = number.parse().ok();
    match number.and_then(|number: usize| desk.options.samples.get(number)) {
        Some(sample) => Ok(file(sample.kind, sample.bytes)),
        None => Err(ApiError::not_found("there is no such sample")),
    }
}

/// What the page shows of the model.
pub(crate) async fn about(State(desk): State<Arc<Desk>>) -> Json<Value> {
    let samples = desk.options.samples.iter().enumerate();
    let samples: Vec<Value> = samples
        .map(|(number, sample)| json!({"name": sample.name, "src": format!("samples/{number}")}))
        .collect();
    Json(json!({
        "model": desk.name(), "card": desk.options.card, "samples": samples,
        "context": desk.model.context, "picture_tokens": desk.model.picture_tokens,
    }))
}
