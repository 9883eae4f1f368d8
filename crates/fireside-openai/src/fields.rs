//! Reads the fields of a JSON object, with errors that name the field.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::ApiError;

/// Bytes of a value that a message quotes.
const SHOWN: usize = 60;

/// The fields of a request. A null is as good as nothing.
#[derive(Debug)]
pub struct Fields(Map<String, Value>);

impl Fields {
    /// The fields of a body. Keys that come twice, text that is not UTF-8, and more than 128 levels
    /// are refused.
    ///
    /// # Errors
    ///
    /// JSON that is not valid, or no object.
    pub fn from_json(body: &[u8]) -> Result<Self, ApiError> {
        let value: Unique = serde_json::from_slice(body).map_err(|error| ApiError {
            param: None,
            ..ApiError::invalid("", format!("the body is not valid json: {error}"))
        })?;
        Self::from_value(value.0)
    }

    /// The fields of an object.
    ///
    /// # Errors
    ///
    /// A value of another kind.
    pub fn from_value(value: Value) -> Result<Self, ApiError> {
        match value {
            Value::Object(fields) => Ok(Self(fields)),
            other => Err(ApiError {
                param: None,
                ..ApiError::invalid(
                    "",
                    format!("the body is {}, expected an object", kind(&other)),
                )
            }),
        }
    }

    /// The value of a field, unless it is null.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// The value of a field, taken out.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// A number.
    ///
    /// # Errors
    ///
    /// A value of another kind.
    pub fn number(&self, name: &str) -> Result<Option<f32>, ApiError> {
        self.read(name, "a number", |v| v.as_f64().map(|v| v as f32))
    }

    /// A whole number.
    ///
    /// # Errors
    ///
    /// A value of another kind.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.read(name, "a whole number", whole)
    }

    /// A whole number from `least` up.
    ///
    /// # Errors
    ///
    /// Another value.
    pub fn count(&self, name: &str, least: usize) -> Result<Option<usize>, ApiError> {
        let expected = if least == 0 {
            "a whole number from 0 up"
        } else {
            "a whole number from 1 up"
        };
        self.read(name, expected, |v| {
            let count = usize::try_from(whole(v)?).ok()?;
            (count >= least).then_some(count)
        })
    }

    /// True or false.
    ///
    /// # Errors
    ///
    /// A value of another kind.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.read(name, "true or false", Value::as_bool)
    }

    /// A string.
    ///
    /// # Errors
    ///
    /// A value of another kind.
    pub fn text(&self, name: &str) -> Result<Option<String>, ApiError> {
        self.read(name, "a string", |v| v.as_str().map(str::to_owned))
    }

    /// What `read` makes of a field.
    ///
    /// # Errors
    ///
    /// A value that it makes nothing of; the message says what was expected.
    pub fn read<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => match read(value) {
                Some(read) => Ok(Some(read)),
                None => Err(wrong(name, value, expected)),
            },
        }
    }
}

/// The error for a value that is not what it should be.
pub fn wrong(name: &str, value: &Value, expected: &str) -> ApiError {
    let shown = match value {
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        Value::String(text) if text.len() <= SHOWN => format!("{text:?}"),
        other => kind(other).to_owned(),
    };
    ApiError::invalid(name, format!("{name} is {shown}; expected {expected}"))
}

/// Whole numbers as JSON writers spell them, 2.0 too.
pub fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let float = value.as_f64()?;
        (float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64)
    })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A JSON value in which no object has a key twice: which of two values counts would be a guess.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a json value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Unique(value)) = all.next_element()? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = all.next_key::<String>()? {
            let Unique(value) = all.next_value()?;
            if map.contains_key(&key) {
                let shown: String = key.chars().take(SHOWN).collect();
                return Err(A::Error::custom(format_args!(
                    "the key {shown:?} comes twice"
                )));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_come_once_on_each_level() {
        let fields = Fields::from_json(br#"{"a": {"a": [1, -2, 0.5, "x", null, true]}}"#).unwrap();
        let expected = serde_json::json!({"a": [1, -2, 0.5, "x", null, true]});
        assert_eq!(fields.get("a"), Some(&expected));
        for twice in [r#"{"a": 1, "a": 1}"#, r#"{"b": [{"a": 1, "a": 2}]}"#] {
            let error = Fields::from_json(twice.as_bytes()).unwrap_err();
            assert!(error.message.contains("\"a\" comes twice"), "{error}");
        }
    }

    #[test]
    fn hostile_json_is_refused() {
        let deep = "[".repeat(100_000);
        for bad in [
            &b""[..],
            b"{\"a\": \"\\ud800\"}",
            b"{\"a\": \"\xff\"}",
            b"{\"a\": 1e999}",
            format!("{{\"a\": {deep}").as_bytes(),
        ] {
            let error = Fields::from_json(bad).unwrap_err();
            assert!(
                error.message.starts_with("the body is not valid json"),
                "{error}"
            );
            assert!(!error.message.contains('\n'), "{error}");
        }
    }
}
