//! What applies where a request says nothing: the model's wishes, then the library's.

use serde::{Deserialize, Serialize};

use crate::filter::Filters;
use crate::lenient;
use crate::penalties::Penalties;
use crate::sample::Sampling;
use crate::{Error, GenerationParams, ParamLimits};

/// New tokens of a request that says nothing, with a model that says nothing.
pub const DEFAULT_MAX_NEW_TOKENS: usize = 256;

/// Tokens that sampling chooses among where neither request nor model say, as in transformers.
pub const DEFAULT_TOP_K: i64 = 50;

/// The part of a model's `generation_config.json` that the engine heeds.
///
/// ```
/// # use fireside_engine::GenerationDefaults;
/// let defaults: GenerationDefaults = serde_json::from_str(
///     r#"{"do_sample": true, "temperature": 0.6, "eos_token_id": [2, 7], "transformers_version": "5"}"#,
/// )?;
/// assert_eq!(defaults.temperature, Some(0.6));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GenerationDefaults {
    /// Default of [`GenerationParams::do_sample`].
    pub do_sample: Option<bool>,
    /// Default of [`GenerationParams::temperature`].
    pub temperature: Option<f32>,
    /// Default of [`GenerationParams::top_k`].
    pub top_k: Option<i64>,
    /// Default of [`GenerationParams::top_p`].
    pub top_p: Option<f32>,
    /// Default of [`GenerationParams::min_p`].
    pub min_p: Option<f32>,
    /// Default of [`GenerationParams::typical_p`].
    pub typical_p: Option<f32>,
    /// Default of [`GenerationParams::repetition_penalty`].
    pub repetition_penalty: Option<f32>,
    /// Default of [`GenerationParams::max_new_tokens`].
    pub max_new_tokens: Option<usize>,
    /// Default of [`GenerationParams::min_new_tokens`].
    pub min_new_tokens: Option<usize>,
    /// Default of [`GenerationParams::stop`]: one string or a list.
    #[serde(alias = "stop", deserialize_with = "lenient::one_or_many")]
    pub stop_strings: Option<Vec<String>>,
    /// Tokens that end a generation, besides the tokenizer's: one or a list. Ids that the model
    /// does not have, such as -1, are passed over.
    #[serde(deserialize_with = "lenient::one_or_many")]
    pub eos_token_id: Option<Vec<i64>>,
}

/// Everything that a generation needs to know, with nothing left out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Resolved {
    pub(crate) max_new_tokens: usize,
    /// Whether the request itself named `max_new_tokens`.
    pub(crate) max_is_asked: bool,
    pub(crate) min_new_tokens: usize,
    pub(crate) sampling: Sampling,
    pub(crate) penalties: Penalties,
    pub(crate) seed: Option<u64>,
    pub(crate) stop: Vec<String>,
    pub(crate) stop_token_ids: Vec<u32>,
    pub(crate) ignore_eos: bool,
    pub(crate) sequences: usize,
    pub(crate) logprobs: Option<usize>,
    pub(crate) prompt_logprobs: Option<usize>,
}

impl GenerationDefaults {
    /// Fills in what a request leaves out.
    pub(crate) fn resolve(
        &self,
        request: &GenerationParams,
        limits: &ParamLimits,
    ) -> Result<Resolved, Error> {
        let do_sample = request
            .do_sample
            .unwrap_or_else(|| request.mentions_sampling() || self.do_sample.unwrap_or(false));
        let max_new_tokens = request
            .max_new_tokens
            .or(self.max_new_tokens)
            .unwrap_or(DEFAULT_MAX_NEW_TOKENS);
        // A default minimum gives way to the request's own maximum.
        let min_new_tokens = request
            .min_new_tokens
            .unwrap_or_else(|| self.min_new_tokens.unwrap_or(0).min(max_new_tokens));
        let merged = GenerationParams {
            max_new_tokens: Some(max_new_tokens),
            min_new_tokens: Some(min_new_tokens),
            do_sample: Some(do_sample),
            temperature: request.temperature.or(self.temperature),
            top_k: request.top_k.or(self.top_k),
            top_p: request.top_p.or(self.top_p),
            min_p: request.min_p.or(self.min_p),
            typical_p: request.typical_p.or(self.typical_p),
            repetition_penalty: request.repetition_penalty.or(self.repetition_penalty),
            stop: request.stop.clone().or_else(|| self.stop_strings.clone()),
            ..request.clone()
        };
        merged.validate(limits)?;

        let top_k = merged.top_k.unwrap_or(DEFAULT_TOP_K).max(0);
        let filters = Filters {
            top_k: usize::try_from(top_k).unwrap_or(usize::MAX),
            top_p: merged.top_p.unwrap_or(1.0),
            min_p: merged.min_p.unwrap_or(0.0),
            typical_p: merged.typical_p.unwrap_or(1.0),
        };
        let temperature = merged.temperature.unwrap_or(1.0);
        Ok(Resolved {
            max_new_tokens,
            max_is_asked: request.max_new_tokens.is_some_and(|most| most < usize::MAX),
            min_new_tokens,
            sampling: if do_sample {
                Sampling::new(temperature, filters)
            } else {
                Sampling::Greedy
            },
            penalties: Penalties {
                repetition: merged.repetition_penalty.unwrap_or(1.0),
                frequency: merged.frequency_penalty.unwrap_or(0.0),
                presence: merged.presence_penalty.unwrap_or(0.0),
                bias: merged.logit_bias.unwrap_or_default(),
            },
            seed: merged.seed,
            stop: merged.stop.unwrap_or_default(),
            stop_token_ids: merged.stop_token_ids.unwrap_or_default(),
            ignore_eos: merged.ignore_eos.unwrap_or(false),
            sequences: merged.num_return_sequences.unwrap_or(1),
            logprobs: merged.logprobs,
            prompt_logprobs: merged.prompt_logprobs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(model: &str, request: &str) -> Resolved {
        let model: GenerationDefaults = serde_json::from_str(model).unwrap();
        let request: GenerationParams = serde_json::from_str(request).unwrap();
        model.resolve(&request, &ParamLimits::new(1000)).unwrap()
    }

    #[test]
    fn without_any_wish_a_generation_is_greedy_and_has_256_tokens() {
        let resolved = resolve("{}", "{}");
        assert_eq!(resolved.sampling, Sampling::Greedy);
        assert_eq!((resolved.max_new_tokens, resolved.sequences), (256, 1));
    }

    #[test]
    fn a_request_goes_before_the_model_and_the_model_before_the_library() {
        let model = r#"{"do_sample": true, "temperature": 0.5, "top_p": 0.9, "max_new_tokens": 7}"#;
        let resolved = resolve(model, r#"{"top_p": 0.8}"#);
        assert_eq!(resolved.max_new_tokens, 7);
        let expected = Filters {
            top_k: 50,
            top_p: 0.8,
            min_p: 0.0,
            typical_p: 1.0,
        };
        assert_eq!(resolved.sampling, Sampling::new(0.5, expected));
        assert_eq!(
            resolve(model, r#"{"do_sample": false}"#).sampling,
            Sampling::Greedy
        );
        assert_eq!(
            resolve(model, r#"{"temperature": 0}"#).sampling,
            Sampling::Greedy
        );
    }

    #[test]
    fn asking_for_a_temperature_asks_for_sampling() {
        assert_ne!(
            resolve("{}", r#"{"temperature": 0.8}"#).sampling,
            Sampling::Greedy
        );
        assert_eq!(resolve("{}", r#"{"seed": 1}"#).sampling, Sampling::Greedy);
        let refused = r#"{"do_sample": false, "temperature": 0.8}"#;
        assert_eq!(resolve("{}", refused).sampling, Sampling::Greedy);
        // The model's temperature alone does not.
        assert_eq!(
            resolve(r#"{"temperature": 0.8}"#, "{}").sampling,
            Sampling::Greedy
        );
    }

    #[test]
    fn a_models_end_tokens_are_read_as_one_or_a_list_or_nothing() {
        let read = |json| {
            serde_json::from_str::<GenerationDefaults>(json)
                .unwrap()
                .eos_token_id
        };
        assert_eq!(read(r#"{"eos_token_id": 2}"#), Some(vec![2]));
        assert_eq!(read(r#"{"eos_token_id": [2, -1]}"#), Some(vec![2, -1]));
        assert_eq!(read(r#"{"eos_token_id": null}"#), None);
        assert_eq!(read("{}"), None);
    }

    #[test]
    fn a_models_bad_default_is_an_error_where_it_would_apply() {
        let model = GenerationDefaults {
            top_p: Some(-1.0),
            ..GenerationDefaults::default()
        };
        let limits = ParamLimits::new(1000);
        model
            .resolve(&GenerationParams::default(), &limits)
            .unwrap_err();
        let request = GenerationParams {
            top_p: Some(0.5),
            ..GenerationParams::default()
        };
        model.resolve(&request, &limits).unwrap();
    }
}
