//! TGI's routes for generations.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use axum::response::Response;
use fireside_openai::ApiError;
use fireside_openai::fields::Fields;
use serde_json::{Map, Value, json};

use super::{embeddings, rerank};
use crate::app::{App, Work};
use crate::http::envelope::RequestId;
use crate::http::error::{Dialect, Names, json_response};
use crate::http::{body, sse};
use crate::prepare::{Begun, Wanted, begin};
use crate::tgi::reply::Generated;
use crate::tgi::request::Generate;
use crate::worker::Facts;

/// How a route answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One object.
    Whole,
    /// A stream.
    Stream,
    /// The body's `stream` chooses; the whole answer is a list of one, with the prompt.
    Switch,
    /// The object of the pipeline's HTTP example: the text with its prompt, and nothing else.
    Pipeline,
}

/// `POST /`, which is `POST /embed` where the model makes embeddings, and `POST /rerank` where it scores texts.
pub(crate) async fn switch(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match app.work {
        Work::Embed(_) => embeddings::embed(State(app), Extension(id), headers, body).await,
        Work::Rank(_) => rerank::texts(State(app), Extension(id), headers, body).await,
        Work::Generate(_) => respond(from_body(app, id, headers, body, Form::Switch).await),
    }
}

/// `POST /generate`, with a body, or with the prompt and parameters in the query.
pub(crate) async fn generate(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let result = match Query::<HashMap<String, String>>::try_from_uri(&uri) {
        Ok(Query(query)) if query.contains_key("prompt") => from_query(app, id, query).await,
        _ => from_body(app, id, headers, body, Form::Whole).await,
    };
    respond(result)
}

/// `POST /generate_stream`
pub(crate) async fn generate_stream(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    respond(from_body(app, id, headers, body, Form::Stream).await)
}

fn respond(result: Result<Response, ApiError>) -> Response {
    result.unwrap_or_else(|error| Dialect::Tgi.response(&error))
}

async fn from_body(
    app: Arc<App>,
    id: RequestId,
    headers: HeaderMap,
    body: Body,
    form: Form,
) -> Result<Response, ApiError> {
    let bytes = body::read(&app, &headers, body).await?;
    run(app, id, form, move || Generate::from_json(&bytes)).await
}

/// The prompt and its parameters as they stand in a URL: numbers and booleans as JSON writes them,
/// else strings.
async fn from_query(
    app: Arc<App>,
    id: RequestId,
    mut query: HashMap<String, String>,
) -> Result<Response, ApiError> {
    let prompt = query.remove("prompt").unwrap_or_default();
    let parameters: Map<String, Value> = query
        .into_iter()
        .map(|(name, text)| {
            let value = serde_json::from_str(&text).ok();
            let value = value.filter(|value: &Value| value.is_number() || value.is_boolean());
            (name, value.unwrap_or(Value::String(text)))
        })
        .collect();
    let limited = parameters.contains_key("max_new_tokens");
    let body = json!({ "inputs": prompt, "parameters": parameters });
    run(app, id, Form::Pipeline, move || {
        let mut wanted = Generate::read(&Fields::from_value(body)?)?;
        if !limited {
            // The pipeline's own default, where there is room for it.
            wanted.params.max_new_tokens = None;
        }
        Ok(wanted)
    })
    .await
}

/// What an answer needs besides its events.
struct Answering {
    generated: Generated,
    characters: usize,
    watermark: bool,
}

async fn run(
    app: Arc<App>,
    id: RequestId,
    form: Form,
    read: impl FnOnce() -> Result<Generate, ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let began = Instant::now();
    let begun = begin(&app, id, Names::TGI, move |app, facts| {
        wanted(read()?, form, app, facts)
    })
    .await?;
    let Begun {
        mut answer,
        facts,
        stream,
        form: answering,
        validation,
    } = begun;
    let Answering {
        mut generated,
        characters,
        watermark,
    } = answering;
    let mut response = if stream {
        sse::response(&app, answer, generated)
    } else {
        while !generated.is_done() {
            generated.push(answer.next().await?)?;
        }
        let whole = generated.whole();
        let mut response = json_response(&match form {
            Form::Switch => json!([whole]),
            _ => whole,
        });
        timings(
            response.headers_mut(),
            &generated,
            validation,
            began.elapsed(),
        );
        response
    };
    let headers = response.headers_mut();
    let kind = if facts.device == "cpu" { "cpu" } else { "gpu" };
    headers.insert("x-compute-type", HeaderValue::from_static(kind));
    headers.insert("x-compute-characters", characters.into());
    if watermark {
        headers.insert(
            "x-fireside-warning",
            HeaderValue::from_static("watermark has no effect"),
        );
    }
    Ok(response)
}

fn wanted(
    wanted: Generate,
    form: Form,
    app: &App,
    facts: &Facts,
) -> Result<Wanted<Answering>, ApiError> {
    let stream = match form {
        Form::Stream => true,
        Form::Whole | Form::Pipeline => false,
        Form::Switch => wanted.stream.unwrap_or(false),
    };
    let sequences = wanted.params.num_return_sequences.unwrap_or(1);
    if stream && sequences > 1 {
        return Err(ApiError::invalid(
            "best_of",
            format!("best_of is {sequences}; that needs no stream"),
        ));
    }
    if stream && wanted.prefill {
        return Err(ApiError::invalid(
            "decoder_input_details",
            "decoder_input_details is true; that needs no stream",
        ));
    }
    let mut request = wanted.to_engine(&facts.tokenizer)?;
    request.lora = adapter(app, wanted.adapter_id.as_deref())?;
    let full = wanted
        .return_full_text
        .unwrap_or(matches!(form, Form::Switch | Form::Pipeline));
    let characters = wanted.inputs.chars().count();
    let generated = Generated::new(
        facts.tokenizer.clone(),
        if full { wanted.inputs } else { String::new() },
        wanted.details,
        wanted.top_n_tokens,
        wanted.params.do_sample == Some(true),
        sequences,
    );
    Ok(Wanted {
        requests: vec![request],
        stream,
        form: Answering {
            generated,
            characters,
            watermark: wanted.watermark,
        },
    })
}

/// The LoRA adapter of an id; none where there is no id, or the model's own.
fn adapter(app: &App, id: Option<&str>) -> Result<Option<Arc<str>>, ApiError> {
    app.check_model(id).map_err(|error| {
        let message = error.message.replacen("model is", "adapter_id is", 1);
        ApiError::invalid("adapter_id", message)
    })
}

/// TGI's headers on where the time went, in milliseconds but for `x-compute-time`, which has seconds.
fn timings(headers: &mut HeaderMap, generated: &Generated, validation: Duration, total: Duration) {
    let Some(finished) = generated.finished() else {
        return;
    };
    let stats = &finished.stats;
    let inference = stats.prefill + stats.decode;
    let tokens = stats.generated_tokens.max(1);
    let per_token = inference / u32::try_from(tokens).unwrap_or(u32::MAX);
    let millis = |time: Duration| time.as_millis().to_string();
    for (name, value) in [
        ("x-compute-time", total.as_secs_f64().to_string()),
        ("x-total-time", millis(total)),
        ("x-validation-time", millis(validation)),
        ("x-queue-time", millis(stats.queued)),
        ("x-inference-time", millis(inference)),
        ("x-time-per-token", millis(per_token)),
        ("x-prompt-tokens", stats.prompt_tokens.to_string()),
        ("x-generated-tokens", stats.generated_tokens.to_string()),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}
