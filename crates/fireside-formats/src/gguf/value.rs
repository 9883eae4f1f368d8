//! Metadata values: their thirteen types, and reading one from the header.

use super::cursor::{Cursor, Place};
use crate::FormatError;

/// Arrays may be nested this deep.
pub(super) const MAX_DEPTH: u32 = 4;

/// The type of a metadata value, with the ids that GGUF gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum ValueType {
    /// Unsigned 8-bit integer.
    U8 = 0,
    /// Signed 8-bit integer.
    I8 = 1,
    /// Unsigned 16-bit integer.
    U16 = 2,
    /// Signed 16-bit integer.
    I16 = 3,
    /// Unsigned 32-bit integer.
    U32 = 4,
    /// Signed 32-bit integer.
    I32 = 5,
    /// 32-bit float.
    F32 = 6,
    /// Boolean, stored as one byte.
    Bool = 7,
    /// String with a 64-bit length.
    String = 8,
    /// Array of values of one type.
    Array = 9,
    /// Unsigned 64-bit integer.
    U64 = 10,
    /// Signed 64-bit integer.
    I64 = 11,
    /// 64-bit float.
    F64 = 12,
}

const TYPES: [(ValueType, &str); 13] = [
    (ValueType::U8, "u8"),
    (ValueType::I8, "i8"),
    (ValueType::U16, "u16"),
    (ValueType::I16, "i16"),
    (ValueType::U32, "u32"),
    (ValueType::I32, "i32"),
    (ValueType::F32, "f32"),
    (ValueType::Bool, "bool"),
    (ValueType::String, "string"),
    (ValueType::Array, "array"),
    (ValueType::U64, "u64"),
    (ValueType::I64, "i64"),
    (ValueType::F64, "f64"),
];

impl ValueType {
    /// The type with GGUF's id `id`; `None` if there is none.
    pub fn from_id(id: u32) -> Option<Self> {
        TYPES.iter().map(|(ty, _)| *ty).find(|ty| *ty as u32 == id)
    }

    /// The name in lower case, such as `u32` or `string`.
    pub fn name(self) -> &'static str {
        TYPES
            .iter()
            .find(|(ty, _)| *ty == self)
            .map_or("", |(_, name)| *name)
    }

    /// Bytes of one value; `None` for strings and arrays, whose sizes differ.
    fn fixed_size(self) -> Option<u64> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }

    /// The fewest bytes that one value can take.
    fn min_size(self) -> u64 {
        match self {
            Self::Array => 12,
            other => other.fixed_size().unwrap_or(8),
        }
    }
}

/// One metadata value, borrowed from the header.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Unsigned 8-bit integer.
    U8(u8),
    /// Signed 8-bit integer.
    I8(i8),
    /// Unsigned 16-bit integer.
    U16(u16),
    /// Signed 16-bit integer.
    I16(i16),
    /// Unsigned 32-bit integer.
    U32(u32),
    /// Signed 32-bit integer.
    I32(i32),
    /// 32-bit float.
    F32(f32),
    /// Boolean.
    Bool(bool),
    /// String, as the file has it: UTF-8 in every sound file, but not checked to be.
    String(&'a [u8]),
    /// Array of values of one type.
    Array(Array<'a>),
    /// Unsigned 64-bit integer.
    U64(u64),
    /// Signed 64-bit integer.
    I64(i64),
    /// 64-bit float.
    F64(f64),
}

/// An array of metadata values, decoded as it is walked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Array<'a> {
    ty: ValueType,
    len: usize,
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// The type of every element.
    pub fn element_type(&self) -> ValueType {
        self.ty
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let (ty, mut cursor) = (self.ty, Cursor::new(self.bytes, self.bytes.len() as u64));
        // The array was walked when the header was parsed, so reading ends early only at its end.
        (0..self.len).map_while(move |_| read(&mut cursor, ty, Place::Value(""), 1).ok())
    }
}

impl Value<'_> {
    /// The type of the value.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::F32(_) => ValueType::F32,
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) => ValueType::String,
            Self::Array(_) => ValueType::Array,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F64(_) => ValueType::F64,
        }
    }
}

/// Reads a value type id.
pub(super) fn read_type(
    cursor: &mut Cursor<'_>,
    place: Place<'_>,
) -> Result<ValueType, FormatError> {
    let id = cursor.u32(place)?;
    ValueType::from_id(id).ok_or_else(|| FormatError::UnknownValueType {
        place: place.to_string(),
        id,
    })
}

/// Reads one value of type `ty`; an array is walked to its end, so that all of it is checked.
pub(super) fn read<'a>(
    cursor: &mut Cursor<'a>,
    ty: ValueType,
    place: Place<'_>,
    depth: u32,
) -> Result<Value<'a>, FormatError> {
    Ok(match ty {
        ValueType::U8 => Value::U8(cursor.u8(place)?),
        ValueType::I8 => Value::I8(cursor.u8(place)?.cast_signed()),
        ValueType::U16 => Value::U16(cursor.u16(place)?),
        ValueType::I16 => Value::I16(cursor.u16(place)?.cast_signed()),
        ValueType::U32 => Value::U32(cursor.u32(place)?),
        ValueType::I32 => Value::I32(cursor.u32(place)?.cast_signed()),
        ValueType::F32 => Value::F32(f32::from_bits(cursor.u32(place)?)),
        ValueType::U64 => Value::U64(cursor.u64(place)?),
        ValueType::I64 => Value::I64(cursor.u64(place)?.cast_signed()),
        ValueType::F64 => Value::F64(f64::from_bits(cursor.u64(place)?)),
        ValueType::Bool => Value::Bool(to_bool(cursor.u8(place)?, place)?),
        ValueType::String => Value::String(cursor.string(place)?),
        ValueType::Array => Value::Array(read_array(cursor, place, depth)?),
    })
}

fn read_array<'a>(
    cursor: &mut Cursor<'a>,
    place: Place<'_>,
    depth: u32,
) -> Result<Array<'a>, FormatError> {
    if depth > MAX_DEPTH {
        return Err(FormatError::NestedTooDeep {
            place: place.to_string(),
            limit: MAX_DEPTH,
        });
    }
    let ty = read_type(cursor, place)?;
    let count = cursor.u64(place)?;
    let fits = count
        .checked_mul(ty.min_size())
        .is_some_and(|size| size <= cursor.left_in_file());
    let Some(len) = usize::try_from(count).ok().filter(|_| fits) else {
        return Err(FormatError::ArrayTooLarge {
            place: place.to_string(),
            count,
        });
    };
    let start = cursor.clone();
    match ty.fixed_size() {
        Some(size) => {
            let bytes = cursor.take(count * size, place)?;
            if ty == ValueType::Bool {
                bytes
                    .iter()
                    .try_for_each(|byte| to_bool(*byte, place).map(drop))?;
            }
        }
        None => (0..len).try_for_each(|_| read(cursor, ty, place, depth + 1).map(drop))?,
    }
    Ok(Array {
        ty,
        len,
        bytes: start.since(cursor),
    })
}

fn to_bool(byte: u8, place: Place<'_>) -> Result<bool, FormatError> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        byte => Err(FormatError::BadBool {
            place: place.to_string(),
            byte,
        }),
    }
}
