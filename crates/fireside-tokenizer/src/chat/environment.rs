//! The template engine set up as transformers sets up its own.

use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};

use super::clock::{Clock, ClockTime};
use super::tojson::tojson;
use super::{guard, rewrite};

/// How deep macros may call each other. Those that print a JSON schema follow its depth.
const MAX_CALLS: usize = 100;

/// What a template said with `raise_exception`.
#[derive(Debug)]
pub(crate) struct Raised(pub(crate) String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// An environment without templates.
pub(crate) fn build(clock: Option<Clock>) -> Result<Environment<'static>, minijinja::Error> {
    let mut env = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(false)
        .build()?;
    env.set_syntax(syntax);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_undefined_behavior(UndefinedBehavior::Lenient);
    env.set_unknown_method_callback(guard::method);
    env.set_formatter(guard::print);
    env.set_recursion_limit(MAX_CALLS);
    env.add_filter("tojson", tojson);
    env.add_function(rewrite::GUARD, guard::assigned);
    env.add_function(rewrite::HOLD_GUARD, guard::held);
    env.add_function("raise_exception", raise_exception);
    env.add_function("strftime_now", move |format: &str| {
        clock
            .as_ref()
            .map_or_else(system_time, |clock| clock())
            .format(format)
    });
    Ok(env)
}

#[cfg(not(target_arch = "wasm32"))]
fn system_time() -> ClockTime {
    ClockTime::now()
}

#[cfg(target_arch = "wasm32")]
fn system_time() -> ClockTime {
    ClockTime {
        unix_seconds: 0,
        utc_offset_seconds: 0,
    }
}

fn raise_exception(message: String) -> Result<String, minijinja::Error> {
    Err(
        minijinja::Error::new(ErrorKind::InvalidOperation, "raise_exception was called")
            .with_source(Raised(message)),
    )
}
