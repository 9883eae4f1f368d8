//! How hidden states become a text's embedding, as sentence-transformers' files say it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::ModelError;

/// Which hidden states of a text make its embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The mean of all.
    Mean,
    /// The first token's.
    Cls,
    /// The last token's.
    Last,
}

impl Pooling {
    /// Its name in sentence-transformers' configs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
            Self::Last => "lasttoken",
        }
    }

    /// The tokens of a text of `length` whose hidden states it needs.
    pub fn rows(self, length: usize) -> std::ops::Range<usize> {
        match self {
            Self::Mean => 0..length,
            Self::Cls => 0..length.min(1),
            Self::Last => length.saturating_sub(1)..length,
        }
    }
}

/// From hidden states to an embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// Which hidden states count.
    pub pooling: Pooling,
    /// Embeddings have the length 1.
    pub normalize: bool,
    /// Most tokens of a text, special ones included, where the model was made for fewer than its context.
    pub max_tokens: Option<usize>,
    /// What may stand before a text, by name: `query` and `document`, for example.
    pub prompts: BTreeMap<String, String>,
    /// The name of the prompt that stands before a text where none is asked for.
    pub default_prompt: Option<String>,
}

/// sentence-transformers' small files, as bytes.
#[derive(Debug, Clone, Default)]
pub struct EmbeddingFiles {
    /// `modules.json`, which makes a folder an embedding model.
    pub modules: Option<Vec<u8>>,
    /// `1_Pooling/config.json`.
    pub pooling: Option<Vec<u8>>,
    /// `sentence_bert_config.json`.
    pub transformer: Option<Vec<u8>>,
    /// `config_sentence_transformers.json`.
    pub prompts: Option<Vec<u8>>,
}

impl EmbeddingFiles {
    /// The names of the files in a model's folder, in the order of the fields.
    pub const NAMES: [&str; 4] = [
        "modules.json",
        "1_Pooling/config.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
    ];

    /// Reads each file that there is.
    pub fn read(mut read: impl FnMut(&str) -> Option<Vec<u8>>) -> Self {
        let [modules, pooling, transformer, prompts] = Self::NAMES.map(&mut read);
        Self {
            modules,
            pooling,
            transformer,
            prompts,
        }
    }
}

impl Embedding {
    /// What an encoder does whose files do not say: the normed mean, as sentence-transformers take it.
    pub fn of_encoder() -> Self {
        Self {
            pooling: Pooling::Mean,
            normalize: true,
            max_tokens: None,
            prompts: BTreeMap::new(),
            default_prompt: None,
        }
    }

    /// What a decoder does whose files do not say: the last token's state, which alone has seen all others.
    pub fn of_decoder() -> Self {
        Self {
            pooling: Pooling::Last,
            ..Self::of_encoder()
        }
    }

    /// Reads sentence-transformers' files; `None` where there is no `modules.json`.
    ///
    /// # Errors
    ///
    /// A file that is not JSON, a module that is not known, a pooling other than mean, cls or last token.
    pub fn from_files(files: &EmbeddingFiles) -> Result<Option<Self>, ModelError> {
        let [modules_name, pooling_name, transformer_name, prompts_name] = EmbeddingFiles::NAMES;
        let Some(modules) = &files.modules else {
            return Ok(None);
        };
        let mut own = Self {
            normalize: false,
            ..Self::of_encoder()
        };
        let modules = json(modules_name, modules)?;
        let mut pools = false;
        let types = modules.as_array().into_iter().flatten();
        for module in types.filter_map(|module| module.get("type").and_then(Value::as_str)) {
            match module.rsplit('.').next().unwrap_or(module) {
                "Transformer" => {}
                "Pooling" => pools = true,
                "Normalize" => own.normalize = true,
                other => {
                    return Err(ModelError::ConfigField {
                        field: format!("type in {modules_name}"),
                        found: other.chars().take(60).collect(),
                        wanted: "Transformer, Pooling or Normalize",
                    });
                }
            }
        }
        let mut includes_prompts = true;
        match &files.pooling {
            Some(pooling) => {
                let pooling = json(pooling_name, pooling)?;
                own.pooling = pooling_of(&pooling)?;
                includes_prompts = pooling.get("include_prompt") != Some(&Value::Bool(false));
            }
            None if pools => {
                return Err(ModelError::Json {
                    file: pooling_name,
                    reason: format!(
                        "{modules_name} names a Pooling module, and the file is missing"
                    ),
                });
            }
            None => {}
        }
        if let Some(transformer) = &files.transformer {
            let most = json(transformer_name, transformer)?;
            let most = most.get("max_seq_length").and_then(Value::as_u64);
            own.max_tokens = most.and_then(|most| usize::try_from(most).ok());
        }
        if let Some(prompts) = &files.prompts {
            let config = json(prompts_name, prompts)?;
            let texts = config.get("prompts").and_then(Value::as_object);
            for (name, text) in texts.into_iter().flatten() {
                if let Some(text) = text.as_str() {
                    own.prompts.insert(name.clone(), text.to_owned());
                }
            }
            let usual = config.get("default_prompt_name").and_then(Value::as_str);
            own.default_prompt = usual.map(str::to_owned);
            if let Some(usual) = usual.filter(|usual| !own.prompts.contains_key(*usual)) {
                return Err(ModelError::ConfigField {
                    field: format!("default_prompt_name in {prompts_name}"),
                    found: usual.chars().take(60).collect(),
                    wanted: "one of its prompts",
                });
            }
        }
        if !includes_prompts && own.prompts.values().any(|prompt| !prompt.is_empty()) {
            return Err(ModelError::ConfigField {
                field: format!("include_prompt in {pooling_name}"),
                found: "false".into(),
                wanted: "true, for a model with prompts",
            });
        }
        Ok(Some(own))
    }
}

/// The mean of hidden states; empty where there are none.
pub fn mean<'a>(rows: impl ExactSizeIterator<Item = &'a [f32]>) -> Vec<f32> {
    let count = rows.len() as f64;
    let mut sums: Vec<f64> = Vec::new();
    for row in rows {
        sums.resize(row.len(), 0.0);
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += f64::from(*value);
        }
    }
    sums.into_iter().map(|sum| (sum / count) as f32).collect()
}

/// A vector in the length 1; one of zeros stays.
pub fn normalized(vector: &[f32]) -> Vec<f32> {
    let squares: f64 = vector.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
    let length = squares.sqrt().max(f64::from(f32::MIN_POSITIVE));
    let scaled = vector.iter().map(|v| (f64::from(*v) / length) as f32);
    scaled.collect()
}

fn json(file: &'static str, bytes: &[u8]) -> Result<Value, ModelError> {
    serde_json::from_slice(bytes).map_err(|e| ModelError::Json {
        file,
        reason: e.to_string(),
    })
}

/// The one way of pooling that a pooling module's config chooses.
fn pooling_of(config: &Value) -> Result<Pooling, ModelError> {
    let wanted = "one of mean, cls and last token";
    let field = || format!("pooling_mode in {}", EmbeddingFiles::NAMES[1]);
    if let Some(mode) = config.get("pooling_mode").and_then(Value::as_str) {
        let known = [Pooling::Mean, Pooling::Cls, Pooling::Last];
        let found = known.into_iter().find(|known| known.name() == mode);
        return found.ok_or_else(|| ModelError::ConfigField {
            field: field(),
            found: mode.chars().take(60).collect(),
            wanted,
        });
    }
    let modes: Vec<&str> = config
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| value.as_bool() == Some(true))
        .filter_map(|(key, _)| key.strip_prefix("pooling_mode_"))
        .collect();
    match modes.as_slice() {
        ["mean_tokens"] => Ok(Pooling::Mean),
        ["cls_token"] => Ok(Pooling::Cls),
        ["lasttoken"] => Ok(Pooling::Last),
        other => Err(ModelError::ConfigField {
            field: field(),
            found: other.join(" and "),
            wanted,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(modules: &str, pooling: &str) -> EmbeddingFiles {
        EmbeddingFiles {
            modules: Some(modules.into()),
            pooling: Some(pooling.into()),
            ..Default::default()
        }
    }

    const MODULES: &str = r#"[{"type": "sentence_transformers.models.Transformer"},
        {"type": "sentence_transformers.models.Pooling"},
        {"type": "sentence_transformers.models.Normalize"}]"#;

    #[test]
    fn poolings_are_read_under_their_old_and_new_names() {
        let pooling = |config: &str| {
            let read = Embedding::from_files(&files(MODULES, config)).unwrap();
            read.unwrap().pooling
        };
        let old = r#"{"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}"#;
        assert_eq!(pooling(old), Pooling::Mean);
        assert_eq!(pooling(r#"{"pooling_mode_cls_token": true}"#), Pooling::Cls);
        assert_eq!(
            pooling(r#"{"pooling_mode_lasttoken": true}"#),
            Pooling::Last
        );
        assert_eq!(pooling(r#"{"pooling_mode": "cls"}"#), Pooling::Cls);
    }

    #[test]
    fn unknown_modules_and_poolings_are_named() {
        let dense = r#"[{"type": "sentence_transformers.models.Dense"}]"#;
        let message =
            |files: &EmbeddingFiles| Embedding::from_files(files).unwrap_err().to_string();
        assert!(message(&files(dense, "{}")).contains("Dense"));
        let two = r#"{"pooling_mode_cls_token": true, "pooling_mode_max_tokens": true}"#;
        assert!(message(&files(MODULES, two)).contains("cls_token and max_tokens"));
        assert!(message(&files("[", "{}")).contains("modules.json"));
    }

    #[test]
    fn files_that_contradict_each_other_are_named() {
        let message =
            |files: &EmbeddingFiles| Embedding::from_files(files).unwrap_err().to_string();
        let without = EmbeddingFiles {
            pooling: None,
            ..files(MODULES, "")
        };
        assert!(message(&without).contains("1_Pooling/config.json"));
        let mean = r#"{"pooling_mode": "mean", "include_prompt": false}"#;
        let prompts = |text: &str| EmbeddingFiles {
            prompts: Some(text.into()),
            ..files(MODULES, mean)
        };
        let unknown = prompts(r#"{"prompts": {}, "default_prompt_name": "query"}"#);
        assert!(message(&unknown).contains("default_prompt_name"));
        let left_out = prompts(r#"{"prompts": {"query": "q: "}}"#);
        assert!(message(&left_out).contains("include_prompt"));
    }

    #[test]
    fn a_folder_without_modules_is_no_embedding_model() {
        let none = EmbeddingFiles::default();
        assert_eq!(Embedding::from_files(&none).unwrap(), None);
    }

    #[test]
    fn prompts_and_lengths_are_read() {
        let all = EmbeddingFiles {
            transformer: Some(r#"{"max_seq_length": 256}"#.into()),
            prompts: Some(
                r#"{"prompts": {"query": "q: "}, "default_prompt_name": "query"}"#.into(),
            ),
            ..files("[]", r#"{"pooling_mode": "mean"}"#)
        };
        let read = Embedding::from_files(&all).unwrap().unwrap();
        assert_eq!(read.max_tokens, Some(256));
        assert_eq!(read.prompts["query"], "q: ");
        assert_eq!(read.default_prompt.as_deref(), Some("query"));
        assert!(!read.normalize);
    }

    #[test]
    fn means_and_norms_are_what_they_say() {
        let rows: [&[f32]; 2] = [&[2.0, 0.0], &[4.0, 8.0]];
        let mean = mean(rows.into_iter());
        assert_eq!(mean, [3.0, 4.0]);
        assert_eq!(normalized(&mean), [0.6, 0.8]);
        assert_eq!(normalized(&[0.0, 0.0]), [0.0, 0.0]);
        assert_eq!(Pooling::Last.rows(5), 4..5);
        assert_eq!(Pooling::Cls.rows(0), 0..0);
    }
}
