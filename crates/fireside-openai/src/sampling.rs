//! The parameters that chats and completions share.

use std::collections::BTreeMap;

use fireside_engine::GenerationParams;
use serde_json::Value;

use crate::ApiError;
use crate::fields::{Fields, whole, wrong};

/// The highest temperature that OpenAI's interface has.
const MAX_TEMPERATURE: f32 = 2.0;
/// Most stop strings that OpenAI's interface has.
const MAX_STOPS: usize = 4;

/// Most sequences from a prompt.
pub(crate) const MAX_SEQUENCES: usize = 128;

/// Reads sampling, stops and lengths. A temperature left out is 1, as OpenAI's is, and no filter
/// is on unless the request or the model asks for it. No fewer than `least` new tokens may be asked for.
pub(crate) fn params(fields: &Fields, least: usize) -> Result<GenerationParams, ApiError> {
    let temperature = fields.number("temperature")?;
    if let Some(temperature) = temperature
        && !(0.0..=MAX_TEMPERATURE).contains(&temperature)
    {
        return Err(ApiError::invalid(
            "temperature",
            format!(
                "temperature is {temperature}; expected a number from 0 (greedy) to {MAX_TEMPERATURE}"
            ),
        ));
    }
    refuse_unsupported(fields)?;
    let sequences = fields.count("n", 1)?;
    if let Some(n) = sequences
        && n > MAX_SEQUENCES
    {
        return Err(ApiError::invalid(
            "n",
            format!("n is {n}; expected at most {MAX_SEQUENCES}"),
        ));
    }
    Ok(GenerationParams {
        max_new_tokens: match fields.count("max_completion_tokens", least)? {
            Some(count) => Some(count),
            None => fields.count("max_tokens", least)?,
        },
        min_new_tokens: fields.count("min_tokens", 0)?,
        do_sample: Some(temperature != Some(0.0)),
        temperature,
        top_k: Some(fields.integer("top_k")?.unwrap_or(-1)),
        top_p: fields.number("top_p")?,
        min_p: fields.number("min_p")?,
        typical_p: fields.number("typical_p")?,
        repetition_penalty: fields.number("repetition_penalty")?,
        frequency_penalty: fields.number("frequency_penalty")?,
        presence_penalty: fields.number("presence_penalty")?,
        logit_bias: fields.get("logit_bias").map(bias).transpose()?,
        // Negative seeds are as good as any: the same bits, read without sign.
        seed: fields.read("seed", "a whole number", |v| {
            v.as_u64().or_else(|| whole(v).map(|v| v as u64))
        })?,
        stop: fields.get("stop").map(stop).transpose()?,
        stop_token_ids: fields.get("stop_token_ids").map(token_ids).transpose()?,
        ignore_eos: fields.flag("ignore_eos")?,
        num_return_sequences: sequences,
        logprobs: None,
        prompt_logprobs: None,
    })
}

/// What would change the answer and is not there is an error: an answer that passes it over looks
/// like one that keeps to it.
fn refuse_unsupported(fields: &Fields) -> Result<(), ApiError> {
    const CONSTRAINTS: [&str; 8] = [
        "grammar",
        "guided_choice",
        "guided_grammar",
        "guided_json",
        "guided_regex",
        "json_schema",
        "response_format",
        "structured_outputs",
    ];
    for name in CONSTRAINTS {
        let free = |value: &Value| name == "response_format" && value["type"] == "text";
        if fields.get(name).is_some_and(|value| !free(value)) {
            return Err(ApiError::invalid(
                name,
                format!("{name} is not supported: answers cannot be held to a form; leave it out"),
            ));
        }
    }
    let tools = fields.get("tools").and_then(Value::as_array);
    let wanted = fields
        .get("tool_choice")
        .is_none_or(|choice| choice != "none");
    if wanted && tools.is_some_and(|tools| !tools.is_empty()) {
        return Err(ApiError::invalid(
            "tools",
            "tools are not supported; leave them out, or set tool_choice to none",
        ));
    }
    Ok(())
}

fn stop(value: &Value) -> Result<Vec<String>, ApiError> {
    let expected = "a string or a list of strings";
    match value {
        Value::String(one) => Ok(vec![one.clone()]),
        Value::Array(many) if many.len() > MAX_STOPS => Err(ApiError::invalid(
            "stop",
            format!(
                "stop has {} strings; expected at most {MAX_STOPS}",
                many.len()
            ),
        )),
        Value::Array(many) => many
            .iter()
            .map(|v| {
                v.as_str()
                    .map(str::to_owned)
                    .ok_or_else(|| wrong("stop", v, expected))
            })
            .collect(),
        other => Err(wrong("stop", other, expected)),
    }
}

fn token_ids(value: &Value) -> Result<Vec<u32>, ApiError> {
    let expected = "a list of token ids";
    let Value::Array(ids) = value else {
        return Err(wrong("stop_token_ids", value, expected));
    };
    ids.iter()
        .map(|v| {
            whole(v)
                .and_then(|v| u32::try_from(v).ok())
                .ok_or_else(|| wrong("stop_token_ids", v, expected))
        })
        .collect()
}

fn bias(value: &Value) -> Result<BTreeMap<u32, f32>, ApiError> {
    let expected = "an object of token ids and numbers from -100 to 100";
    let Value::Object(map) = value else {
        return Err(wrong("logit_bias", value, expected));
    };
    map.iter()
        .map(|(token, bias)| {
            let token = token.trim().parse().map_err(|_| {
                ApiError::invalid(
                    "logit_bias",
                    format!("logit_bias has the key {token:?}; expected a token id"),
                )
            })?;
            let bias = bias
                .as_f64()
                .ok_or_else(|| wrong("logit_bias", bias, expected))?;
            Ok((token, bias as f32))
        })
        .collect()
}

/// `stream` and `stream_options.include_usage`.
pub(crate) fn streaming(fields: &Fields) -> Result<(bool, bool), ApiError> {
    let stream = fields.flag("stream")?.unwrap_or(false);
    let Some(options) = fields.get("stream_options") else {
        return Ok((stream, false));
    };
    if !stream {
        return Err(ApiError::invalid(
            "stream_options",
            "stream_options is given without a stream; expected stream to be true",
        ));
    }
    let options = Fields::from_value(options.clone())
        .map_err(|_| wrong("stream_options", options, "an object"))?;
    Ok((stream, options.flag("include_usage")?.unwrap_or(false)))
}
