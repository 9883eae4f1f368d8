//! What a request may ask of a generation, under Hugging Face's names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::lenient;

/// Parameters of a generation; each may be left out.
///
/// What a request leaves out comes from the model's [`GenerationDefaults`](crate::GenerationDefaults),
/// then from the library: greedy, 256 new tokens, and for sampling a temperature of 1 over the 50
/// best tokens. Names and meanings are those of transformers' `GenerationConfig`; where it has no
/// such parameter, of vLLM's `SamplingParams`. JSON with unknown fields and nulls is accepted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GenerationParams {
    /// Most tokens to generate, 256 by default. Less come where the context ends first; `usize::MAX`
    /// asks for as many as context and KV cache have room for.
    pub max_new_tokens: Option<usize>,
    /// Fewest tokens to generate, 0 by default: until then no token ends the generation, and no
    /// stop string is looked for.
    pub min_new_tokens: Option<usize>,
    /// Sample (true) or take the best token each time (false). Left out, a request samples if it
    /// sets a parameter of sampling (`temperature` to `typical_p`), else as the model's defaults say.
    pub do_sample: Option<bool>,
    /// Divides the logits; 1 by default. 0 is greedy.
    pub temperature: Option<f32>,
    /// Sample among this many best tokens, 50 by default; 0 or -1 for all.
    pub top_k: Option<i64>,
    /// Sample among the fewest best tokens whose probabilities sum up to this; 1 for all.
    pub top_p: Option<f32>,
    /// Sample among tokens at least this probable relative to the best one; 0 for all.
    pub min_p: Option<f32>,
    /// Sample among the tokens whose surprise is nearest to the expected one, up to this total
    /// probability; 1 for all.
    pub typical_p: Option<f32>,
    /// Divides positive logits of tokens in prompt and output, and multiplies negative ones; 1 for
    /// none.
    pub repetition_penalty: Option<f32>,
    /// Subtracted from a token's logit for each time that the output has it; -2 to 2.
    pub frequency_penalty: Option<f32>,
    /// Subtracted from a token's logit if the output has it; -2 to 2.
    pub presence_penalty: Option<f32>,
    /// Added to the logits of single tokens; -100 to 100.
    #[serde(deserialize_with = "lenient::token_map")]
    pub logit_bias: Option<BTreeMap<u32, f32>>,
    /// Makes sampling repeatable: the same seed gives the same text. Left out, each request gets
    /// its own, told in [`Finished::seed`](crate::Finished::seed).
    pub seed: Option<u64>,
    /// Text before which the generation ends: one string, or a list. No part of one is output.
    #[serde(alias = "stop_strings", deserialize_with = "lenient::one_or_many")]
    pub stop: Option<Vec<String>>,
    /// Tokens that end the generation, besides the model's own.
    pub stop_token_ids: Option<Vec<u32>>,
    /// Go on after the model's end-of-sequence tokens.
    pub ignore_eos: Option<bool>,
    /// How many sequences to generate from the prompt, 1 by default.
    pub num_return_sequences: Option<usize>,
    /// Give the log-probability of each token, and of this many best ones; 0 for the token's only.
    /// They are taken of the logits after penalties and biases, before temperature and filters.
    pub logprobs: Option<usize>,
    /// Give the log-probability of each token of the prompt after those before it, and of this many
    /// best ones; 0 for the token's only. They are taken of the model's own logits, without penalties
    /// and biases, and come once in [`Event::Prompt`](crate::Event::Prompt), with `max_new_tokens` of
    /// 0 too. The prompt is then run whole, whatever the KV cache has of it.
    pub prompt_logprobs: Option<usize>,
}

/// The bounds that [`GenerationParams::validate`] keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParamLimits {
    /// Number of tokens that the model knows.
    pub vocab: usize,
    /// Most stop strings.
    pub stop_strings: usize,
    /// Most bytes of a stop string.
    pub stop_bytes: usize,
    /// Most stop tokens, and most biased tokens.
    pub listed_tokens: usize,
    /// Most sequences from a prompt.
    pub sequences: usize,
    /// Most log-probabilities per token.
    pub logprobs: usize,
}

impl ParamLimits {
    /// The usual bounds for a vocabulary of this size.
    pub fn new(vocab: usize) -> Self {
        Self {
            vocab,
            stop_strings: 32,
            stop_bytes: 1024,
            listed_tokens: 1024,
            sequences: 128,
            logprobs: 20,
        }
    }
}

impl GenerationParams {
    /// Sees that every value means something.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] for the first value that does not: it names the field, the value
    /// and what would be right.
    pub fn validate(&self, limits: &ParamLimits) -> Result<(), Error> {
        let number = |field, value: Option<f32>, right: fn(f32) -> bool, expected: &str| match value
        {
            Some(value) if !right(value) => Err(Error::invalid(field, value, expected)),
            _ => Ok(()),
        };
        number(
            "temperature",
            self.temperature,
            |v| (0.0..=100.0).contains(&v),
            "a number from 0 (greedy) to 100",
        )?;
        number(
            "top_p",
            self.top_p,
            |v| v > 0.0 && v <= 1.0,
            "a number above 0 and at most 1",
        )?;
        number(
            "min_p",
            self.min_p,
            |v| (0.0..=1.0).contains(&v),
            "a number from 0 to 1",
        )?;
        number(
            "typical_p",
            self.typical_p,
            |v| v > 0.0 && v <= 1.0,
            "a number above 0 and at most 1",
        )?;
        number(
            "repetition_penalty",
            self.repetition_penalty,
            |v| v > 0.0 && v <= 100.0,
            "a number above 0 and at most 100 (1 for none)",
        )?;
        let signed = |v: f32| (-2.0..=2.0).contains(&v);
        number(
            "frequency_penalty",
            self.frequency_penalty,
            signed,
            "a number from -2 to 2",
        )?;
        number(
            "presence_penalty",
            self.presence_penalty,
            signed,
            "a number from -2 to 2",
        )?;
        if let Some(top_k) = self.top_k
            && top_k < -1
        {
            return Err(Error::invalid(
                "top_k",
                top_k,
                "a whole number, 0 or -1 for all tokens",
            ));
        }
        self.validate_stops(limits)?;
        self.validate_bias(limits)?;
        let count = |field, value: Option<usize>, least: usize, most: usize| match value {
            Some(value) if !(least..=most).contains(&value) => Err(Error::invalid(
                field,
                value,
                format!("a whole number from {least} to {most}"),
            )),
            _ => Ok(()),
        };
        count(
            "num_return_sequences",
            self.num_return_sequences,
            1,
            limits.sequences,
        )?;
        count("logprobs", self.logprobs, 0, limits.logprobs)?;
        count("prompt_logprobs", self.prompt_logprobs, 0, limits.logprobs)?;
        if let (Some(min), Some(max)) = (self.min_new_tokens, self.max_new_tokens)
            && min > max
        {
            let expected = format!("at most max_new_tokens, which is {max}");
            return Err(Error::invalid("min_new_tokens", min, expected));
        }
        Ok(())
    }

    fn validate_stops(&self, limits: &ParamLimits) -> Result<(), Error> {
        let stops = self.stop.as_deref().unwrap_or_default();
        if stops.len() > limits.stop_strings {
            let expected = format!("at most {}", limits.stop_strings);
            return Err(Error::invalid(
                "stop",
                format!("{} strings", stops.len()),
                expected,
            ));
        }
        for stop in stops {
            if stop.is_empty() {
                return Err(Error::invalid(
                    "stop",
                    "an empty string",
                    "at least one character",
                ));
            }
            if stop.len() > limits.stop_bytes {
                let expected = format!("at most {}", limits.stop_bytes);
                let value = format!("a string of {} bytes", stop.len());
                return Err(Error::invalid("stop", value, expected));
            }
        }
        let tokens = self.stop_token_ids.as_deref().unwrap_or_default();
        check_tokens(
            "stop_token_ids",
            tokens.len(),
            tokens.iter().copied(),
            limits,
        )
    }

    fn validate_bias(&self, limits: &ParamLimits) -> Result<(), Error> {
        let Some(map) = &self.logit_bias else {
            return Ok(());
        };
        check_tokens("logit_bias", map.len(), map.keys().copied(), limits)?;
        match map
            .iter()
            .find(|(_, bias)| !(-100.0..=100.0).contains(*bias))
        {
            Some((token, bias)) => {
                let value = format!("{bias} for token {token}");
                Err(Error::invalid(
                    "logit_bias",
                    value,
                    "a number from -100 to 100",
                ))
            }
            None => Ok(()),
        }
    }

    /// Whether it sets a parameter that matters in sampling only.
    pub(crate) fn mentions_sampling(&self) -> bool {
        self.temperature
            .is_some_and(|temperature| temperature > 0.0)
            || self.top_k.is_some()
            || self.top_p.is_some()
            || self.min_p.is_some()
            || self.typical_p.is_some()
    }
}

/// Fails if a list of tokens is too long, or names one that does not exist.
fn check_tokens(
    field: &'static str,
    count: usize,
    mut tokens: impl Iterator<Item = u32>,
    limits: &ParamLimits,
) -> Result<(), Error> {
    if count > limits.listed_tokens {
        let expected = format!("at most {}", limits.listed_tokens);
        return Err(Error::invalid(field, format!("{count} tokens"), expected));
    }
    match tokens.find(|token| *token as usize >= limits.vocab) {
        Some(token) => Err(Error::invalid(
            field,
            format!("token {token}"),
            format!("ids below {}, the size of the vocabulary", limits.vocab),
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(json: &str) -> String {
        let params: GenerationParams = serde_json::from_str(json).unwrap();
        params
            .validate(&ParamLimits::new(100))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_value_that_means_nothing_is_named_with_what_would_be_right() {
        assert_eq!(
            message(r#"{"temperature": -1}"#),
            "temperature is -1; expected a number from 0 (greedy) to 100"
        );
        assert_eq!(
            message(r#"{"top_p": 0}"#),
            "top_p is 0; expected a number above 0 and at most 1"
        );
        assert_eq!(
            message(r#"{"top_k": -2}"#),
            "top_k is -2; expected a whole number, 0 or -1 for all tokens"
        );
        assert_eq!(
            message(r#"{"stop": ["a", ""]}"#),
            "stop is an empty string; expected at least one character"
        );
        assert_eq!(
            message(r#"{"logit_bias": {"7": 101}}"#),
            "logit_bias is 101 for token 7; expected a number from -100 to 100"
        );
        assert_eq!(
            message(r#"{"logit_bias": {"100": 1}}"#),
            "logit_bias is token 100; expected ids below 100, the size of the vocabulary"
        );
        assert_eq!(
            message(r#"{"min_new_tokens": 9, "max_new_tokens": 8}"#),
            "min_new_tokens is 9; expected at most max_new_tokens, which is 8"
        );
        for bad in [
            r#"{"min_p": 1.5}"#,
            r#"{"typical_p": 0}"#,
            r#"{"repetition_penalty": 0}"#,
            r#"{"frequency_penalty": 2.5}"#,
            r#"{"presence_penalty": -3}"#,
            r#"{"num_return_sequences": 0}"#,
            r#"{"logprobs": 21}"#,
            r#"{"prompt_logprobs": 21}"#,
            r#"{"stop_token_ids": [100]}"#,
        ] {
            message(bad);
        }
    }

    #[test]
    fn values_that_are_not_numbers_are_refused_everywhere() {
        for value in [f32::NAN, f32::INFINITY] {
            let set: [fn(&mut GenerationParams, f32); 7] = [
                |p, v| p.temperature = Some(v),
                |p, v| p.top_p = Some(v),
                |p, v| p.min_p = Some(v),
                |p, v| p.typical_p = Some(v),
                |p, v| p.repetition_penalty = Some(v),
                |p, v| p.frequency_penalty = Some(v),
                |p, v| p.logit_bias = Some([(1, v)].into()),
            ];
            for set in set {
                let mut params = GenerationParams::default();
                set(&mut params, value);
                params.validate(&ParamLimits::new(100)).unwrap_err();
            }
        }
    }

    #[test]
    fn nulls_unknown_fields_and_both_forms_of_stop_are_accepted() {
        let params: GenerationParams = serde_json::from_str(
            r#"{"temperature": null, "stop": "x", "later": 1, "logit_bias": null, "top_p": 1}"#,
        )
        .unwrap();
        assert_eq!(params.stop, Some(vec!["x".to_owned()]));
        assert_eq!(params.logit_bias, None);
        params.validate(&ParamLimits::new(100)).unwrap();
        let params: GenerationParams =
            serde_json::from_str(r#"{"stop_strings": ["x", "y"]}"#).unwrap();
        assert_eq!(params.stop.unwrap().len(), 2);
    }

    #[test]
    fn biases_are_read_inside_flattened_requests_too() {
        #[derive(Deserialize)]
        struct Outer {
            #[serde(flatten)]
            params: GenerationParams,
        }
        let outer: Outer = serde_json::from_str(r#"{"logit_bias": {"3": -1.5}}"#).unwrap();
        assert_eq!(outer.params.logit_bias, Some([(3, -1.5)].into()));
        let error = serde_json::from_str::<Outer>(r#"{"logit_bias": {"x": 1}}"#)
            .err()
            .unwrap();
        assert!(error.to_string().contains("expected a token id"), "{error}");
    }

    #[test]
    fn params_survive_being_written_and_read() {
        let params = GenerationParams {
            stop: Some(vec!["a".into()]),
            logit_bias: Some([(3, 1.0)].into()),
            seed: Some(u64::MAX),
            ..GenerationParams::default()
        };
        let json = serde_json::to_string(&params).unwrap();
        assert_eq!(
            serde_json::from_str::<GenerationParams>(&json).unwrap(),
            params
        );
    }
}
