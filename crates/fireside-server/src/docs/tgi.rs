//! TGI's routes, and those for tokens.

use serde::Serialize;
use utoipa::{IntoParams, IntoResponses, ToSchema};

use super::openai::{EmbeddingInput, Frame, Message, OneOrMany, RerankDocument, Vector};

/// How to generate. It samples if it is told to, or if a parameter of sampling is set.
#[derive(ToSchema)]
pub(super) struct GenerateParameters {
    /// Most tokens of the answer; what the context has room for by default.
    #[schema(minimum = 1)]
    max_new_tokens: Option<u64>,
    do_sample: Option<bool>,
    #[schema(exclusive_minimum = 0.0)]
    temperature: Option<f32>,
    /// 0 or -1 for all tokens.
    #[schema(minimum = -1)]
    top_k: Option<i64>,
    #[schema(exclusive_minimum = 0.0, maximum = 1.0)]
    top_p: Option<f32>,
    #[schema(exclusive_minimum = 0.0, maximum = 1.0)]
    typical_p: Option<f32>,
    #[schema(exclusive_minimum = 0.0)]
    repetition_penalty: Option<f32>,
    #[schema(minimum = -2.0, maximum = 2.0)]
    frequency_penalty: Option<f32>,
    /// The same seed and request give the same answer.
    #[schema(minimum = 0)]
    seed: Option<u64>,
    /// Text before which the answer ends.
    stop: Option<OneOrMany>,
    /// Sequences of which the best is given; needs sampling, no seed and no stream.
    #[schema(minimum = 1, maximum = 2)]
    best_of: Option<u64>,
    /// Put the prompt before the answer.
    return_full_text: Option<bool>,
    /// Tell each token and how the answer ended.
    details: Option<bool>,
    /// Tell the prompt's tokens too; needs `details`.
    decoder_input_details: Option<bool>,
    /// Alternatives to each token that are told.
    #[schema(minimum = 0, maximum = 5)]
    top_n_tokens: Option<u64>,
    /// Keep so many of the prompt's last tokens.
    #[schema(minimum = 1)]
    truncate: Option<u64>,
    /// Has no effect; the header `x-fireside-warning` says so.
    watermark: Option<bool>,
    /// The name of the LoRA adapter to answer with.
    adapter_id: Option<String>,
}

/// A prompt and how to go on with it.
#[derive(ToSchema)]
pub(super) struct GenerateRequest {
    #[schema(min_length = 1, example = "The capital of France is")]
    inputs: String,
    parameters: Option<GenerateParameters>,
    /// On `/` only: answer in server-sent events.
    stream: Option<bool>,
}

/// A token of the answer.
#[derive(ToSchema)]
pub(super) struct Token {
    id: u32,
    text: String,
    logprob: Option<f32>,
    special: bool,
}

/// A token of the prompt; the first one has no log-probability.
#[derive(ToSchema)]
pub(super) struct PrefillToken {
    id: u32,
    text: String,
    logprob: Option<f32>,
}

/// How an answer ended, and its tokens.
#[derive(ToSchema)]
pub(super) struct Details {
    /// `length`, `eos_token` or `stop_sequence`.
    finish_reason: String,
    generated_tokens: u64,
    seed: Option<u64>,
    prefill: Vec<PrefillToken>,
    tokens: Vec<Token>,
    #[schema(required = false)]
    top_tokens: Vec<Vec<Token>>,
    /// The others, with `best_of`.
    #[schema(required = false, value_type = Vec<Object>)]
    best_of_sequences: Vec<String>,
}

#[derive(ToSchema)]
pub(super) struct Generated {
    generated_text: String,
    details: Option<Details>,
}

#[derive(ToSchema)]
pub(super) struct TgiError {
    /// What happened and what would be right.
    error: String,
    #[schema(example = "validation")]
    error_type: String,
}

/// A prompt in the URL, as in the example of the transformers pipeline behind HTTP.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PipelineQuery {
    /// Continued with the parameters that stand beside it, instead of a body.
    #[param(required = false)]
    prompt: String,
}

/// A text, under the key of whose form is wanted: `inputs` for TGI's, `prompt` or `messages` for vLLM's,
/// `content` for llama.cpp's.
#[derive(ToSchema)]
pub(super) struct TokenizeRequest {
    inputs: Option<String>,
    prompt: Option<String>,
    /// A conversation, with the fields of `/v1/chat/completions` that change its prompt.
    messages: Option<Vec<Message>>,
    content: Option<String>,
    add_special_tokens: Option<bool>,
}

/// A token and the characters that it covers.
#[derive(Serialize, ToSchema)]
pub(super) struct Span {
    id: u32,
    text: String,
    start: u64,
    stop: u64,
}

#[derive(Serialize, ToSchema)]
pub(super) struct TokenList {
    tokens: Vec<u32>,
    #[schema(required = false)]
    count: u64,
    #[schema(required = false)]
    max_model_len: u64,
}

/// Spans as TGI gives them, or ids as vLLM and llama.cpp do.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Tokenized {
    Spans(Vec<Span>),
    Ids(TokenList),
}

#[derive(ToSchema)]
pub(super) struct DetokenizeRequest {
    tokens: Vec<u32>,
}

/// The text under vLLM's name and llama.cpp's.
#[derive(ToSchema)]
pub(super) struct Detokenized {
    prompt: String,
    content: String,
}

#[derive(ToSchema)]
pub(super) struct ChatTokenizeRequest {
    #[schema(min_items = 1)]
    messages: Vec<Message>,
    continue_final_message: Option<bool>,
    add_generation_prompt: Option<bool>,
    #[schema(value_type = Option<Object>)]
    chat_template_kwargs: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(ToSchema)]
pub(super) struct ChatTokenized {
    tokenize_response: Vec<Span>,
    /// The conversation in the model's template.
    templated_text: String,
}

/// What may become of a request for a generation instead of an answer.
#[derive(IntoResponses)]
pub(super) enum Generating {
    /// no key, or a wrong one
    #[response(status = 401)]
    Unauthorized(TgiError),
    /// it comes from a page of another site, or was sent to another's name
    #[response(status = 403)]
    Forbidden(TgiError),
    /// it took too long
    #[response(status = 408)]
    Timeout(TgiError),
    /// the body is too large
    #[response(status = 413)]
    TooLarge(TgiError),
    /// the body is not JSON
    #[response(status = 415)]
    MediaType(TgiError),
    /// a field means nothing, or the prompt is too long
    #[response(status = 422)]
    Invalid(TgiError),
    /// the generation failed
    #[response(status = 424)]
    Failed(TgiError),
    /// too much is under way; try again after `Retry-After` seconds
    #[response(status = 429)]
    Overloaded(TgiError),
    /// the model loads, or the server ends
    #[response(status = 503)]
    Unavailable(TgiError),
}

/// What may become of a request for tokens or their text instead of an answer.
#[derive(IntoResponses)]
pub(super) enum Translating {
    /// no key, or a wrong one
    #[response(status = 401)]
    Unauthorized(TgiError),
    /// it comes from a page of another site, or was sent to another's name
    #[response(status = 403)]
    Forbidden(TgiError),
    /// the body did not come in time
    #[response(status = 408)]
    Timeout(TgiError),
    /// the body is too large
    #[response(status = 413)]
    TooLarge(TgiError),
    /// the body is not JSON
    #[response(status = 415)]
    MediaType(TgiError),
    /// a field means nothing
    #[response(status = 422)]
    Invalid(TgiError),
    /// too much is under way; try again after `Retry-After` seconds
    #[response(status = 429)]
    Overloaded(TgiError),
    /// the model loads, or the server ends
    #[response(status = 503)]
    Unavailable(TgiError),
}

/// Texts whose embeddings are wanted, as Text Embeddings Inference has it.
#[derive(ToSchema)]
pub(super) struct EmbedRequest {
    /// The served model's name; `tgi` always means it, and so does nothing.
    model: Option<String>,
    inputs: EmbeddingInput,
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

/// Make embeddings of texts, where the served model is made for them; `POST /` does so there too
#[utoipa::path(post, path = "/embed", tag = "tgi", request_body = EmbedRequest, responses(
    (status = 200, body = Vec<Vector>, description = "an embedding for each text, in their order"),
    Generating,
))]
pub(super) fn embed() {}

/// Texts whose scores for a query are wanted, as Text Embeddings Inference has it.
#[derive(ToSchema)]
pub(super) struct RankRequest {
    /// The served model's name; `tgi` always means it, and so does nothing.
    model: Option<String>,
    query: String,
    texts: Vec<RerankDocument>,
    /// Cut queries and texts that are too long instead of refusing them: the longer one first.
    truncate: Option<bool>,
    /// `right`, as texts are cut at their ends.
    #[schema(example = "right")]
    truncation_direction: Option<String>,
    /// Give logits, not probabilities.
    raw_scores: Option<bool>,
    /// Give the texts with their scores.
    return_text: Option<bool>,
    /// Who asks; nothing depends on it.
    user: Option<String>,
}

#[derive(ToSchema)]
pub(super) struct Rank {
    /// The text's place in the request.
    index: u64,
    score: f32,
    text: Option<String>,
}

/// Score texts for a query, where the served model is made for that; `POST /` does so there too
#[utoipa::path(post, path = "/rerank", tag = "tgi", request_body = RankRequest, responses(
    (status = 200, body = Vec<Rank>, description = "the texts' scores, the best first"),
    Generating,
))]
pub(super) fn rerank() {}

/// Generate, in a stream or not
#[utoipa::path(post, path = "/", tag = "tgi", request_body = GenerateRequest, responses(
    (status = 200, content(
        (Vec<Generated> = "application/json"),
        (Frame = "text/event-stream"),
    ), description = "a list of one; with `stream`, a token in each event"),
    Generating,
))]
pub(super) fn switch() {}

/// Generate
#[utoipa::path(post, path = "/generate", tag = "tgi", params(PipelineQuery), request_body = GenerateRequest, responses(
    (status = 200, body = Generated),
    Generating,
))]
pub(super) fn generate() {}

/// Generate in a stream: a token in each event, the whole text in the last one
#[utoipa::path(post, path = "/generate_stream", tag = "tgi", request_body = GenerateRequest, responses(
    (status = 200, content_type = "text/event-stream", body = Frame),
    Generating,
))]
pub(super) fn generate_stream() {}

/// The tokens of a text
#[utoipa::path(post, path = "/tokenize", tag = "tokens", request_body = TokenizeRequest, responses(
    (status = 200, body = Tokenized),
    Translating,
))]
pub(super) fn tokenize() {}

/// The text of tokens
#[utoipa::path(post, path = "/detokenize", tag = "tokens", request_body = DetokenizeRequest, responses(
    (status = 200, body = Detokenized),
    Translating,
))]
pub(super) fn detokenize() {}

/// A conversation in the model's template, and its tokens
#[utoipa::path(post, path = "/chat_tokenize", tag = "tokens", request_body = ChatTokenizeRequest, responses(
    (status = 200, body = ChatTokenized),
    Translating,
))]
pub(super) fn chat_tokenize() {}
