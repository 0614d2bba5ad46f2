//! The paths of the server.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Path, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

use crate::{
    answering::{Answers, Form, now},
    desk::{Desk, Prepared},
    guards, page,
    wire::{ApiError, ChatRequest, CompletionRequest, PromptText},
};

/// The header of a request's name, in and out.
const REQUEST_ID: &str = "x-request-id";

/// All of them.
pub(crate) fn router(desk: Arc<Desk>) -> Router {
    let limit = desk.limits.body;
    let api = || {
        Router::new()
            .route("/chat/completions", post(chat))
            .route("/completions", post(completions))
            .route("/models", get(models))
            .route("/models/{*name}", get(model))
    };
    let guarded = api()
        .nest("/v1", api())
        .route("/page.json", get(page::about))
        .route_layer(middleware::from_fn_with_state(desk.clone(), guards::key));
    let open = Router::new()
        .route("/health", get(health))
        .route("/v1/health", get(health))
        .route("/metrics", get(metrics));
    guarded
        .merge(open)
        .merge(page::files())
        .fallback(async || ApiError::not_found("there is nothing at this path"))
        .method_not_allowed_fallback(async || ApiError::method())
        .layer(DefaultBodyLimit::max(limit))
        .layer(middleware::from_fn_with_state(desk.clone(), guards::host))
        .with_state(desk)
}

/// A body of JSON within the server's limit; what is wrong with it is told in the API's form.
struct JsonBody(Bytes);

impl FromRequest<Arc<Desk>> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, desk: &Arc<Desk>) -> Result<Self, ApiError> {
        // A form of another site's page cannot send this type without asking first.
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(ApiError::media_type());
        }
        match Bytes::from_request(request, desk).await {
            Ok(bytes) => Ok(Self(bytes)),
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(ApiError::too_large(desk.limits.body))
            }
            Err(_) => Err(ApiError::bad_request("the body could not be read")),
        }
    }
}

/// A request's name: the one it came with if that is plain, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let is_plain = |id: &&str| {
        (1..=128).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    match given.filter(is_plain) {
        Some(id) => id.to_string(),
        None => {
            static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
            let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            format!("{:x}-{number:x}", now())
        }
    }
}

/// Runs what decodes pictures and words on a thread that nobody waits for.
async fn prepared<T: Send + 'static>(
    prepare: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(prepare).await {
        Ok(prepared) => prepared,
        Err(error) => {
            tracing::error!("{error}");
            Err(ApiError::internal())
        }
    }
}

/// The response with the request's name on it.
async fn answered(answers: Answers, stream: bool) -> Response {
    let id = HeaderValue::from_str(&answers.request_id);
    let response = match stream {
        true => answers.stream(),
        false => answers.whole().await,
    };
    let mut response = response.into_response();
    // Names are letters, digits, and three signs.
    if let Ok(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

async fn chat(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: JsonBody) -> Result<Response, ApiError> {
    let preparing = desk.clone();
    let (request, prompt) = prepared(move || {
        let request = ChatRequest::parse(&body.0)?;
        preparing.check_model(request.model.as_deref())?;
        let prompt = preparing.prepare_chat(&request)?;
        Ok((request, prompt))
    })
    .await?;
    let answers = Answers {
        desk,
        form: Form::Chat,
        prompts: vec![(prompt, String::new())],
        options: request.options,
        choices: request.choices,
        include_usage: request.include_usage,
        request_id: request_id(&headers),
    };
    Ok(answered(answers, request.stream).await)
}

async fn completions(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: JsonBody) -> Result<Response, ApiError> {
    let preparing = desk.clone();
    let (request, prompts) = prepared(move || {
        let request = CompletionRequest::parse(&body.0)?;
        preparing.check_model(request.model.as_deref())?;
        let prompts: Result<Vec<(Prepared, String)>, ApiError> = request
            .prompts
            .iter()
            .map(|prompt| {
                let before = match (request.echo, prompt) {
                    (false, _) => String::new(),
                    (true, PromptText::Words(text)) => text.clone(),
                    (true, PromptText::Ids(ids)) => {
                        let text = preparing.tokenizer.decode(ids);
                        text.map_err(|error| ApiError::of_model(&error.into()))?
                    }
                };
                Ok((preparing.prepare_text(prompt)?, before))
            })
            .collect();
        Ok((request, prompts?))
    })
    .await?;
    let answers = Answers {
        desk,
        form: Form::Text,
        prompts,
        options: request.options,
        choices: request.choices,
        include_usage: request.include_usage,
        request_id: request_id(&headers),
    };
    Ok(answered(answers, request.stream).await)
}

fn model_json(desk: &Desk) -> Value {
    json!({
        "id": desk.name, "object": "model", "created": 0, "owned_by": "bunny",
        "max_model_len": desk.context,
    })
}

async fn models(State(desk): State<Arc<Desk>>) -> Json<Value> {
    Json(json!({"object": "list", "data": [model_json(&desk)]}))
}

async fn model(State(desk): State<Arc<Desk>>, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    desk.check_model(Some(&name))?;
    Ok(Json(model_json(&desk)))
}

async fn health(State(desk): State<Arc<Desk>>) -> Response {
    match desk.is_closing() {
        true => ApiError::stopping().into_response(),
        false => Json(json!({"status": "ok"})).into_response(),
    }
}

async fn metrics(State(desk): State<Arc<Desk>>) -> Response {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], desk.metrics.text()).into_response()
}
