//! Charges a template for work that the engine does not charge it for.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind, Output, State};

/// How deep an assigned value may be nested.
const MAX_DEPTH: usize = 64;

/// The widest field that a format may ask for.
const MAX_WIDTH: usize = 10_000;

/// Bytes that one unit of fuel pays for, as in the engine.
const BYTES_PER_FUEL: usize = 64;

/// Values that one unit of fuel pays for in a walk.
const VALUES_PER_FUEL: usize = 4;

/// Passes a value on if it is neither too deep nor, every use of a shared part counted, too large for the fuel.
pub(crate) fn assigned(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    let flat = walk(state, &value, 0, &mut 0)?;
    Ok(flat.unwrap_or(value))
}

/// The same for a value that goes into a namespace.
pub(crate) fn held(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    let flat = walk(state, &value, 1, &mut 0)?;
    Ok(flat.unwrap_or(value))
}

/// Prints a value as the engine does, if it is not too deep and not too large for the fuel.
pub(crate) fn print(
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    walk(state, value, 0, &mut 0)?;
    minijinja::escape_formatter(out, state, value)
}

/// Visits a value and all that it holds.
///
/// Sums, products and slices are views of their parts, and a view of views takes for ever to read. The value is given
/// back with its views copied into plain lists and maps, if it has any.
fn walk(
    state: &State<'_, '_>,
    value: &Value,
    depth: usize,
    visited: &mut usize,
) -> Result<Option<Value>, Error> {
    let type_name = value.as_object().map_or("", |object| object.type_name());
    let (is_map, is_view) = match value.kind() {
        ValueKind::Seq => (false, type_name.contains("Merge")),
        ValueKind::Map => (true, type_name.contains("Merge")),
        ValueKind::Iterable => (false, true),
        _ => return Ok(None),
    };
    if depth > MAX_DEPTH {
        return Err(invalid("a value is nested too deeply"));
    }
    // A namespace that holds itself could never be printed.
    if depth > 0 && type_name.ends_with("Namespace") {
        return Err(invalid("a namespace cannot be put into another value"));
    }
    let mut changed = is_view;
    let mut items = Vec::new();
    for item in value.try_iter()? {
        *visited += 1;
        if visited.is_multiple_of(VALUES_PER_FUEL) {
            state.consume_fuel(1)?;
        }
        let inner = if is_map {
            value.get_item(&item)?
        } else {
            item.clone()
        };
        let flat = walk(state, &inner, depth + 1, visited)?;
        changed |= flat.is_some();
        items.push((item, flat.unwrap_or(inner)));
    }
    Ok(changed.then(|| match is_map {
        true => Value::from_pairs(items),
        false => items.into_iter().map(|(_, inner)| inner).collect(),
    }))
}

/// The methods of Python's strings, lists and dicts, with their work charged.
pub(crate) fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let size = value.as_str().map_or(value.len().unwrap_or(0), str::len);
    let mut bytes = size.saturating_mul(2);
    let text = |index: usize| args.get(index).and_then(Value::as_str).unwrap_or_default();
    match (name, value.as_str()) {
        ("replace", Some(from)) => {
            let count = from.matches(text(0)).count();
            bytes = bytes.saturating_add(count.saturating_mul(text(1).len()));
        }
        ("split" | "splitlines" | "rsplit", Some(_)) => bytes = size.saturating_mul(32),
        ("join", Some(separator)) => {
            for item in args
                .first()
                .map(Value::try_iter)
                .transpose()?
                .into_iter()
                .flatten()
            {
                state.consume_fuel(1)?;
                bytes = bytes.saturating_add(separator.len() + item.as_str().map_or(8, str::len));
            }
        }
        ("format", Some(format)) => {
            let widths = format.split(|c: char| !c.is_ascii_digit());
            if widths
                .filter(|width| !width.is_empty())
                .any(|width| width.parse().unwrap_or(usize::MAX) > MAX_WIDTH)
            {
                return Err(invalid("a format asks for too wide a field"));
            }
        }
        _ => {}
    }
    state.consume_fuel((bytes / BYTES_PER_FUEL) as u64)?;
    if let ("title", Some(text), []) = (name, value.as_str(), args) {
        return Ok(title(text).into());
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

/// Python's `str.title`: the letter after anything that is not a letter is upper case, the others are lower case.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        match in_word {
            true => out.extend(c.to_lowercase()),
            false => out.extend(c.to_uppercase()),
        }
        in_word = c.is_alphabetic();
    }
    out
}

fn invalid(reason: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}
