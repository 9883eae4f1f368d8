//! LoRA adapters that clients load and unload, as vLLM has it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use fireside_openai::ApiError;
use fireside_openai::fields::Fields;
use serde_json::json;

use crate::app::App;
use crate::http::body;
use crate::http::error::{Dialect, json_response};

/// `POST /v1/load_lora_adapter`
pub(crate) async fn load(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Response {
    respond(added(&app, &headers, body).await)
}

/// `POST /v1/unload_lora_adapter`
pub(crate) async fn unload(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    respond(removed(&app, &headers, body).await)
}

fn respond(result: Result<String, ApiError>) -> Response {
    match result {
        Ok(message) => json_response(&json!({ "message": message })),
        Err(error) => Dialect::OpenAi.response(&error),
    }
}

async fn added(app: &Arc<App>, headers: &HeaderMap, body: Body) -> Result<String, ApiError> {
    let [name, path] = texts(app, headers, body, ["lora_name", "lora_path"]).await?;
    let message = format!("the LoRA adapter {name:?} is loaded");
    app.add_lora(name, path).await?;
    Ok(message)
}

async fn removed(app: &Arc<App>, headers: &HeaderMap, body: Body) -> Result<String, ApiError> {
    let [name] = texts(app, headers, body, ["lora_name"]).await?;
    let shown: String = name.chars().take(80).collect();
    app.remove_lora(name).await?;
    Ok(format!("the LoRA adapter {shown:?} is unloaded"))
}

/// Fields of a body that must be there.
async fn texts<const N: usize>(
    app: &Arc<App>,
    headers: &HeaderMap,
    body: Body,
    names: [&str; N],
) -> Result<[String; N], ApiError> {
    let fields = Fields::from_json(&body::read(app, headers, body).await?)?;
    let mut texts = [const { String::new() }; N];
    for (text, name) in texts.iter_mut().zip(names) {
        let missing = || ApiError::invalid(name, format!("{name} is missing; expected a string"));
        *text = fields.text(name)?.ok_or_else(missing)?;
    }
    Ok(texts)
}
