//! OpenAPI: every route with its fields, as JSON and as a page.

#[expect(dead_code, reason = "they only describe")]
mod openai;
#[expect(dead_code, reason = "they only describe")]
mod operations;
#[expect(dead_code, reason = "they only describe")]
mod tgi;

use std::sync::Arc;

use axum::Router;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_swagger_ui::SwaggerUi;

use crate::app::App;

/// `/docs` and `/api-doc/openapi.json`.
pub(crate) fn router() -> Router<Arc<App>> {
    let page = SwaggerUi::new("/docs").url("/api-doc/openapi.json", Api::openapi());
    page.into()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Fireside",
        description = "Language models on any GPU. OpenAI's routes begin with /v1; the others are TGI's. \
                       Unknown fields and nulls are passed over.",
    ),
    paths(
        openai::chat_completions,
        openai::completions,
        openai::embeddings,
        openai::load_lora_adapter,
        openai::unload_lora_adapter,
        openai::rerank,
        openai::models,
        openai::model,
        tgi::embed,
        tgi::rerank,
        tgi::switch,
        tgi::generate,
        tgi::generate_stream,
        tgi::tokenize,
        tgi::detokenize,
        tgi::chat_tokenize,
        operations::info,
        operations::version,
        operations::root,
        operations::health,
        operations::ready,
        operations::ping,
        operations::metrics,
    ),
    tags(
        (name = "openai", description = "OpenAI's interface, in vLLM's form where OpenAI leaves it open"),
        (name = "tgi", description = "Text Generation Inference's interface"),
        (name = "tokens", description = "Tokens of texts, in the forms of TGI, vLLM and llama.cpp"),
        (name = "operations", description = "Health, limits and metrics"),
    ),
    modifiers(&Key),
    security((), ("api_key" = [])),
)]
struct Api;

/// The API key, where the server asks for one.
struct Key;

impl Modify for Key {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("api_key", scheme);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fireside_openai::{
        ApiError, ChatRequest, CompletionRequest, EmbeddingsRequest, RerankRequest,
    };
    use serde_json::{Value, json};

    use crate::tgi::request::Generate;

    fn schema(name: &str) -> Value {
        let api = serde_json::to_value(Api::openapi()).unwrap();
        api["components"]["schemas"][name].clone()
    }

    /// Fields that are read, since a value of no use to them is refused under their names.
    fn are_read(name: &str, body: &Value, read: impl Fn(&Value) -> Option<ApiError>) {
        let properties = schema(name)["properties"].as_object().unwrap().clone();
        assert!(read(body).is_none(), "{body}");
        for field in properties.keys() {
            let mut wrong = body.clone();
            wrong[field] = json!([[{}]]);
            let error = read(&wrong).unwrap_or_else(|| panic!("{name}.{field} is not read"));
            let param = error.param.unwrap_or_default();
            // An entry of a list is named by its place.
            let named = param.split('[').next().unwrap_or_default();
            assert_eq!(named, field, "{name}.{field}");
        }
    }

    #[test]
    fn every_documented_field_of_a_request_is_read() {
        let bytes = |body: &Value| body.to_string().into_bytes();
        let chat = json!({ "messages": [{ "role": "user", "content": "Hi" }], "stream": true, "logprobs": true });
        are_read("ChatCompletionRequest", &chat, |body| {
            ChatRequest::from_json(&bytes(body)).err()
        });
        let completion = json!({ "prompt": "Hi", "stream": true });
        are_read("CompletionRequest", &completion, |body| {
            CompletionRequest::from_json(&bytes(body)).err()
        });
        let embeddings = json!({ "input": "Hi" });
        are_read("EmbeddingsRequest", &embeddings, |body| {
            EmbeddingsRequest::from_json(&bytes(body)).err()
        });
        let embed = json!({ "inputs": "Hi" });
        are_read("EmbedRequest", &embed, |body| {
            EmbeddingsRequest::from_tei_json(&bytes(body)).err()
        });
        let rerank = json!({ "query": "Hi", "documents": ["Hi"] });
        are_read("RerankRequest", &rerank, |body| {
            RerankRequest::from_json(&bytes(body)).err()
        });
        let rank = json!({ "query": "Hi", "texts": ["Hi"] });
        are_read("RankRequest", &rank, |body| {
            RerankRequest::from_tei_json(&bytes(body)).err()
        });
        let generate = json!({ "inputs": "Hi" });
        are_read("GenerateRequest", &generate, |body| {
            Generate::from_json(&bytes(body)).err()
        });
        are_read("GenerateParameters", &json!({}), |parameters| {
            let body = json!({ "inputs": "Hi", "parameters": parameters });
            Generate::from_json(&bytes(&body)).err()
        });
    }

    #[test]
    fn routes_and_documentation_name_each_other() {
        let api = serde_json::to_value(Api::openapi()).unwrap();
        let source = include_str!("../routes/mod.rs");
        let routes = source.split(".route(\"").skip(1);
        let routes = routes.filter_map(|rest| rest.split('"').next());
        let routes: std::collections::BTreeSet<String> =
            routes.map(|route| route.replace("{*id}", "{id}")).collect();
        let documented = api["paths"].as_object().unwrap().keys().cloned();
        assert_eq!(routes, documented.collect());
    }
}
