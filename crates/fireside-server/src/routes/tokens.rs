//! Tokens of texts and texts of tokens, in the forms of TGI, vLLM and llama.cpp.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use fireside_openai::fields::{Fields, whole, wrong};
use fireside_openai::{ApiError, ChatRequest};
use fireside_tokenizer::Tokenizer;
use serde_json::{Value, json};

use crate::app::App;
use crate::http::body;
use crate::http::error::{Dialect, json_response};
use crate::prepare::prepare;
use crate::worker::Facts;

/// `POST /tokenize`: the body's key tells whose form it is.
pub(crate) async fn tokenize(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(app, headers, body, read_tokenize).await
}

/// `POST /detokenize`
pub(crate) async fn detokenize(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(app, headers, body, read_detokenize).await
}

/// `POST /chat_tokenize`
pub(crate) async fn chat_tokenize(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(app, headers, body, read_chat_tokenize).await
}

async fn answer(
    app: Arc<App>,
    headers: HeaderMap,
    body: Body,
    read: fn(&App, &Facts, &[u8]) -> Result<Value, ApiError>,
) -> Response {
    let result = async {
        let place = app.translate()?;
        let bytes = body::read(&app, &headers, body).await?;
        let facts = app.facts()?;
        prepare(&app, &facts, move |app, facts| {
            let _place = place;
            read(app, facts, &bytes)
        })
        .await
    };
    match result.await {
        Ok(value) => json_response(&value),
        Err(error) => Dialect::Tgi.response(&error),
    }
}

fn read_tokenize(app: &App, facts: &Facts, body: &[u8]) -> Result<Value, ApiError> {
    let fields = Fields::from_json(body)?;
    let special =
        |default: bool, name: &str| Ok::<_, ApiError>(fields.flag(name)?.unwrap_or(default));
    let encode = |name: &str, text: &str, special: bool| {
        let ids = facts.tokenizer.encode(text, special);
        ids.map_err(|error| ApiError::invalid(name, error.to_string()))
    };
    if let Some(text) = fields.text("inputs")? {
        let ids = encode("inputs", &text, special(true, "add_special_tokens")?)?;
        return Ok(spans(&facts.tokenizer, &text, &ids));
    }
    if let Some(text) = fields.text("content")? {
        let ids = encode("content", &text, special(false, "add_special")?)?;
        if fields.flag("with_pieces")? == Some(true) {
            let piece = |id: &u32| json!({ "id": id, "piece": text_of(&facts.tokenizer, *id) });
            return Ok(json!({ "tokens": ids.iter().map(piece).collect::<Vec<_>>() }));
        }
        return Ok(json!({ "tokens": ids }));
    }
    let ids = if let Some(text) = fields.text("prompt")? {
        encode("prompt", &text, special(true, "add_special_tokens")?)?
    } else if fields.get("messages").is_some() {
        chat(facts, body)?.1
    } else {
        return Err(ApiError::invalid(
            "inputs",
            "inputs is missing; expected it, or prompt, messages or content",
        ));
    };
    let mut reply = json!({
        "count": ids.len(),
        "max_model_len": app.max_total_tokens(facts),
        "tokens": ids,
    });
    if fields.flag("return_token_strs")? == Some(true) {
        let names = ids.iter().map(|id| facts.tokenizer.id_to_token(*id));
        reply["token_strs"] = names.map(Value::from).collect();
    }
    Ok(reply)
}

/// A chat as the model gets it, and its tokens.
fn chat(facts: &Facts, body: &[u8]) -> Result<(String, Vec<u32>), ApiError> {
    let request = ChatRequest::from_json(body)?;
    request.prompt(&facts.tokenizer, facts.template.as_ref())
}

fn read_chat_tokenize(_: &App, facts: &Facts, body: &[u8]) -> Result<Value, ApiError> {
    let (text, ids) = chat(facts, body)?;
    Ok(json!({
        "tokenize_response": spans(&facts.tokenizer, &text, &ids),
        "templated_text": text,
    }))
}

fn read_detokenize(_: &App, facts: &Facts, body: &[u8]) -> Result<Value, ApiError> {
    let fields = Fields::from_json(body)?;
    let expected = "a list of token ids";
    let list = match fields.get("tokens") {
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong("tokens", other, expected)),
        None => {
            return Err(ApiError::invalid(
                "tokens",
                format!("tokens is missing; expected {expected}"),
            ));
        }
    };
    let id = |value: &Value| {
        let id = whole(value).and_then(|id| u32::try_from(id).ok());
        id.filter(|id| (*id as usize) < facts.vocab)
            .ok_or_else(|| wrong("tokens", value, &format!("token ids below {}", facts.vocab)))
    };
    let ids: Vec<u32> = list.iter().map(id).collect::<Result<_, _>>()?;
    let text = facts.tokenizer.decode(&ids, false);
    // vLLM reads `prompt`, llama.cpp `content`.
    Ok(json!({ "prompt": text, "content": text }))
}

fn text_of(tokenizer: &Tokenizer, id: u32) -> String {
    String::from_utf8_lossy(tokenizer.token_bytes(id).unwrap_or_default()).into_owned()
}

/// Tokens with the characters that they cover, as TGI gives them. A token that is not found in the
/// text where it should begin, as one that was added, covers nothing.
fn spans(tokenizer: &Tokenizer, text: &str, ids: &[u32]) -> Value {
    let bytes = text.as_bytes();
    // Characters that begin before each byte.
    let mut starts = Vec::with_capacity(bytes.len() + 1);
    let mut count = 0;
    for at in 0..=bytes.len() {
        starts.push(count);
        count += usize::from(text.is_char_boundary(at));
    }
    let mut at = 0;
    let spans = ids.iter().map(|id| {
        let own = tokenizer.token_bytes(*id).unwrap_or_default();
        let rest = bytes.get(at..).unwrap_or_default();
        // A vocabulary may write a blank before the first word that the text does not have.
        let own = match own.strip_prefix(b" ") {
            Some(trimmed) if at == 0 && !rest.starts_with(own) => trimmed,
            _ => own,
        };
        let name = tokenizer.id_to_token(*id).unwrap_or_default();
        let written = if rest.starts_with(own) && !own.is_empty() {
            own.len()
        } else if rest.starts_with(name.as_bytes()) {
            name.len()
        } else {
            0
        };
        let (start, end) = (at, at + written);
        at = end;
        let shown = match bytes.get(start..end) {
            Some(part) if written > 0 => String::from_utf8_lossy(part).into_owned(),
            _ => name,
        };
        json!({ "id": id, "text": shown, "start": starts[start], "stop": starts[end] })
    });
    spans.collect()
}
