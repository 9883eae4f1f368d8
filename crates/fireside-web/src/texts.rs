//! Requests of models that generate nothing: embeddings of texts, scores of texts.

use fireside_engine::{EmbedTexts, EmbedTokens, RankTexts};
use fireside_openai::{ApiError, EmbeddingsRequest, RerankRequest};
use serde_json::{Value, json};

/// The host's side of such a model.
pub(crate) enum Texts {
    /// It makes embeddings.
    Embed(EmbedTexts),
    /// It scores texts.
    Rank(RankTexts),
}

/// A request whose texts run.
pub(crate) struct Asked {
    form: Form,
    /// Of all texts.
    tokens: usize,
}

enum Form {
    Embeddings(EmbeddingsRequest),
    /// With the id that its reply gets.
    Rerank(RerankRequest, String),
}

impl Texts {
    /// What a model makes.
    pub(crate) fn makes(own: Option<&Self>) -> &'static str {
        match own {
            None => "text",
            Some(Self::Embed(_)) => "embeddings",
            Some(Self::Rank(_)) => "scores of texts",
        }
    }

    /// What a kind of request wants.
    pub(crate) fn wants(kind: &str) -> &'static str {
        match kind {
            "embeddings" => "embeddings",
            "rerank" => "scores of texts",
            _ => "text",
        }
    }

    /// Reads a body: the request, and the tokens of its texts.
    ///
    /// # Errors
    ///
    /// A body that means nothing, a text that cannot be run.
    pub(crate) fn read(
        &self,
        body: &str,
        id: String,
    ) -> Result<(Asked, Vec<EmbedTokens>), ApiError> {
        let (form, texts) = match self {
            Self::Embed(own) => {
                let request = EmbeddingsRequest::from_json(body.as_bytes())?;
                let texts = request.tokens(own)?;
                (Form::Embeddings(request), texts)
            }
            Self::Rank(own) => {
                let request = RerankRequest::from_json(body.as_bytes())?;
                let texts = request.tokens(own)?;
                (Form::Rerank(request, id), texts)
            }
        };
        let tokens = texts.iter().map(EmbedTokens::len).sum();
        Ok((Asked { form, tokens }, texts))
    }

    /// The whole reply, from the texts' pooled hidden states.
    ///
    /// # Errors
    ///
    /// Parameters that the model does not have, a score that is no number.
    pub(crate) fn reply(
        &self,
        asked: Asked,
        model: &str,
        states: Vec<Vec<f32>>,
    ) -> Result<Value, ApiError> {
        let Asked { form, tokens } = asked;
        Ok(match (self, form) {
            (Self::Embed(own), Form::Embeddings(request)) => {
                json!(request.reply(model, own, states, tokens)?)
            }
            (Self::Rank(own), Form::Rerank(request, id)) => {
                json!(request.reply(id, model, own, &states, tokens)?)
            }
            // A model reads what it answers.
            _ => Value::Null,
        })
    }
}
