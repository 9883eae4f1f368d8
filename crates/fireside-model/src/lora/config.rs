//! PEFT's `adapter_config.json`.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::error::ModelError;

const FILE: &str = "adapter_config.json";

/// Ways to begin a training that leave the model's weights as they were.
const PLAIN_STARTS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// Characters of a pattern that is more than the end of a module's name.
const REGEX: [char; 13] = [
    '*', '+', '?', '(', ')', '[', ']', '{', '}', '|', '\\', '^', '$',
];

/// What an adapter is, besides its tensors.
#[derive(Debug)]
pub(super) struct LoraConfig {
    /// The model that it was trained on, as it says itself.
    pub(super) base: Option<String>,
    /// The rank of matrices that no pattern names.
    pub(super) rank: usize,
    alpha: f64,
    alphas: Vec<(String, f64)>,
    /// The scale is alpha over the square root of the rank, not over the rank.
    rank_stabilized: bool,
}

/// The fields that are looked at; the file has many more, which say how it was trained.
#[derive(Debug, Deserialize)]
struct Fields {
    peft_type: Option<String>,
    base_model_name_or_path: Option<String>,
    #[serde(default)]
    alpha_pattern: Patterns,
    #[serde(default)]
    use_rslora: Option<bool>,
    #[serde(flatten)]
    others: serde_json::Map<String, Value>,
}

/// Values by pattern, in the order of the file: the first that fits counts.
#[derive(Debug, Default)]
struct Patterns(Vec<(String, f64)>);

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Patterns;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of numbers by module")
            }

            fn visit_unit<E>(self) -> Result<Patterns, E> {
                Ok(Patterns::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Patterns, A::Error> {
                let mut all = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    all.push(entry);
                }
                Ok(Patterns(all))
            }
        }
        deserializer.deserialize_any(Entries)
    }
}

impl LoraConfig {
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, ModelError> {
        let fields: Fields = serde_json::from_slice(bytes).map_err(|error| ModelError::Json {
            file: FILE,
            reason: error.to_string(),
        })?;
        let wrong = |field: &str, found: String, wanted| ModelError::ConfigField {
            field: format!("{field} of {FILE}"),
            found,
            wanted,
        };
        match fields.peft_type.as_deref() {
            Some("LORA") => {}
            other => {
                let found = other.map_or("missing".into(), |other| format!("{other:?}"));
                return Err(wrong("peft_type", found, "\"LORA\""));
            }
        }
        for (field, fits, wanted) in SWITCHES {
            let value = fields.others.get(*field).unwrap_or(&Value::Null);
            if !fits(value) {
                return Err(wrong(field, value.to_string(), wanted));
            }
        }
        let value = |field: &str| fields.others.get(field).filter(|value| !value.is_null());
        // What PEFT takes where nothing is said is 8 for both.
        let rank = match value("r") {
            None => 8,
            Some(rank) => rank
                .as_u64()
                .and_then(|rank| usize::try_from(rank).ok())
                .filter(|rank| *rank > 0)
                .ok_or_else(|| wrong("r", rank.to_string(), "a whole number of at least 1"))?,
        };
        let alpha = match value("lora_alpha") {
            None => 8.0,
            Some(alpha) => alpha
                .as_f64()
                .filter(|alpha| finite(*alpha))
                .ok_or_else(|| wrong("lora_alpha", alpha.to_string(), "a number"))?,
        };
        let alphas = fields.alpha_pattern.0;
        for (pattern, alpha) in &alphas {
            if bare(pattern).contains(REGEX) {
                let found = format!("{pattern:?}");
                return Err(wrong(
                    "alpha_pattern",
                    found,
                    "names of modules, or their ends",
                ));
            }
            if !finite(*alpha) {
                return Err(wrong("alpha_pattern", alpha.to_string(), "numbers"));
            }
        }
        Ok(Self {
            base: fields
                .base_model_name_or_path
                .filter(|base| !base.is_empty()),
            rank,
            alpha,
            alphas,
            rank_stabilized: fields.use_rslora.unwrap_or(false),
        })
    }

    /// The factor on what a module's matrices make.
    pub(super) fn scale(&self, module: &str, rank: usize) -> f32 {
        // As a regular expression that has to end where the module's name ends.
        let fits = |pattern: &str| {
            let (own, whole) = (bare(pattern), pattern.starts_with('^'));
            let Some(from) = module.len().checked_sub(own.len()) else {
                return false;
            };
            let begins = from == 0 || (!whole && module.as_bytes()[from - 1] == b'.');
            let mut pairs = own.bytes().zip(module.bytes().skip(from));
            begins && pairs.all(|(own, byte)| own == byte || own == b'.')
        };
        let own = self.alphas.iter().find(|(pattern, _)| fits(pattern));
        let alpha = own.map_or(self.alpha, |(_, alpha)| *alpha);
        let rank = rank as f64;
        let divisor = if self.rank_stabilized {
            rank.sqrt()
        } else {
            rank
        };
        (alpha / divisor) as f32
    }

    /// What an error says of the model that the adapter is for.
    pub(super) fn base_hint(&self) -> String {
        match &self.base {
            Some(base) => format!(
                "the adapter says it is for {:?}",
                base.chars().take(80).collect::<String>()
            ),
            None => "the adapter does not say which model it is for".into(),
        }
    }
}

/// A pattern without the signs of a name's begin and end.
fn bare(pattern: &str) -> &str {
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    pattern.strip_suffix('$').unwrap_or(pattern)
}

/// Whether a number is one as 32 bits, too.
fn finite(value: f64) -> bool {
    (value as f32).is_finite()
}

/// A field, the values of it that leave an adapter two thin matrices for each module, and those values in words.
type Switch = (&'static str, fn(&Value) -> bool, &'static str);

/// Fields that make an adapter more than that.
const SWITCHES: &[Switch] = &[
    ("use_dora", off, "false: DoRA is not supported"),
    ("use_qalora", off, "false: QALoRA is not supported"),
    (
        "use_bdlora",
        off,
        "null: block-diagonal LoRA is not supported",
    ),
    ("kasa_config", off, "null: KaSA is not supported"),
    (
        "monteclora_config",
        off,
        "null: MonteCLoRA is not supported",
    ),
    ("velora_config", off, "null: VeLoRA is not supported"),
    ("arrow_config", off, "null: Arrow is not supported"),
    ("lora_bias", off, "false: biases are not adapted"),
    (
        "bias",
        |v| off(v) || v == "none",
        "\"none\": biases are not adapted",
    ),
    (
        "modules_to_save",
        off,
        "null: whole modules are not replaced",
    ),
    (
        "trainable_token_indices",
        off,
        "null: embeddings are not adapted",
    ),
    ("target_parameters", off, "null: modules alone are adapted"),
    ("layer_replication", off, "null: layers are not repeated"),
    (
        "alora_invocation_tokens",
        off,
        "null: an adapter works from the first token on",
    ),
    (
        "init_lora_weights",
        |v| {
            off(v)
                || v == true
                || v.as_str()
                    .is_some_and(|own| PLAIN_STARTS.contains(&own.to_ascii_lowercase().as_str()))
        },
        "one that leaves the model's weights alone; save the adapter with PEFT's path_initial_model_for_weight_conversion",
    ),
];

/// Whether a field says nothing, or no.
fn off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: &str) -> Result<LoraConfig, ModelError> {
        let json = format!(r#"{{"peft_type": "LORA", "r": 4, "lora_alpha": 8{more}}}"#);
        LoraConfig::from_json(json.as_bytes())
    }

    #[test]
    fn scales_are_alpha_over_rank_or_its_root_by_the_first_pattern_that_fits() {
        let module = "model.layers.1.self_attn.k_proj";
        assert_eq!(config("").unwrap().scale(module, 4), 2.0);
        assert_eq!(
            config(r#", "use_rslora": true"#).unwrap().scale(module, 4),
            4.0
        );
        let own = config(r#", "alpha_pattern": {"proj": 1, "k_proj": 16, "^k_proj": 1}"#).unwrap();
        assert_eq!(own.scale(module, 4), 4.0);
        assert_eq!(own.scale("k_proj", 2), 8.0);
        assert_eq!(own.scale("q_proj", 2), 4.0);
        let whole = config(r#", "alpha_pattern": {"^model.layers.1.self_attn.k_proj": 2}"#);
        assert_eq!(whole.unwrap().scale(module, 4), 0.5);
        let ends = config(r#", "alpha_pattern": {"attn.v_proj$": 1, "self.attn.k_proj$": 2}"#);
        assert_eq!(ends.unwrap().scale(module, 4), 0.5);
        assert_eq!(
            config(r#", "alpha_pattern": null"#)
                .unwrap()
                .scale(module, 8),
            1.0
        );
    }

    #[test]
    fn what_is_more_than_two_thin_matrices_is_refused_by_the_name_of_its_field() {
        for (more, field) in [
            (r#", "use_dora": true"#, "use_dora"),
            (r#", "bias": "all""#, "bias"),
            (r#", "lora_bias": true"#, "lora_bias"),
            (r#", "modules_to_save": ["lm_head"]"#, "modules_to_save"),
            (r#", "init_lora_weights": "pissa""#, "init_lora_weights"),
            (
                r#", "layer_replication": [[0, 4], [2, 5]]"#,
                "layer_replication",
            ),
            (
                r#", "alpha_pattern": {"layers.[0-3].q_proj": 3}"#,
                "alpha_pattern",
            ),
            (
                r#", "target_parameters": ["mlp.experts.down_proj"]"#,
                "target_parameters",
            ),
        ] {
            let error = config(more).unwrap_err().to_string();
            let start = format!("{field} of adapter_config.json is ");
            assert!(error.starts_with(&start), "{error}");
        }
        for (json, wanted) in [
            (
                r#"{"r": 4}"#,
                "peft_type of adapter_config.json is missing, it must be \"LORA\"",
            ),
            (
                r#"{"peft_type": "IA3", "r": 4}"#,
                "peft_type of adapter_config.json is \"IA3\", it must be \"LORA\"",
            ),
            (
                r#"{"peft_type": "LORA", "r": 0}"#,
                "r of adapter_config.json is 0, it must be a whole number of at least 1",
            ),
            (
                r#"{"peft_type": "LORA", "lora_alpha": "x"}"#,
                "lora_alpha of adapter_config.json is \"x\", it must be a number",
            ),
            (
                r#"{"peft_type": "LORA", "lora_alpha": 1e39}"#,
                "lora_alpha of adapter_config.json is 1e+39, it must be a number",
            ),
        ] {
            let error = LoraConfig::from_json(json.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), wanted);
        }
        let error = LoraConfig::from_json(b"[]").unwrap_err().to_string();
        assert!(
            error.starts_with("adapter_config.json is not valid: "),
            "{error}"
        );
    }
}
