//! `/v1/rerank` as Jina, Cohere and vLLM have it, and `/rerank` of Text Embeddings Inference: the request and its
//! reply.

use fireside_engine::{EmbedTokens, Error as EngineError, RankParams, RankTexts, Ranked};
use serde::Serialize;
use serde_json::Value;

use crate::ApiError;
use crate::embeddings::{MAX_INPUTS, Usage, check_direction};
use crate::fields::{Fields, wrong};

/// Most tokens of all pairs of a request. Each pair has the query in it, so that a body says little of them.
pub const MAX_PAIR_TOKENS: usize = 1 << 20;

/// Scores that are asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct RerankRequest {
    /// The model's name, as the client wrote it.
    pub model: Option<String>,
    /// What the texts are to answer.
    pub query: String,
    /// The texts.
    pub texts: Vec<String>,
    /// What is asked of the scores.
    pub params: RankParams,
    /// Give only so many of the best.
    pub top_n: Option<usize>,
    /// Give the texts with their scores.
    pub return_texts: bool,
    /// What the texts' field is called.
    field: &'static str,
}

impl RerankRequest {
    /// Reads a request's body: the fields of Jina, Cohere and vLLM, and `truncate` and `raw_scores` of Text
    /// Embeddings Inference. Texts come back with their scores unless the client says otherwise.
    ///
    /// # Errors
    ///
    /// JSON that is not valid, or the first field with a value that means nothing.
    pub fn from_json(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::from_json(body)?;
        // vLLM's clients write 0 for all.
        let top_n = fields.count("top_n", 0)?.filter(|most| *most > 0);
        let return_texts = fields.flag("return_documents")?.unwrap_or(true);
        let raw_scores = fields.flag("raw_scores")?;
        Self::read(&mut fields, "documents", raw_scores, top_n, return_texts)
    }

    /// Reads a request's body as Text Embeddings Inference has it: scores are probabilities unless the client says
    /// otherwise, whatever the model's files say.
    ///
    /// # Errors
    ///
    /// As for [`from_json`](Self::from_json).
    pub fn from_tei_json(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::from_json(body)?;
        let return_texts = fields.flag("return_text")?.unwrap_or(false);
        let raw_scores = fields.flag("raw_scores")?.unwrap_or(false);
        check_direction(&fields)?;
        Self::read(&mut fields, "texts", Some(raw_scores), None, return_texts)
    }

    fn read(
        fields: &mut Fields,
        field: &'static str,
        raw_scores: Option<bool>,
        top_n: Option<usize>,
        return_texts: bool,
    ) -> Result<Self, ApiError> {
        let params = RankParams {
            truncate: fields.flag("truncate")?.unwrap_or(false),
            raw_scores,
        };
        let model = fields.text("model")?;
        // It says who asks, which nothing depends on.
        fields.text("user")?;
        let query = fields
            .text("query")?
            .ok_or_else(|| ApiError::invalid("query", "query is missing; expected a string"))?;
        let texts = fields.take(field).ok_or_else(|| {
            ApiError::invalid(field, format!("{field} is missing; expected {EXPECTED}"))
        })?;
        Ok(Self {
            model,
            query,
            texts: strings(field, texts)?,
            params,
            top_n,
            return_texts,
            field,
        })
    }

    /// What the texts' field is called.
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// The tokens of the query with each text.
    ///
    /// # Errors
    ///
    /// A query or text that is too long or cannot be encoded; too many tokens in all.
    pub fn tokens(&self, texts: &RankTexts) -> Result<Vec<EmbedTokens>, ApiError> {
        let most = texts.limits().max_tokens;
        let too_long = |field: &'static str, what: &str, error: EngineError| match error {
            EngineError::PromptTooLong { prompt, .. } => {
                let message =
                    format!("{what} has {prompt} tokens; expected at most {most}, or truncate");
                ApiError::invalid(field, message).with_code("context_length_exceeded")
            }
            other => other.into(),
        };
        let query = texts
            .query(&self.query, self.params)
            .map_err(|error| too_long("query", "query", error))?;
        let mut all = Vec::with_capacity(self.texts.len());
        let mut tokens = 0;
        for (place, text) in self.texts.iter().enumerate() {
            let pair = texts.pair(&query, text, self.params).map_err(|error| {
                let what = format!("{}[{place}] with the query", self.field);
                too_long(self.field, &what, error)
            })?;
            tokens += pair.len();
            fit(self.field, tokens)?;
            all.push(pair);
        }
        Ok(all)
    }

    /// The whole reply of Jina, Cohere and vLLM, from the hidden state of each pair's first token, and the tokens
    /// that were run for all.
    ///
    /// # Errors
    ///
    /// A score that is no number.
    pub fn reply(
        self,
        id: String,
        model: &str,
        texts: &RankTexts,
        states: &[Vec<f32>],
        tokens: usize,
    ) -> Result<RerankReply, ApiError> {
        let result = |one: Ranked, text: Option<String>| RerankResult {
            index: one.index,
            relevance_score: one.score,
            document: text.map(|text| Document { text }),
        };
        Ok(RerankReply {
            id,
            model: model.to_owned(),
            usage: Usage::of_prompts(tokens),
            results: self.results(texts, states, result)?,
        })
    }

    /// Text Embeddings Inference's whole reply: a list of scores.
    ///
    /// # Errors
    ///
    /// A score that is no number.
    pub fn ranks(self, texts: &RankTexts, states: &[Vec<f32>]) -> Result<Vec<Rank>, ApiError> {
        self.results(texts, states, |one, text| Rank {
            index: one.index,
            score: one.score,
            text,
        })
    }

    /// The best first, each with its text where that is wanted.
    fn results<T>(
        mut self,
        texts: &RankTexts,
        states: &[Vec<f32>],
        result: impl Fn(Ranked, Option<String>) -> T,
    ) -> Result<Vec<T>, ApiError> {
        let mut ranked = texts.ranked(&texts.logits(states)?, self.params);
        ranked.truncate(self.top_n.unwrap_or(usize::MAX));
        let results = ranked.into_iter().map(|one| {
            let text = self.texts.get_mut(one.index).filter(|_| self.return_texts);
            result(one, text.map(std::mem::take))
        });
        Ok(results.collect())
    }
}

const EXPECTED: &str = "a list of strings, or of objects with a text";

/// Sees that the pairs so far are not too large together.
fn fit(field: &str, tokens: usize) -> Result<(), ApiError> {
    if tokens <= MAX_PAIR_TOKENS {
        return Ok(());
    }
    let message = format!(
        "{field} and the query make over {MAX_PAIR_TOKENS} tokens; expected fewer or shorter texts"
    );
    Err(ApiError::invalid(field, message).with_code("context_length_exceeded"))
}

/// The texts of a field.
fn strings(field: &'static str, value: Value) -> Result<Vec<String>, ApiError> {
    let all = match value {
        Value::Array(all) => all,
        other => return Err(wrong(field, &other, EXPECTED)),
    };
    let refuse = |message: String| Err(ApiError::invalid(field, message));
    if all.is_empty() {
        return refuse(format!("{field} is an empty list; expected {EXPECTED}"));
    }
    if all.len() > MAX_INPUTS {
        let count = all.len();
        return refuse(format!(
            "{field} has {count} entries; expected at most {MAX_INPUTS}"
        ));
    }
    let text = |(place, one): (usize, Value)| match one {
        Value::String(text) => Ok(text),
        Value::Object(mut fields) => match fields.remove("text") {
            Some(Value::String(text)) => Ok(text),
            _ => Err(ApiError::invalid(
                field,
                format!(
                    "{field}[{place}] has no text; expected a string, or an object with a text"
                ),
            )),
        },
        other => Err(ApiError {
            param: Some(field.to_owned()),
            ..wrong(&format!("{field}[{place}]"), &other, EXPECTED_ENTRY)
        }),
    };
    all.into_iter().enumerate().map(text).collect()
}

const EXPECTED_ENTRY: &str = "a string, or an object with a text";

/// The reply of Jina, Cohere and vLLM.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RerankReply {
    id: String,
    model: String,
    usage: Usage,
    results: Vec<RerankResult>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct RerankResult {
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Document>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Document {
    text: String,
}

/// A score as Text Embeddings Inference gives it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rank {
    index: usize,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<RerankRequest, ApiError> {
        RerankRequest::from_json(json.as_bytes())
    }

    #[test]
    fn the_fields_of_jina_cohere_and_vllm_are_read() {
        let plain = read(r#"{"query": "q", "documents": ["a", {"text": "b", "id": 7}]}"#).unwrap();
        assert_eq!(plain.texts, ["a", "b"]);
        assert_eq!(plain.params, RankParams::default());
        assert_eq!((plain.top_n, plain.return_texts), (None, true));
        let all = r#"{"model": "m", "query": "q", "documents": ["a"], "top_n": 3,
            "return_documents": false, "truncate": true, "raw_scores": true, "rank_fields": ["x"]}"#;
        let all = read(all).unwrap();
        assert_eq!((all.top_n, all.return_texts), (Some(3), false));
        assert!(all.params.truncate);
        assert_eq!(all.params.raw_scores, Some(true));
        let zero = read(r#"{"query": "q", "documents": ["a"], "top_n": 0}"#).unwrap();
        assert_eq!(zero.top_n, None);
    }

    #[test]
    fn text_embeddings_inference_gives_probabilities_unless_told_otherwise() {
        let read = |json: &str| RerankRequest::from_tei_json(json.as_bytes()).unwrap();
        let plain = read(r#"{"query": "q", "texts": ["a"], "truncation_direction": "Right"}"#);
        assert_eq!(plain.params.raw_scores, Some(false));
        assert!(!plain.return_texts);
        let raw = r#"{"query": "q", "texts": ["a"], "raw_scores": true, "return_text": true}"#;
        let raw = read(raw);
        assert_eq!(raw.params.raw_scores, Some(true));
        assert!(raw.return_texts);
    }

    #[test]
    fn all_pairs_together_are_bounded() {
        assert!(fit("documents", MAX_PAIR_TOKENS).is_ok());
        let error = fit("documents", MAX_PAIR_TOKENS + 1).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("documents"));
        assert!(error.message.contains("over 1048576 tokens"), "{error}");
    }

    #[test]
    fn what_means_nothing_is_refused_by_name() {
        for (json, message) in [
            (
                r#"{"documents": ["a"]}"#,
                "query is missing; expected a string",
            ),
            (
                r#"{"query": ["q"], "documents": ["a"]}"#,
                "query is a list; expected a string",
            ),
            (
                r#"{"query": "q"}"#,
                "documents is missing; expected a list of strings, or of objects with a text",
            ),
            (
                r#"{"query": "q", "documents": "a"}"#,
                "documents is \"a\"; expected a list of strings, or of objects with a text",
            ),
            (
                r#"{"query": "q", "documents": []}"#,
                "documents is an empty list; expected a list of strings, or of objects with a text",
            ),
            (
                r#"{"query": "q", "documents": ["a", 7]}"#,
                "documents[1] is 7; expected a string, or an object with a text",
            ),
            (
                r#"{"query": "q", "documents": [{"title": "a"}]}"#,
                "documents[0] has no text; expected a string, or an object with a text",
            ),
            (
                r#"{"query": "q", "documents": ["a"], "top_n": -1}"#,
                "top_n is -1; expected a whole number from 0 up",
            ),
            (
                r#"{"query": "q", "documents": ["a"], "return_documents": 1}"#,
                "return_documents is 1; expected true or false",
            ),
        ] {
            let error = read(json).unwrap_err();
            assert_eq!(error.message, message, "{json}");
            let named = message.split([' ', '[']).next();
            assert_eq!(error.param.as_deref(), named, "{json}");
        }
        let left = br#"{"query": "q", "texts": ["a"], "truncation_direction": "left"}"#;
        let error = RerankRequest::from_tei_json(left).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("truncation_direction"));
        let many = format!(
            r#"{{"query": "q", "documents": [{}"a"]}}"#,
            r#""a","#.repeat(MAX_INPUTS)
        );
        assert_eq!(
            read(&many).unwrap_err().message,
            "documents has 2049 entries; expected at most 2048"
        );
    }
}
