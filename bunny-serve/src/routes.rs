//! The paths of the server.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    body::{Bytes, HttpBody},
    extract::{DefaultBodyLimit, FromRequest, Path, Request, State, rejection::PathRejection},
    http::{HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    answers::{Answers, Question},
    clock::now,
    cors,
    desk::{Desk, Place, Prepared},
    guards,
    off_thread::off_thread,
    page,
    request_id::{self, RequestId},
    stream,
    wire::{ApiError, ChatRequest, CompletionRequest, Form, Generation, PromptText, Writer},
};

/// All of them.
pub(crate) fn router(desk: Arc<Desk>) -> Router {
    let limit = desk.options.max_body;
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
        .layer(middleware::from_fn_with_state(desk.clone(), cors::allowed))
        .layer(middleware::from_fn_with_state(desk.clone(), guards::host))
        .layer(middleware::from_fn(request_id::named))
        .with_state(desk)
}

/// A body of JSON within the server's limits; what is wrong with it is told in the API's form.
struct JsonBody(Bytes);

impl FromRequest<Arc<Desk>> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, desk: &Arc<Desk>) -> Result<Self, ApiError> {
        // A form of another site's page cannot send this type without asking first.
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(ApiError::media_type());
        }
        // Said before it is sent, where a client asks first.
        if request.body().size_hint().lower() > desk.options.max_body as u64 {
            return Err(ApiError::too_large(desk.options.max_body));
        }
        let bytes = timeout(
            desk.options.read_timeout,
            Bytes::from_request(request, desk),
        );
        let bytes = tokio::select! {
            bytes = bytes => bytes.map_err(|_| ApiError::slow())?,
            // Once it is whole, it would be refused.
            () = desk.closed() => return Err(ApiError::stopping()),
        };
        match bytes {
            Ok(bytes) => Ok(Self(bytes)),
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(ApiError::too_large(desk.options.max_body))
            }
            Err(_) => Err(ApiError::bad_request("the body could not be read")),
        }
    }
}

async fn chat(
    State(desk): State<Arc<Desk>>,
    Extension(id): Extension<RequestId>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let request = desk.read(move || ChatRequest::parse(&body.0)).await?;
    desk.check_model(request.generation.model.as_deref())?;
    let place = desk.admit(1, &request.generation)?;
    let prepared = async {
        let at = desk.clone();
        let read = off_thread(move || {
            let tokens = at.chat_tokens(&request)?;
            let pictures = request.turns.into_iter().flat_map(|turn| turn.pictures);
            Ok::<_, ApiError>((tokens, pictures.collect(), request.generation))
        });
        let (tokens, pictures, generation) = read.await??;
        let pictures = desk.pictures(pictures).await?;
        Ok((Prepared { tokens, pictures }, generation))
    };
    let (prompt, generation) = place.in_time(prepared).await?;
    let question = Question {
        prompts: vec![(prompt, String::new())],
        writer: writer(&desk, Form::Chat, &id, &generation),
        generation,
    };
    respond(question, place, desk).await
}

async fn completions(
    State(desk): State<Arc<Desk>>,
    Extension(id): Extension<RequestId>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let request = desk.read(move || CompletionRequest::parse(&body.0)).await?;
    let CompletionRequest {
        prompts,
        echo,
        generation,
    } = request;
    desk.check_model(generation.model.as_deref())?;
    let place = desk.admit(prompts.len(), &generation)?;
    let at = desk.clone();
    let prepared = off_thread(move || {
        let prompts = prompts.into_iter().map(|prompt| {
            let prepared = at.prepare_text(&prompt, &generation)?;
            let before = match (echo, prompt) {
                (false, _) => String::new(),
                (true, PromptText::Words(text)) => text,
                (true, PromptText::Ids(ids)) => {
                    let text = at.model.tokenizer.decode(&ids);
                    text.map_err(|error| ApiError::internal(&error))?
                }
            };
            Ok((prepared, before))
        });
        let prompts = prompts.collect::<Result<_, ApiError>>()?;
        Ok::<_, ApiError>((prompts, generation))
    });
    let (prompts, generation) = place.in_time(async { prepared.await? }).await?;
    let question = Question {
        prompts,
        writer: writer(&desk, Form::Text, &id, &generation),
        generation,
    };
    respond(question, place, desk).await
}

/// The response: one body, or a stream.
async fn respond(question: Question, place: Place, desk: Arc<Desk>) -> Result<Response, ApiError> {
    let is_streamed = question.generation.stream;
    let answers = Answers::new(question, place, desk);
    match is_streamed {
        true => Ok(stream::respond(answers)),
        false => Ok(Json(answers.whole().await?).into_response()),
    }
}

fn writer(desk: &Desk, form: Form, RequestId(id): &RequestId, generation: &Generation) -> Writer {
    let prefix = match form {
        Form::Chat => "chatcmpl",
        Form::Text => "cmpl",
    };
    Writer {
        form,
        id: format!("{prefix}-{id}"),
        created: now(),
        model: desk.name().to_string(),
        tokenizer: desk.model.tokenizer.clone(),
        include_usage: generation.include_usage,
    }
}

fn model_json(desk: &Desk) -> Value {
    json!({
        "id": desk.name(), "object": "model", "created": desk.started, "owned_by": "bunny",
        "max_model_len": desk.model.context,
    })
}

async fn models(State(desk): State<Arc<Desk>>) -> Json<Value> {
    Json(json!({"object": "list", "data": [model_json(&desk)]}))
}

async fn model(
    State(desk): State<Arc<Desk>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(name) = name?;
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
    let text = desk.metrics.text(desk.name());
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
