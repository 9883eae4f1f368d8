//! OpenAI's routes.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

/// A string, or a list of strings.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// One prompt or several, as text or as tokens.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Prompts {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    Lists(Vec<Vec<u32>>),
}

/// A part of a message's content.
#[derive(Serialize, ToSchema)]
pub(super) struct Part {
    #[schema(rename = "type", example = "text")]
    kind: String,
    text: String,
}

/// Text, or parts that are joined to text.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// A message of a conversation.
#[derive(ToSchema)]
pub(super) struct Message {
    #[schema(example = "user")]
    role: String,
    content: Content,
}

/// What a stream tells besides its text.
#[derive(ToSchema)]
pub(super) struct StreamOptions {
    /// End with a chunk that has no choices and the usage.
    include_usage: Option<bool>,
}

/// A conversation to be answered. What is left out is the model's own default, and where it has none,
/// OpenAI's: a temperature of 1 and no filter.
#[derive(ToSchema)]
pub(super) struct ChatCompletionRequest {
    /// The served model's name; `tgi` always means it, and so does nothing.
    #[schema(example = "tgi")]
    model: Option<String>,
    #[schema(min_items = 1)]
    messages: Vec<Message>,
    /// Most tokens of the answer; what the context has room for by default.
    #[schema(minimum = 1)]
    max_completion_tokens: Option<u64>,
    /// The older name of `max_completion_tokens`.
    #[schema(minimum = 1)]
    max_tokens: Option<u64>,
    /// Least tokens of the answer.
    #[schema(minimum = 0)]
    min_tokens: Option<u64>,
    /// 0 for the most probable token each time.
    #[schema(minimum = 0.0, maximum = 2.0)]
    temperature: Option<f32>,
    /// Most probable tokens to choose among; 0 or -1 for all.
    #[schema(minimum = -1)]
    top_k: Option<i64>,
    /// Choose among the fewest tokens that together are as probable as this.
    #[schema(exclusive_minimum = 0.0, maximum = 1.0)]
    top_p: Option<f32>,
    /// Choose among tokens that are as probable as this, times the most probable one.
    #[schema(minimum = 0.0, maximum = 1.0)]
    min_p: Option<f32>,
    #[schema(exclusive_minimum = 0.0, maximum = 1.0)]
    typical_p: Option<f32>,
    #[schema(exclusive_minimum = 0.0)]
    repetition_penalty: Option<f32>,
    #[schema(minimum = -2.0, maximum = 2.0)]
    frequency_penalty: Option<f32>,
    #[schema(minimum = -2.0, maximum = 2.0)]
    presence_penalty: Option<f32>,
    /// What is added to the logits of tokens, by their ids.
    logit_bias: Option<BTreeMap<String, f32>>,
    /// The same seed and request give the same answer.
    seed: Option<i64>,
    /// Text before which the answer ends.
    stop: Option<OneOrMany>,
    /// Tokens that end the answer.
    stop_token_ids: Option<Vec<u32>>,
    /// Go on where the model would end.
    ignore_eos: Option<bool>,
    /// Answers to give.
    #[schema(minimum = 1, maximum = 128)]
    n: Option<u64>,
    /// Tell each token's log-probability.
    logprobs: Option<bool>,
    /// And those of so many alternatives; needs `logprobs`.
    #[schema(minimum = 0, maximum = 20)]
    top_logprobs: Option<u64>,
    /// Answer in server-sent events, ended by `[DONE]`.
    stream: Option<bool>,
    /// Needs `stream`.
    stream_options: Option<StreamOptions>,
    /// Go on with the last message instead of answering it.
    continue_final_message: Option<bool>,
    /// Begin the answer as the template does; true unless `continue_final_message` is.
    add_generation_prompt: Option<bool>,
    /// Variables for the model's chat template.
    #[schema(value_type = Option<Object>)]
    chat_template_kwargs: Option<BTreeMap<String, String>>,
}

/// A token of an answer.
#[derive(ToSchema)]
pub(super) struct TokenLogprob {
    token: String,
    logprob: f32,
    /// The token's bytes, as it may be a part of a character.
    bytes: Vec<u8>,
    top_logprobs: Vec<TopLogprob>,
}

/// An alternative to a token.
#[derive(ToSchema)]
pub(super) struct TopLogprob {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

#[derive(ToSchema)]
pub(super) struct ChatLogprobs {
    content: Vec<TokenLogprob>,
}

#[derive(ToSchema)]
pub(super) struct ChatMessage {
    #[schema(example = "assistant")]
    role: String,
    content: String,
}

#[derive(ToSchema)]
pub(super) struct ChatChoice {
    index: u64,
    message: ChatMessage,
    logprobs: Option<ChatLogprobs>,
    /// `stop` or `length`.
    finish_reason: String,
}

#[derive(ToSchema)]
pub(super) struct PromptTokensDetails {
    /// Tokens of prompts that were in the prefix cache.
    cached_tokens: u64,
}

/// Tokens of prompts and answers.
#[derive(ToSchema)]
pub(super) struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptTokensDetails,
}

#[derive(ToSchema)]
pub(super) struct ChatCompletion {
    id: String,
    #[schema(example = "chat.completion")]
    object: String,
    /// Seconds since 1970.
    created: u64,
    model: String,
    choices: Vec<ChatChoice>,
    usage: Usage,
}

/// A text to be continued.
#[derive(ToSchema)]
pub(super) struct CompletionRequest {
    /// The served model's name; `tgi` always means it, and so does nothing.
    #[schema(example = "tgi")]
    model: Option<String>,
    prompt: Prompts,
    /// Most tokens of a completion, 16 by default; 0 with `echo`, to score the prompt.
    #[schema(minimum = 0)]
    max_tokens: Option<u64>,
    /// The newer name of `max_tokens`.
    #[schema(minimum = 1)]
    max_completion_tokens: Option<u64>,
    #[schema(minimum = 0)]
    min_tokens: Option<u64>,
    /// 0 for the most probable token each time.
    #[schema(minimum = 0.0, maximum = 2.0)]
    temperature: Option<f32>,
    #[schema(minimum = -1)]
    top_k: Option<i64>,
    #[schema(exclusive_minimum = 0.0, maximum = 1.0)]
    top_p: Option<f32>,
    #[schema(minimum = 0.0, maximum = 1.0)]
    min_p: Option<f32>,
    #[schema(exclusive_minimum = 0.0, maximum = 1.0)]
    typical_p: Option<f32>,
    #[schema(exclusive_minimum = 0.0)]
    repetition_penalty: Option<f32>,
    #[schema(minimum = -2.0, maximum = 2.0)]
    frequency_penalty: Option<f32>,
    #[schema(minimum = -2.0, maximum = 2.0)]
    presence_penalty: Option<f32>,
    logit_bias: Option<BTreeMap<String, f32>>,
    seed: Option<i64>,
    stop: Option<OneOrMany>,
    stop_token_ids: Option<Vec<u32>>,
    ignore_eos: Option<bool>,
    /// Completions of each prompt.
    #[schema(minimum = 1, maximum = 128)]
    n: Option<u64>,
    /// Sequences of which the `n` with the highest log-probability per token are given; not in a stream.
    #[schema(minimum = 1, maximum = 128)]
    best_of: Option<u64>,
    /// Put the prompt before the completion.
    echo: Option<bool>,
    /// Tell each token's log-probability, and those of so many alternatives.
    #[schema(minimum = 0, maximum = 20)]
    logprobs: Option<u64>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
}

/// Log-probabilities of a completion's tokens, in columns.
#[derive(ToSchema)]
pub(super) struct CompletionLogprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<Option<f32>>,
    top_logprobs: Vec<Option<BTreeMap<String, f32>>>,
    /// Where each token begins in the text, in characters.
    text_offset: Vec<u64>,
}

#[derive(ToSchema)]
pub(super) struct CompletionChoice {
    index: u64,
    text: String,
    logprobs: Option<CompletionLogprobs>,
    /// `stop` or `length`.
    finish_reason: String,
}

#[derive(ToSchema)]
pub(super) struct Completion {
    id: String,
    #[schema(example = "text_completion")]
    object: String,
    created: u64,
    model: String,
    choices: Vec<CompletionChoice>,
    usage: Usage,
}

/// A server-sent event.
#[derive(ToSchema)]
pub(super) struct Frame {
    /// A JSON object, or `[DONE]` at the end of OpenAI's streams.
    data: String,
}

#[derive(ToSchema)]
pub(super) struct Model {
    id: String,
    #[schema(example = "model")]
    object: String,
    created: u64,
    owned_by: String,
    /// The model that a LoRA adapter belongs to; null for the model.
    parent: Option<String>,
    /// The model that a LoRA adapter says it was trained on.
    base_model: Option<String>,
    /// Most tokens of a prompt and its answer; null while the model loads.
    max_model_len: Option<u64>,
}

#[derive(ToSchema)]
pub(super) struct Models {
    #[schema(example = "list")]
    object: String,
    data: Vec<Model>,
}

#[derive(ToSchema)]
pub(super) struct ErrorBody {
    /// What happened and what would be right.
    message: String,
    #[schema(rename = "type", example = "invalid_request_error")]
    kind: String,
    /// The field that it is about.
    param: Option<String>,
    code: Option<String>,
}

#[derive(ToSchema)]
pub(super) struct OpenAiError {
    error: ErrorBody,
}

/// What may become of a request for a generation instead of an answer.
#[derive(IntoResponses)]
pub(super) enum Refused {
    /// a field means nothing, or the prompt is too long
    #[response(status = 400)]
    Invalid(OpenAiError),
    /// no key, or a wrong one
    #[response(status = 401)]
    Unauthorized(OpenAiError),
    /// it comes from a page of another site, or was sent to another's name
    #[response(status = 403)]
    Forbidden(OpenAiError),
    /// another model is named
    #[response(status = 404)]
    NotFound(OpenAiError),
    /// it took too long
    #[response(status = 408)]
    Timeout(OpenAiError),
    /// the body is too large
    #[response(status = 413)]
    TooLarge(OpenAiError),
    /// the body is not JSON
    #[response(status = 415)]
    MediaType(OpenAiError),
    /// too much is under way; try again after `Retry-After` seconds
    #[response(status = 429)]
    Overloaded(OpenAiError),
    /// the generation failed
    #[response(status = 500)]
    Failed(OpenAiError),
    /// the model loads, or the server ends
    #[response(status = 503)]
    Unavailable(OpenAiError),
}

/// A LoRA adapter to load.
#[derive(ToSchema)]
pub(super) struct LoadLora {
    /// The name that requests give as their `model`, or as TGI's `adapter_id`.
    lora_name: String,
    /// A folder in the server's `--lora-root`, with `adapter_config.json` and `adapter_model.safetensors`.
    lora_path: String,
}

/// A LoRA adapter to unload.
#[derive(ToSchema)]
pub(super) struct UnloadLora {
    lora_name: String,
}

/// What was done.
#[derive(Serialize, ToSchema)]
pub(super) struct Done {
    message: String,
}

/// Load a LoRA adapter; the server must have been started with `--lora-root`
#[utoipa::path(post, path = "/v1/load_lora_adapter", tag = "openai", request_body = LoadLora, responses(
    (status = 200, body = Done, description = "it is served"),
    Refused,
))]
pub(super) fn load_lora_adapter() {}

/// Unload a LoRA adapter that no request uses; the server must have been started with `--lora-root`
#[utoipa::path(post, path = "/v1/unload_lora_adapter", tag = "openai", request_body = UnloadLora, responses(
    (status = 200, body = Done, description = "it is served no longer"),
    Refused,
))]
pub(super) fn unload_lora_adapter() {}

/// Answer a conversation
#[utoipa::path(post, path = "/v1/chat/completions", tag = "openai", request_body = ChatCompletionRequest, responses(
    (status = 200, content(
        (ChatCompletion = "application/json"),
        (Frame = "text/event-stream"),
    ), description = "the answer; with `stream`, chunks of it"),
    Refused,
))]
pub(super) fn chat_completions() {}

/// Continue a text
#[utoipa::path(post, path = "/v1/completions", tag = "openai", request_body = CompletionRequest, responses(
    (status = 200, content(
        (Completion = "application/json"),
        (Frame = "text/event-stream"),
    ), description = "the completions; with `stream`, chunks of them"),
    Refused,
))]
pub(super) fn completions() {}

/// Texts, or their tokens.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum EmbeddingInput {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    ManyTokens(Vec<Vec<u32>>),
}

/// Texts whose embeddings are wanted.
#[derive(ToSchema)]
pub(super) struct EmbeddingsRequest {
    /// The served model's name; `tgi` always means it, and so does nothing.
    #[schema(example = "tgi")]
    model: Option<String>,
    input: EmbeddingInput,
    /// `float` for lists of numbers, `base64` for little-endian 32-bit floats.
    #[schema(example = "float")]
    encoding_format: Option<String>,
    /// Keep only so many of the first values.
    #[schema(minimum = 1)]
    dimensions: Option<u64>,
    /// Give embeddings the length 1; what the model's files say by default.
    normalize: Option<bool>,
    /// Cut texts that are too long instead of refusing them.
    truncate: Option<bool>,
    /// The name of the model's prompt to put before each text.
    prompt_name: Option<String>,
    /// Who asks; nothing depends on it.
    user: Option<String>,
}

/// A list of numbers, or base64.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Vector {
    Floats(Vec<f32>),
    Base64(String),
}

#[derive(ToSchema)]
pub(super) struct EmbeddingObject {
    #[schema(example = "embedding")]
    object: String,
    index: u64,
    embedding: Vector,
}

#[derive(ToSchema)]
pub(super) struct EmbeddingUsage {
    prompt_tokens: u64,
    total_tokens: u64,
}

#[derive(ToSchema)]
pub(super) struct Embeddings {
    #[schema(example = "list")]
    object: String,
    data: Vec<EmbeddingObject>,
    model: String,
    usage: EmbeddingUsage,
}

/// Make embeddings of texts, where the served model is made for them
#[utoipa::path(post, path = "/v1/embeddings", tag = "openai", request_body = EmbeddingsRequest, responses(
    (status = 200, body = Embeddings, description = "an embedding for each text, in their order"),
    Refused,
))]
pub(super) fn embeddings() {}

/// A text, or an object that has it.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum RerankDocument {
    Text(String),
    Object(RankedDocument),
}

#[derive(Serialize, ToSchema)]
pub(super) struct RankedDocument {
    text: String,
}

/// Texts whose scores for a query are wanted, as Jina, Cohere and vLLM have it.
#[derive(ToSchema)]
pub(super) struct RerankRequest {
    /// The served model's name; `tgi` always means it, and so does nothing.
    #[schema(example = "tgi")]
    model: Option<String>,
    query: String,
    documents: Vec<RerankDocument>,
    /// Give only so many of the best; 0 for all.
    top_n: Option<u64>,
    /// Give the documents with their scores, as by default.
    return_documents: Option<bool>,
    /// Cut queries and documents that are too long instead of refusing them: the longer one first.
    truncate: Option<bool>,
    /// Give logits (true) or probabilities (false); what the model's files say by default.
    raw_scores: Option<bool>,
    /// Who asks; nothing depends on it.
    user: Option<String>,
}

#[derive(ToSchema)]
pub(super) struct RerankResult {
    /// The document's place in the request.
    index: u64,
    relevance_score: f32,
    document: Option<RankedDocument>,
}

#[derive(ToSchema)]
pub(super) struct Reranked {
    id: String,
    model: String,
    usage: EmbeddingUsage,
    results: Vec<RerankResult>,
}

/// Score texts for a query, where the served model is made for that
#[utoipa::path(post, path = "/v1/rerank", tag = "openai", request_body = RerankRequest, responses(
    (status = 200, body = Reranked, description = "the documents' scores, the best first"),
    Refused,
))]
pub(super) fn rerank() {}

/// The served model, as a list of one
#[utoipa::path(get, path = "/v1/models", tag = "openai", responses(
    (status = 200, body = Models),
    (status = 401, description = "no key, or a wrong one", body = OpenAiError),
))]
pub(super) fn models() {}

/// The served model
#[utoipa::path(get, path = "/v1/models/{id}", tag = "openai",
    params(("id" = String, Path, description = "its name")),
    responses(
        (status = 200, body = Model),
        (status = 401, description = "no key, or a wrong one", body = OpenAiError),
        (status = 404, description = "another name", body = OpenAiError),
    )
)]
pub(super) fn model() {}
