//! `/v1/embeddings`, and `/embed` of Text Embeddings Inference: the request and its reply.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fireside_engine::{EmbedParams, EmbedTexts, EmbedTokens, Error as EngineError};
use serde::Serialize;

use crate::ApiError;
use crate::fields::Fields;
use crate::prompt::{Prompt, prompts};

/// Most texts of a request, as OpenAI has it.
pub const MAX_INPUTS: usize = 2048;

/// Embeddings that are asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingsRequest {
    /// The model's name, as the client wrote it.
    pub model: Option<String>,
    /// The texts.
    pub inputs: Vec<Prompt>,
    /// What is asked of the embeddings.
    pub params: EmbedParams,
    /// Give them as base64 of their little-endian 32-bit floats instead of lists of numbers.
    pub base64: bool,
    /// What the texts' field is called.
    field: &'static str,
}

impl EmbeddingsRequest {
    /// Reads a request's body: OpenAI's fields, and `truncate`, `normalize` and `prompt_name` of Text
    /// Embeddings Inference.
    ///
    /// # Errors
    ///
    /// JSON that is not valid, or the first field with a value that means nothing.
    pub fn from_json(body: &[u8]) -> Result<Self, ApiError> {
        Self::read(body, "input")
    }

    /// Reads a request's body as Text Embeddings Inference has it.
    ///
    /// # Errors
    ///
    /// As for [`from_json`](Self::from_json).
    pub fn from_tei_json(body: &[u8]) -> Result<Self, ApiError> {
        let mut own = Self::read(body, "inputs")?;
        // There they have the length 1 unless the client says otherwise, whatever the model's files say.
        own.params.normalize.get_or_insert(true);
        Ok(own)
    }

    fn read(body: &[u8], field: &'static str) -> Result<Self, ApiError> {
        let mut fields = Fields::from_json(body)?;
        let base64 = fields.read("encoding_format", "float or base64", |value| {
            match value.as_str()? {
                "float" => Some(false),
                "base64" => Some(true),
                _ => None,
            }
        })?;
        let params = EmbedParams {
            dimensions: fields.count("dimensions", 1)?,
            normalize: fields.flag("normalize")?,
            truncate: fields.flag("truncate")?.unwrap_or(false),
            prompt_name: fields.text("prompt_name")?,
        };
        let model = fields.text("model")?;
        check_direction(&fields)?;
        // It says who asks, which nothing depends on.
        fields.text("user")?;
        let input = fields.take(field).ok_or_else(|| {
            let expected = "a string, a list of strings, or token ids";
            ApiError::invalid(field, format!("{field} is missing; expected {expected}"))
        })?;
        Ok(Self {
            model,
            inputs: prompts(field, &input, MAX_INPUTS)?,
            params,
            base64: base64.unwrap_or(false),
            field,
        })
    }

    /// What the texts' field is called.
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// The tokens of each text.
    ///
    /// # Errors
    ///
    /// A text that is empty, too long or cannot be encoded, parameters that the model does not have.
    pub fn tokens(&self, texts: &EmbedTexts) -> Result<Vec<EmbedTokens>, ApiError> {
        let (limits, field) = (texts.limits(), self.field);
        let most = limits.max_tokens;
        let tokens = |(place, input): (usize, &Prompt)| {
            let refuse = |message: String| Err(ApiError::invalid(field, message));
            let too_long = |count: usize| {
                let message = format!(
                    "{field}[{place}] has {count} tokens; expected at most {most}, or truncate"
                );
                Err(ApiError::invalid(field, message).with_code("context_length_exceeded"))
            };
            let ids = match input {
                Prompt::Text(text) => match texts.tokens(text, &self.params) {
                    Err(EngineError::PromptTooLong { prompt, .. }) => return too_long(prompt),
                    other => other?,
                },
                Prompt::Tokens(_) if self.params.prompt_name.is_some() => {
                    return refuse(format!(
                        "{field}[{place}] is token ids; expected text, for prompt_name to stand before"
                    ));
                }
                Prompt::Tokens(ids) => {
                    texts.check(&self.params)?;
                    let mut ids = ids.clone();
                    ids.truncate(if self.params.truncate {
                        most
                    } else {
                        usize::MAX
                    });
                    ids.into()
                }
            };
            if ids.is_empty() {
                return refuse(format!("{field}[{place}] is empty; expected some text"));
            }
            if ids.len() > most {
                return too_long(ids.len());
            }
            match ids.ids.iter().find(|id| **id as usize >= limits.vocab) {
                None => Ok(ids),
                Some(id) => refuse(format!(
                    "{field}[{place}] has the token {id}; expected token ids below {}",
                    limits.vocab
                )),
            }
        };
        self.inputs.iter().enumerate().map(tokens).collect()
    }

    /// OpenAI's whole reply, from each text's pooled hidden states and the tokens that were run for all.
    ///
    /// # Errors
    ///
    /// Parameters that the model does not have.
    pub fn reply(
        &self,
        model: &str,
        texts: &EmbedTexts,
        pooled: Vec<Vec<f32>>,
        tokens: usize,
    ) -> Result<EmbeddingsReply, ApiError> {
        let vectors = self.vectors(texts, pooled)?.into_iter().enumerate();
        Ok(EmbeddingsReply {
            object: "list",
            data: vectors
                .map(|(index, embedding)| Embedding {
                    object: "embedding",
                    index,
                    embedding,
                })
                .collect(),
            model: model.to_owned(),
            usage: Usage::of_prompts(tokens),
        })
    }

    /// Text Embeddings Inference's whole reply: a list of embeddings.
    ///
    /// # Errors
    ///
    /// Parameters that the model does not have.
    pub fn vectors(
        &self,
        texts: &EmbedTexts,
        pooled: Vec<Vec<f32>>,
    ) -> Result<Vec<Vector>, ApiError> {
        let vector = |pooled| {
            let floats = texts.vector(pooled, &self.params)?;
            if !self.base64 {
                return Ok(Vector::Floats(floats));
            }
            let bytes: Vec<u8> = floats.iter().flat_map(|v| v.to_le_bytes()).collect();
            Ok(Vector::Base64(STANDARD.encode(bytes)))
        };
        pooled.into_iter().map(vector).collect()
    }
}

/// Sees that texts are to be cut at their ends, if anything is said of that.
pub(crate) fn check_direction(fields: &Fields) -> Result<(), ApiError> {
    let name = "truncation_direction";
    match fields.text(name)? {
        Some(way) if !way.eq_ignore_ascii_case("right") => {
            let shown: String = way.chars().take(60).collect();
            Err(ApiError::invalid(
                name,
                format!("{name} is {shown:?}; expected right, as texts are cut at their ends"),
            ))
        }
        _ => Ok(()),
    }
}

/// A list of numbers, or base64.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Vector {
    /// Numbers.
    Floats(Vec<f32>),
    /// Base64 of their little-endian bytes.
    Base64(String),
}

/// OpenAI's reply with embeddings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EmbeddingsReply {
    object: &'static str,
    data: Vec<Embedding>,
    model: String,
    usage: Usage,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

impl Usage {
    /// That of a model that generates nothing.
    pub(crate) fn of_prompts(tokens: usize) -> Self {
        Self {
            prompt_tokens: tokens,
            total_tokens: tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<EmbeddingsRequest, ApiError> {
        EmbeddingsRequest::from_json(json.as_bytes())
    }

    #[test]
    fn the_fields_of_openai_and_of_tei_are_read() {
        let plain = read(r#"{"input": "a", "model": "m", "user": "u"}"#).unwrap();
        assert_eq!(plain.inputs, [Prompt::Text("a".into())]);
        assert_eq!(plain.params, EmbedParams::default());
        assert!(!plain.base64);
        let all = r#"{"input": [[1, 2], [3]], "encoding_format": "base64", "dimensions": 8,
            "truncate": true, "normalize": false, "prompt_name": "query"}"#;
        let all = read(all).unwrap();
        assert!(all.base64 && all.params.truncate);
        assert_eq!(all.params.dimensions, Some(8));
        assert_eq!(all.params.normalize, Some(false));
        assert_eq!(all.params.prompt_name.as_deref(), Some("query"));
        assert_eq!(all.inputs.len(), 2);
    }

    #[test]
    fn text_embeddings_inference_norms_unless_told_otherwise() {
        let read = |json: &str| EmbeddingsRequest::from_tei_json(json.as_bytes()).unwrap();
        let plain = read(r#"{"inputs": "a", "truncation_direction": "Right"}"#);
        assert_eq!(plain.params.normalize, Some(true));
        let raw = read(r#"{"inputs": "a", "normalize": false}"#);
        assert_eq!(raw.params.normalize, Some(false));
    }

    #[test]
    fn what_means_nothing_is_refused_by_name() {
        for (json, param) in [
            ("{}", "input"),
            (r#"{"input": []}"#, "input"),
            (r#"{"input": 7}"#, "input"),
            (
                r#"{"input": "a", "encoding_format": "hex"}"#,
                "encoding_format",
            ),
            (r#"{"input": "a", "dimensions": 0}"#, "dimensions"),
            (r#"{"input": "a", "user": 1}"#, "user"),
            (
                r#"{"input": "a", "truncation_direction": "left"}"#,
                "truncation_direction",
            ),
        ] {
            let error = read(json).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{json}");
        }
        let many = format!(r#"{{"input": [{}"a"]}}"#, r#""a","#.repeat(MAX_INPUTS));
        assert_eq!(
            read(&many).unwrap_err().message,
            "input has 2049 entries; expected at most 2048"
        );
    }
}
