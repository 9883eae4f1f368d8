//! How a cross-encoder's hidden state becomes the score of a pair of texts.

use serde_json::Value;

use crate::embedding::EmbeddingFiles;
use crate::error::ModelError;
use crate::family::Family;

/// What is made of a pair's logit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScoreActivation {
    /// A probability, from 0 to 1.
    Sigmoid,
    /// The logit itself.
    Identity,
}

impl ScoreActivation {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sigmoid => "sigmoid",
            Self::Identity => "identity",
        }
    }

    /// The score of a logit.
    pub fn score(self, logit: f32) -> f32 {
        match self {
            Self::Sigmoid => 1.0 / (1.0 + (-logit).exp()),
            Self::Identity => logit,
        }
    }
}

/// How a model scores pairs of texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// What it makes of a logit where a request does not say.
    pub activation: ScoreActivation,
    /// Most tokens of a pair, special ones included, where the model was made for fewer than its context.
    pub max_tokens: Option<usize>,
}

impl Ranking {
    /// Reads it from a model folder's files; `None` where the model does not score texts, or where
    /// sentence-transformers' files say that it makes embeddings.
    ///
    /// # Errors
    ///
    /// A model that scores in a way that is not known: of another family, with several labels, with another
    /// activation; a file that is not JSON.
    pub fn from_files(
        family: &Family,
        config: &Value,
        tokenizer_config: Option<&[u8]>,
        files: &EmbeddingFiles,
    ) -> Result<Option<Self>, ModelError> {
        let names = config.get("architectures").and_then(Value::as_array);
        let mut names = names.into_iter().flatten().filter_map(Value::as_str);
        let scores = names.find(|name| name.ends_with("ForSequenceClassification"));
        let Some(name) = scores.filter(|_| files.pooling.is_none()) else {
            return Ok(None);
        };
        if !family.scores_pairs {
            return Err(ModelError::ConfigField {
                field: "architectures in config.json".into(),
                found: name.chars().take(60).collect(),
                wanted: "BertForSequenceClassification, of models that score texts",
            });
        }
        let labels = labels(config);
        if labels != 1 {
            return Err(ModelError::ConfigField {
                field: "the number of labels in config.json".into(),
                found: labels.to_string(),
                wanted: "1, as for a model that scores pairs of texts",
            });
        }
        Ok(Some(Self {
            activation: activation(config, files.prompts.as_deref())?,
            max_tokens: max_tokens(tokenizer_config),
        }))
    }
}

/// How many labels a config says; what transformers takes where it does not.
fn labels(config: &Value) -> u64 {
    let named = config.get("id2label").and_then(Value::as_object);
    let counted = config.get("num_labels").and_then(Value::as_u64);
    named.map(|all| all.len() as u64).or(counted).unwrap_or(2)
}

/// sentence-transformers' activation, in the places where its versions write it.
fn activation(config: &Value, own: Option<&[u8]>) -> Result<ScoreActivation, ModelError> {
    let own_name = EmbeddingFiles::NAMES[3];
    let own: Value = match own {
        Some(own) => serde_json::from_slice(own).map_err(|e| ModelError::Json {
            file: own_name,
            reason: e.to_string(),
        })?,
        None => Value::Null,
    };
    let places = [
        (&own, "/activation_fn", own_name),
        (
            config,
            "/sentence_transformers/activation_fn",
            "config.json",
        ),
        (
            config,
            "/sbert_ce_default_activation_function",
            "config.json",
        ),
    ];
    let found = places.iter().find_map(|(file, place, name)| {
        let found = file.pointer(place).filter(|found| !found.is_null())?;
        Some((found, place, name))
    });
    let Some((found, place, file)) = found else {
        return Ok(ScoreActivation::Sigmoid);
    };
    match found.as_str().and_then(|name| name.rsplit('.').next()) {
        Some("Sigmoid") => Ok(ScoreActivation::Sigmoid),
        Some("Identity") => Ok(ScoreActivation::Identity),
        _ => Err(ModelError::ConfigField {
            field: format!("{} in {file}", &place[1..]),
            found: found.to_string().chars().take(60).collect(),
            wanted: "Sigmoid or Identity of torch",
        }),
    }
}

/// What a tokenizer's config says of lengths; a number too large to count with means no bound.
fn max_tokens(tokenizer_config: Option<&[u8]>) -> Option<usize> {
    let config: Value = serde_json::from_slice(tokenizer_config?).ok()?;
    let most = config.get("model_max_length")?.as_u64()?;
    usize::try_from(most).ok()
}

/// What a cross-encoder makes of the hidden state of a pair's first token: a dense layer with tanh, and a linear
/// one with a single result. They are the host's, being tiny beside what the hidden state costs.
#[derive(Debug, Clone, PartialEq)]
pub struct RankingHead {
    /// What becomes of the logit, and how long a pair may be.
    pub ranking: Ranking,
    /// A row of weights for each value, and its bias.
    pub(crate) pooler: Dense,
    /// One row.
    pub(crate) classifier: Dense,
}

/// A matrix and its biases on the host.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Dense {
    /// Row by row, as many values each as go in.
    pub(crate) weight: Vec<f32>,
    /// A value for each row.
    pub(crate) bias: Vec<f32>,
}

impl Dense {
    fn apply<'a>(&'a self, x: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
        let rows = self.weight.chunks_exact(x.len().max(1));
        rows.zip(&self.bias).map(move |(row, bias)| {
            let products = row.iter().zip(x).map(|(a, b)| a * b);
            products.sum::<f32>() + bias
        })
    }
}

impl RankingHead {
    /// The logit of the hidden state of a pair's first token.
    pub fn logit(&self, state: &[f32]) -> f32 {
        let pooled: Vec<f32> = self.pooler.apply(state).map(f32::tanh).collect();
        self.classifier.apply(&pooled).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(more: Value) -> Result<Option<Ranking>, ModelError> {
        read_beside(more, &EmbeddingFiles::default())
    }

    fn read_beside(more: Value, files: &EmbeddingFiles) -> Result<Option<Ranking>, ModelError> {
        let mut config = json!({
            "model_type": "bert", "architectures": ["BertForSequenceClassification"],
            "id2label": { "0": "LABEL_0" },
        });
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        let family = crate::family::by_model_type(config["model_type"].as_str().unwrap())?;
        let tokenizer = br#"{"model_max_length": 512}"#;
        Ranking::from_files(family, &config, Some(tokenizer), files)
    }

    #[test]
    fn activations_are_read_where_any_version_writes_them() {
        let activation = |more| read(more).unwrap().unwrap().activation;
        let identity = "torch.nn.modules.linear.Identity";
        assert_eq!(activation(json!({})), ScoreActivation::Sigmoid);
        let nested = json!({ "sentence_transformers": { "activation_fn": identity } });
        assert_eq!(activation(nested), ScoreActivation::Identity);
        let old = json!({ "sbert_ce_default_activation_function": identity });
        assert_eq!(activation(old), ScoreActivation::Identity);
        let sigmoid = "torch.nn.modules.activation.Sigmoid";
        let own = EmbeddingFiles {
            prompts: Some(json!({ "activation_fn": sigmoid }).to_string().into()),
            ..Default::default()
        };
        let nested = json!({ "sentence_transformers": { "activation_fn": identity } });
        let own = read_beside(nested, &own).unwrap().unwrap();
        assert_eq!(own.activation, ScoreActivation::Sigmoid);
        assert_eq!(own.max_tokens, Some(512));
    }

    #[test]
    fn what_does_not_score_is_no_ranking() {
        assert_eq!(
            read(json!({ "architectures": ["BertModel"] })).unwrap(),
            None
        );
        let pools = EmbeddingFiles {
            pooling: Some("{}".into()),
            ..Default::default()
        };
        assert_eq!(read_beside(json!({}), &pools).unwrap(), None);
    }

    #[test]
    fn other_ways_to_score_are_named() {
        for (more, message) in [
            (
                json!({ "id2label": { "0": "a", "1": "b", "2": "c" } }),
                "labels in config.json is 3",
            ),
            (json!({ "id2label": null }), "labels in config.json is 2"),
            (
                json!({ "sentence_transformers": { "activation_fn": "torch.nn.Softmax" } }),
                "sentence_transformers/activation_fn in config.json is \"torch.nn.Softmax\"",
            ),
            (
                json!({ "model_type": "qwen3", "architectures": ["Qwen3ForSequenceClassification"] }),
                "architectures in config.json is Qwen3ForSequenceClassification",
            ),
        ] {
            let error = read(more).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn a_head_is_a_dense_layer_with_tanh_and_a_linear_one() {
        let head = RankingHead {
            ranking: Ranking {
                activation: ScoreActivation::Sigmoid,
                max_tokens: None,
            },
            pooler: Dense {
                weight: vec![1.0, 0.0, 0.5, -1.0],
                bias: vec![0.0, 0.25],
            },
            classifier: Dense {
                weight: vec![2.0, -4.0],
                bias: vec![0.125],
            },
        };
        let wanted = 2.0 * 1_f32.tanh() - 4.0 * (-1.25_f32).tanh() + 0.125;
        assert!((head.logit(&[1.0, 2.0]) - wanted).abs() < 1e-6);
        assert_eq!(ScoreActivation::Sigmoid.score(0.0), 0.5);
        assert_eq!(ScoreActivation::Identity.score(-3.5), -3.5);
    }
}
