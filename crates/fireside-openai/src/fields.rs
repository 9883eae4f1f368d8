//! Reads the fields of a JSON object, with errors that name the field.

use serde_json::{Map, Value};

use crate::ApiError;

/// Bytes of a value that a message quotes.
const SHOWN: usize = 60;

/// The fields of a request. A null is as good as nothing.
#[derive(Debug)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    pub(crate) fn from_json(body: &[u8]) -> Result<Self, ApiError> {
        let value: Value = serde_json::from_slice(body).map_err(|error| ApiError {
            param: None,
            ..ApiError::invalid("", format!("the body is not valid json: {error}"))
        })?;
        Self::from_value(value)
    }

    pub(crate) fn from_value(value: Value) -> Result<Self, ApiError> {
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

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<f32>, ApiError> {
        self.read(name, "a number", |v| v.as_f64().map(|v| v as f32))
    }

    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.read(name, "a whole number", whole)
    }

    /// A whole number from `least` up.
    pub(crate) fn count(&self, name: &str, least: usize) -> Result<Option<usize>, ApiError> {
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

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.read(name, "true or false", Value::as_bool)
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, ApiError> {
        self.read(name, "a string", |v| v.as_str().map(str::to_owned))
    }

    pub(crate) fn read<T>(
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
pub(crate) fn wrong(name: &str, value: &Value, expected: &str) -> ApiError {
    let shown = match value {
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        Value::String(text) if text.len() <= SHOWN => format!("{text:?}"),
        other => kind(other).to_owned(),
    };
    ApiError::invalid(name, format!("{name} is {shown}; expected {expected}"))
}

/// Whole numbers as JSON writers spell them, 2.0 too.
pub(crate) fn whole(value: &Value) -> Option<i64> {
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
