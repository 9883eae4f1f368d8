//! Metadata values as Rust types, with the conversions that files in the wild need.

use super::value::{Array, Value, ValueType};

/// A Rust type that a metadata value can be read as with [`super::Gguf::require`] and
/// [`super::Gguf::find`].
///
/// Integers accept every integer type of the file if the value fits. `f32` accepts both float types
/// (an f64 is rounded). Arrays convert their elements by the same rules. Strings must be UTF-8.
pub trait FromValue<'a>: Sized + sealed::Sealed {
    /// What the error message calls the type.
    const EXPECTED: &'static str;

    /// The value as this type; `None` if it is of another type or does not fit.
    fn from_value(value: Value<'a>) -> Option<Self>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for bool {}
    impl Sealed for u32 {}
    impl Sealed for u64 {}
    impl Sealed for i32 {}
    impl Sealed for i64 {}
    impl Sealed for f32 {}
    impl Sealed for &str {}
    impl<T: Sealed> Sealed for Vec<T> {}
}

fn integer(value: Value<'_>) -> Option<i128> {
    Some(match value {
        Value::U8(v) => v.into(),
        Value::I8(v) => v.into(),
        Value::U16(v) => v.into(),
        Value::I16(v) => v.into(),
        Value::U32(v) => v.into(),
        Value::I32(v) => v.into(),
        Value::U64(v) => v.into(),
        Value::I64(v) => v.into(),
        _ => return None,
    })
}

macro_rules! integers {
    ($($ty:ident $name:literal $array:literal),*) => {$(
        impl FromValue<'_> for $ty {
            const EXPECTED: &'static str = $name;

            fn from_value(value: Value<'_>) -> Option<Self> {
                integer(value).and_then(|v| v.try_into().ok())
            }
        }

        impl<'a> FromValue<'a> for Vec<$ty> {
            const EXPECTED: &'static str = $array;

            fn from_value(value: Value<'a>) -> Option<Self> {
                collect(value)
            }
        }
    )*};
}

integers!(
    u32 "an integer of 32 bits without sign" "an array of integers of 32 bits without sign",
    u64 "an integer of 64 bits without sign" "an array of integers of 64 bits without sign",
    i32 "an integer of 32 bits" "an array of integers of 32 bits",
    i64 "an integer of 64 bits" "an array of integers of 64 bits"
);

impl FromValue<'_> for f32 {
    const EXPECTED: &'static str = "a float";

    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::F32(v) => Some(v),
            Value::F64(v) => Some(v as f32),
            _ => None,
        }
    }
}

impl FromValue<'_> for bool {
    const EXPECTED: &'static str = "a boolean";

    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Bool(v) => Some(v),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for &'a str {
    const EXPECTED: &'static str = "a UTF-8 string";

    fn from_value(value: Value<'a>) -> Option<Self> {
        match value {
            Value::String(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for Vec<&'a str> {
    const EXPECTED: &'static str = "an array of UTF-8 strings";

    fn from_value(value: Value<'a>) -> Option<Self> {
        collect(value)
    }
}

impl<'a> FromValue<'a> for Vec<f32> {
    const EXPECTED: &'static str = "an array of floats";

    fn from_value(value: Value<'a>) -> Option<Self> {
        collect(value)
    }
}

impl<'a> FromValue<'a> for Vec<bool> {
    const EXPECTED: &'static str = "an array of booleans";

    fn from_value(value: Value<'a>) -> Option<Self> {
        collect(value)
    }
}

fn collect<'a, T: FromValue<'a>>(value: Value<'a>) -> Option<Vec<T>> {
    let Value::Array(array) = value else {
        return None;
    };
    let mut out = Vec::with_capacity(array.len());
    for element in array.iter() {
        out.push(T::from_value(element)?);
    }
    Some(out)
}

/// What an error message says a value is, when another type was expected.
pub(super) fn describe(value: Value<'_>) -> String {
    match value {
        Value::Array(array) => describe_array(array),
        Value::String(bytes) if std::str::from_utf8(bytes).is_err() => {
            "a string that is not UTF-8".to_owned()
        }
        Value::String(_) => "a string".to_owned(),
        Value::Bool(v) => format!("the boolean {v}"),
        Value::F32(v) => format!("the float {v}"),
        Value::F64(v) => format!("the float {v}"),
        other => format!("the integer {}", integer(other).unwrap_or_default()),
    }
}

fn describe_array(array: Array<'_>) -> String {
    if array.element_type() == ValueType::String {
        let bad = array.iter().position(|v| <&str>::from_value(v).is_none());
        if let Some(index) = bad {
            return format!("an array of strings whose element {index} is not UTF-8");
        }
    }
    format!(
        "an array of {} {}",
        array.len(),
        array.element_type().name()
    )
}
