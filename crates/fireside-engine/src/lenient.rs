//! Readers for fields that JSON writes in more than one form.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

/// A value, a list of values, or null.
pub(crate) fn one_or_many<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let value = Option::<OneOrMany<T>>::deserialize(deserializer)?;
    Ok(value.map(|value| match value {
        OneOrMany::One(value) => vec![value],
        OneOrMany::Many(values) => values,
    }))
}

/// A map by token id, or null. JSON's keys are strings, and are kept as such inside flattened
/// structs.
pub(crate) fn token_map<'de, D>(deserializer: D) -> Result<Option<BTreeMap<u32, f32>>, D::Error>
where
    D: Deserializer<'de>,
{
    let Some(map) = Option::<BTreeMap<String, f32>>::deserialize(deserializer)? else {
        return Ok(None);
    };
    map.into_iter()
        .map(|(key, value)| match key.parse() {
            Ok(token) => Ok((token, value)),
            Err(_) => Err(D::Error::custom(format!(
                "expected a token id, found {key:?}"
            ))),
        })
        .collect::<Result<_, _>>()
        .map(Some)
}
