//! Chat templates: Jinja templates that turn messages into a prompt, as transformers renders them.

mod clock;
mod content;
mod environment;
mod guard;
mod rewrite;
mod tojson;

use std::io;
use std::sync::Arc;

use minijinja::value::{Serde, Value as JinjaValue};
use minijinja::{Environment, ErrorKind};
use serde_json::{Map, Value};

pub use clock::{Clock, ClockTime};
use content::ContentForm;

use crate::Error;
use crate::error::one_line;

/// The largest prompt, in bytes, that a template may write beyond the size of its input: 4 MiB.
const MAX_EXTRA_OUTPUT: usize = 4 << 20;

/// Steps that every rendering is granted, whatever its input.
const BASE_FUEL: u64 = 500_000;

/// The name of the only template.
const NAME: &str = "chat_template";

/// A model's chat template, compiled and checked.
///
/// Rendering follows transformers: blocks are trimmed, nothing is escaped, and `raise_exception`, `strftime_now`,
/// `tojson`, `{% generation %}`, `break` and `continue`, and the methods of Python's strings, lists and dicts are
/// there. A template is foreign code: its steps, memory and output are bounded.
///
/// ```
/// use fireside_tokenizer::{ChatInput, ChatTemplate};
/// use serde_json::json;
///
/// let template = ChatTemplate::new(
///     "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}",
///     [("eos_token", "</s>")],
/// )?;
/// let messages = [json!({"role": "user", "content": "Hi"})];
/// assert_eq!(template.render(&ChatInput::new(&messages))?, "<user>Hi</s>");
/// # Ok::<(), fireside_tokenizer::Error>(())
/// ```
#[derive(Clone)]
pub struct ChatTemplate {
    env: Arc<Environment<'static>>,
    source: Arc<str>,
    variables: Vec<(String, String)>,
    form: ContentForm,
}

/// What a template renders.
#[derive(Debug, Clone)]
pub struct ChatInput<'a> {
    /// The messages: objects with `role` and `content`, and whatever else the template knows (`tool_calls`, `name`).
    /// `content` is a string or a list of parts such as `{"type": "text", "text": "…"}`.
    pub messages: &'a [Value],
    /// The tools that the model may call, as JSON schemas.
    pub tools: Option<&'a [Value]>,
    /// Documents to answer from.
    pub documents: Option<&'a [Value]>,
    /// Whether to end with the beginning of an answer, so that the model answers instead of going on with the question.
    pub add_generation_prompt: bool,
    /// More variables (`enable_thinking` and the like). They win over special tokens of the same name, but not over
    /// the fields above.
    pub extra: Map<String, Value>,
}

impl<'a> ChatInput<'a> {
    /// These messages, without tools and without a generation prompt.
    pub fn new(messages: &'a [Value]) -> Self {
        Self {
            messages,
            tools: None,
            documents: None,
            add_generation_prompt: false,
            extra: Map::new(),
        }
    }

    /// The same with the beginning of an answer at the end.
    #[must_use]
    pub fn with_generation_prompt(mut self) -> Self {
        self.add_generation_prompt = true;
        self
    }
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate")
            .field("bytes", &self.source.len())
            .field("variables", &self.variables)
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// Compiles a template and tries it on a short message.
    ///
    /// `variables` are the special tokens that templates refer to by name: `bos_token`, `eos_token` and so on.
    ///
    /// # Errors
    ///
    /// If the template does not compile, or cannot render any message because it uses something that does not exist
    /// or never ends.
    pub fn new<N, V>(
        source: &str,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, Error>
    where
        N: Into<String>,
        V: Into<String>,
    {
        let variables = variables
            .into_iter()
            .map(|(name, text)| (name.into(), text.into()));
        Self::compile(source, None, variables.collect())
    }

    /// As [`new`](Self::new) for a template that a model may not have.
    ///
    /// # Errors
    ///
    /// [`Error::NoChatTemplate`] if there is none, else those of [`new`](Self::new).
    pub fn from_model<N, V>(
        source: Option<&str>,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, Error>
    where
        N: Into<String>,
        V: Into<String>,
    {
        Self::new(source.ok_or(Error::NoChatTemplate)?, variables)
    }

    /// Sets the clock that `strftime_now` reads. Without one it is the system's, in UTC, and in a browser 1970.
    ///
    /// # Errors
    ///
    /// None that [`new`](Self::new) has not given already.
    pub fn with_clock(self, clock: Clock) -> Result<Self, Error> {
        Self::compile(&self.source, Some(clock), self.variables)
    }

    fn compile(
        source: &str,
        clock: Option<Clock>,
        variables: Vec<(String, String)>,
    ) -> Result<Self, Error> {
        let rewritten = rewrite::rewrite(source)
            .map_err(|(line, reason)| Error::TemplateSyntax { line, reason })?;
        let compiled = environment::build(clock).and_then(|mut env| {
            env.add_template_owned(NAME, rewritten)?;
            Ok(env)
        });
        let env = compiled.map_err(|error| {
            let (line, reason) = describe(&error);
            Error::TemplateSyntax { line, reason }
        })?;
        let mut template = Self {
            env: Arc::new(env),
            source: source.into(),
            variables,
            form: ContentForm::Any,
        };
        template.form = content::probe(&template)?;
        Ok(template)
    }

    /// The template's source, as given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Writes the prompt for some messages.
    ///
    /// If the template knows `content` only as a string, lists of text parts are joined by line breaks for it; if it
    /// knows only lists, strings become lists of one part.
    ///
    /// # Errors
    ///
    /// If the template refuses the messages ([`Error::TemplateRaised`]), fails on them, or breaks a limit.
    pub fn render(&self, input: &ChatInput<'_>) -> Result<String, Error> {
        for (index, message) in input.messages.iter().enumerate() {
            if !message.is_object() {
                return Err(Error::BadMessage {
                    index,
                    reason: "expected an object with role and content".into(),
                });
            }
        }
        let messages = self.form.apply(input.messages)?;
        self.render_raw(&messages, input)
    }

    /// Renders messages as they are.
    fn render_raw(&self, messages: &[Value], input: &ChatInput<'_>) -> Result<String, Error> {
        let mut context = Map::new();
        for (name, text) in &self.variables {
            context.insert(name.clone(), text.as_str().into());
        }
        context.extend(input.extra.clone());
        context.insert("messages".into(), messages.into());
        context.insert("tools".into(), input.tools.map_or(Value::Null, Value::from));
        context.insert(
            "documents".into(),
            input.documents.map_or(Value::Null, Value::from),
        );
        context.insert(
            "add_generation_prompt".into(),
            input.add_generation_prompt.into(),
        );
        let context = Value::Object(context);
        let size = weight(&context);

        let fuel = BASE_FUEL + size as u64 * 8;
        let mut env = Environment::clone(&self.env);
        env.set_fuel(Some(fuel));
        let mut output = Bounded {
            bytes: Vec::new(),
            limit: MAX_EXTRA_OUTPUT + size * 4,
            full: false,
        };
        let rendered = env.get_template(NAME).and_then(|template| {
            let context = JinjaValue::from(Serde(&context));
            template.render_captured_to(context, &mut output).map(drop)
        });
        if output.full {
            return Err(Error::TemplateOutput {
                limit: output.limit,
            });
        }
        rendered.map_err(|error| render_error(&error, fuel))?;
        String::from_utf8(output.bytes).map_err(|_| Error::TemplateRender {
            line: 1,
            reason: "the output is not UTF-8".into(),
        })
    }
}

/// About how many bytes a value has as JSON.
fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 8,
        Value::Array(items) => 8 + items.iter().map(weight).sum::<usize>(),
        Value::Object(map) => {
            8 + map
                .iter()
                .map(|(key, value)| key.len() + 8 + weight(value))
                .sum::<usize>()
        }
    }
}

/// Line and reason of an engine error; the innermost error knows best.
fn describe(error: &minijinja::Error) -> (usize, String) {
    let mut innermost = error;
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(inner) = inner.downcast_ref::<minijinja::Error>() {
            innermost = inner;
        }
        source = inner.source();
    }
    let line = error.line().or(innermost.line()).unwrap_or(1);
    let kind = innermost.kind().to_string();
    let reason = match innermost.detail() {
        Some(detail) => format!("{kind}: {detail}"),
        None => kind,
    };
    (line, one_line(&reason))
}

fn render_error(error: &minijinja::Error, fuel: u64) -> Error {
    if error.kind() == ErrorKind::OutOfFuel {
        return Error::TemplateFuel { fuel };
    }
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if let Some(raised) = inner.downcast_ref::<environment::Raised>() {
            return Error::TemplateRaised {
                message: raised.0.clone(),
            };
        }
        if let Some(inner) = inner.downcast_ref::<minijinja::Error>()
            && inner.kind() == ErrorKind::OutOfFuel
        {
            return Error::TemplateFuel { fuel };
        }
        source = inner.source();
    }
    let (line, reason) = describe(error);
    Error::TemplateRender { line, reason }
}

/// Collects output up to a limit.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
    full: bool,
}

impl io::Write for &mut Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            self.full = true;
            return Err(io::Error::other("output limit"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
