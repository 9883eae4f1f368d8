//! A body of TGI's `/generate`, with each value checked and named.

use fireside_engine::{GenerationParams, Request};
use fireside_openai::ApiError;
use fireside_openai::fields::{Fields, wrong};
use fireside_tokenizer::Tokenizer;
use serde_json::Value;

/// Most sequences of which the best one is given.
pub(crate) const MAX_BEST_OF: usize = 2;
/// Most stop strings.
pub(crate) const MAX_STOPS: usize = 4;
/// Most tokens that are listed for each place.
pub(crate) const MAX_TOP_N: usize = 5;

/// A generation that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Generate {
    pub(crate) inputs: String,
    /// `None` follows the route.
    pub(crate) stream: Option<bool>,
    /// `None` follows the route.
    pub(crate) return_full_text: Option<bool>,
    pub(crate) details: bool,
    /// Tell the tokens of the prompt with their log-probabilities.
    pub(crate) prefill: bool,
    pub(crate) top_n_tokens: usize,
    pub(crate) truncate: Option<usize>,
    /// It is accepted and does nothing.
    pub(crate) watermark: bool,
    /// The LoRA adapter to answer with.
    pub(crate) adapter_id: Option<String>,
    pub(crate) params: GenerationParams,
}

impl Generate {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// JSON that is not valid, or the first field with a value that means nothing.
    pub(crate) fn from_json(body: &[u8]) -> Result<Self, ApiError> {
        Self::read(&Fields::from_json(body)?)
    }

    /// Reads the fields of a body.
    ///
    /// # Errors
    ///
    /// The first field with a value that means nothing.
    pub(crate) fn read(fields: &Fields) -> Result<Self, ApiError> {
        let inputs = fields
            .text("inputs")?
            .ok_or_else(|| ApiError::invalid("inputs", "inputs is missing; expected a string"))?;
        if inputs.is_empty() {
            return Err(ApiError::invalid(
                "inputs",
                "inputs is empty; expected at least one character",
            ));
        }
        let given = fields.get("parameters");
        let own = match given {
            None => Fields::from_value(Value::Object(serde_json::Map::new()))?,
            Some(value) => Fields::from_value(value.clone())
                .map_err(|_| wrong("parameters", value, "an object"))?,
        };
        refuse_unsupported(&own)?;
        let stream = fields.flag("stream")?;
        let mut params = params(&own, stream == Some(true))?;
        let prefill = own.flag("decoder_input_details")?.unwrap_or(false);
        params.prompt_logprobs = prefill.then_some(0);
        Ok(Self {
            inputs,
            stream,
            return_full_text: own.flag("return_full_text")?,
            details: prefill || own.flag("details")?.unwrap_or(false),
            prefill,
            top_n_tokens: params.logprobs.unwrap_or(0),
            truncate: own.count("truncate", 1)?,
            watermark: own.flag("watermark")?.unwrap_or(false),
            adapter_id: own.text("adapter_id")?,
            params,
        })
    }

    /// The engine's request. A prompt is cut at its front, to its last `truncate` tokens.
    ///
    /// # Errors
    ///
    /// Text that cannot be tokenized.
    pub(crate) fn to_engine(&self, tokenizer: &Tokenizer) -> Result<Request, ApiError> {
        let mut prompt = tokenizer
            .encode(&self.inputs, true)
            .map_err(|error| ApiError::invalid("inputs", error.to_string()))?;
        if let Some(most) = self.truncate
            && prompt.len() > most
        {
            prompt.drain(..prompt.len() - most);
        }
        Ok(Request::new(prompt).with_params(self.params.clone()))
    }
}

/// What would change the answer and is not there is an error.
fn refuse_unsupported(fields: &Fields) -> Result<(), ApiError> {
    match fields.get("grammar") {
        None => Ok(()),
        Some(_) => Err(ApiError::invalid(
            "grammar",
            "grammar is not supported: answers cannot be held to a form; leave it out",
        )),
    }
}

/// TGI's parameters. It samples if it is told to or if a parameter of sampling is set; what is left
/// out is off, whatever the model's own defaults are. `top_p` and `typical_p` may be 1 and `top_k` 0,
/// for off, which TGI itself refuses.
fn params(fields: &Fields, stream: bool) -> Result<GenerationParams, ApiError> {
    let at_most = |name: &str, least: usize, most: usize| match fields.count(name, least)? {
        Some(count) if count > most => Err(ApiError::invalid(
            name,
            format!("{name} is {count}; expected at most {most}"),
        )),
        count => Ok(count),
    };
    let temperature = fields.number("temperature")?;
    if let Some(temperature) = temperature
        && temperature.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater)
    {
        return Err(ApiError::invalid(
            "temperature",
            format!(
                "temperature is {temperature}; expected a number above 0; do_sample false is greedy"
            ),
        ));
    }
    let (top_k, top_p) = (fields.integer("top_k")?, fields.number("top_p")?);
    let typical_p = fields.number("typical_p")?;
    let do_sample = fields.flag("do_sample")?.unwrap_or(false)
        || temperature.is_some_and(|temperature| temperature != 1.0)
        || top_k.is_some_and(|top_k| top_k > 0)
        || top_p.is_some_and(|top_p| top_p < 1.0)
        || typical_p.is_some_and(|typical_p| typical_p < 1.0);
    let seed = fields.read("seed", "a whole number from 0 up", Value::as_u64)?;
    let best_of = at_most("best_of", 1, MAX_BEST_OF)?.unwrap_or(1);
    if best_of > 1 {
        let against = [
            (!do_sample, "sampling: do_sample, or a temperature"),
            (seed.is_some(), "no seed"),
            (stream, "no stream"),
        ];
        if let Some((_, needs)) = against.iter().find(|(wrong, _)| *wrong) {
            return Err(ApiError::invalid(
                "best_of",
                format!("best_of is {best_of}; that needs {needs}"),
            ));
        }
    }
    let stop = match fields.get("stop") {
        None => None,
        Some(Value::String(one)) => Some(vec![one.clone()]),
        Some(Value::Array(many)) if many.len() > MAX_STOPS => {
            return Err(ApiError::invalid(
                "stop",
                format!(
                    "stop has {} strings; expected at most {MAX_STOPS}",
                    many.len()
                ),
            ));
        }
        Some(value) => {
            let all: Option<Vec<String>> = value
                .as_array()
                .and_then(|many| many.iter().map(|s| s.as_str().map(str::to_owned)).collect());
            Some(all.ok_or_else(|| wrong("stop", value, "a list of strings"))?)
        }
    };
    Ok(GenerationParams {
        // Without a limit the answer may fill the context.
        max_new_tokens: Some(fields.count("max_new_tokens", 1)?.unwrap_or(usize::MAX)),
        do_sample: Some(do_sample),
        temperature: Some(temperature.unwrap_or(1.0)),
        top_k: Some(top_k.unwrap_or(-1)),
        top_p: Some(top_p.unwrap_or(1.0)),
        typical_p: Some(typical_p.unwrap_or(1.0)),
        repetition_penalty: Some(fields.number("repetition_penalty")?.unwrap_or(1.0)),
        frequency_penalty: fields.number("frequency_penalty")?,
        seed,
        stop,
        num_return_sequences: Some(best_of),
        // Each token is told with its own.
        logprobs: Some(at_most("top_n_tokens", 0, MAX_TOP_N)?.unwrap_or(0)),
        ..GenerationParams::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parameters: &str) -> Result<Generate, ApiError> {
        Generate::from_json(format!(r#"{{"inputs": "a", "parameters": {parameters}}}"#).as_bytes())
    }

    #[test]
    fn parameters_may_be_missing_null_or_off() {
        let plain = read("null").unwrap();
        assert_eq!(plain.params.do_sample, Some(false));
        assert_eq!(plain.params.max_new_tokens, Some(usize::MAX));
        for off in [
            "{}",
            r#"{"top_p": 1.0, "top_k": 0, "typical_p": 1, "temperature": 1, "unknown": 7}"#,
            r#"{"top_p": null, "temperature": null, "stop": null, "seed": null, "truncate": null}"#,
        ] {
            assert_eq!(read(off).unwrap().params.do_sample, Some(false), "{off}");
        }
        assert_eq!(
            read(r#"{"temperature": 0.5}"#).unwrap().params.do_sample,
            Some(true)
        );
    }

    #[test]
    fn a_value_that_means_nothing_names_its_field() {
        for (parameters, field) in [
            ("7", "parameters"),
            (r#"{"temperature": 0}"#, "temperature"),
            (r#"{"temperature": "hot"}"#, "temperature"),
            (r#"{"best_of": 3}"#, "best_of"),
            (r#"{"best_of": 2}"#, "best_of"),
            (r#"{"best_of": 2, "do_sample": true, "seed": 1}"#, "best_of"),
            (r#"{"stop": ["a", "b", "c", "d", "e"]}"#, "stop"),
            (r#"{"max_new_tokens": 0}"#, "max_new_tokens"),
            (r#"{"truncate": 0}"#, "truncate"),
            (r#"{"top_n_tokens": 6}"#, "top_n_tokens"),
            (r#"{"seed": -1}"#, "seed"),
            (r#"{"grammar": {"type": "regex", "value": "("}}"#, "grammar"),
            (r#"{"decoder_input_details": 7}"#, "decoder_input_details"),
            (r#"{"adapter_id": 7}"#, "adapter_id"),
        ] {
            let error = read(parameters).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(field), "{parameters}");
            assert!(error.message.starts_with(field), "{error}");
        }
    }
}
