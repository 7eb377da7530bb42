//! Chat templates, rendered once around a marker and split there.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, ErrorKind, Value, context};
use serde::Serialize;

use crate::{Error, Result};

/// Stands for the document while the template is rendered; private-use characters that no template contains.
const MARKER: &str = "\u{E0B1}document\u{E0B2}";
const NAME: &str = "chat";

/// A model's chat template (Jinja, as in `chat_template.jinja`).
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: String,
}

/// What surrounds the text of a user turn. Both parts are trusted text for
/// [`Tokenizer::encode_template`](crate::Tokenizer::encode_template); what goes between them is not, and belongs
/// through [`Tokenizer::encode_text`](crate::Tokenizer::encode_text).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateParts {
    /// From the start of the conversation to the start of the user's text.
    pub head: String,
    /// From the end of the user's text to the start of the answer, generation prompt included.
    pub tail: String,
}

impl ChatTemplate {
    /// Parses a template.
    ///
    /// # Errors
    /// [`Error::Template`] with line and reason.
    pub fn new(source: impl Into<String>) -> Result<Self> {
        let template = Self { source: source.into() };
        template.environment()?;
        Ok(template)
    }

    /// The template's source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders one user turn, with `system` before it, and splits around the user's text. `system` is put in as it
    /// is: control tokens in it become control tokens, so it must be trusted. With `enable_thinking` false,
    /// Qwen3's template opens the answer with an empty think block.
    ///
    /// # Errors
    /// [`Error::Template`] when the template fails or does not show the user's text exactly once.
    pub fn split(&self, system: Option<&str>, enable_thinking: bool) -> Result<TemplateParts> {
        let message = |role: &str, content: &str| context! { role, content };
        let messages: Vec<Value> =
            system.map(|text| message("system", text)).into_iter().chain([message("user", MARKER)]).collect();
        let text = self
            .environment()?
            .get_template(NAME)
            .and_then(|t| t.render(context! { messages, enable_thinking, add_generation_prompt => true }))
            .map_err(|e| Error::template(&format!("{e:#}")))?;
        match text.split(MARKER).collect::<Vec<_>>()[..] {
            [head, tail] => Ok(TemplateParts { head: head.to_string(), tail: tail.to_string() }),
            ref parts => {
                let reason = format!("the user's text appears {} times, not once", parts.len() - 1);
                Err(Error::Template { reason })
            }
        }
    }

    fn environment(&self) -> Result<Environment<'_>> {
        let mut env = Environment::new();
        // As transformers sets up Jinja.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        env.set_syntax(syntax.map_err(|e| Error::template(&e))?);
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.add_filter("tojson", python_json);
        env.add_function("raise_exception", raise_exception);
        env.add_template(NAME, &self.source).map_err(|e| Error::template(&format!("{e:#}")))?;
        Ok(env)
    }
}

fn raise_exception(message: String) -> std::result::Result<String, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
}

/// JSON as Python writes it, with a space behind `:` and `,`, which is what templates were made with.
#[allow(clippy::needless_pass_by_value, reason = "the signature that a filter has")]
fn python_json(value: &Value, options: Kwargs) -> std::result::Result<Value, minijinja::Error> {
    let fail = |e: serde_json::Error| {
        minijinja::Error::new(ErrorKind::BadSerialization, "cannot serialise to JSON").with_source(e)
    };
    let indent: Option<usize> = options.get("indent")?;
    options.get::<Option<bool>>("ensure_ascii")?;
    options.assert_all_used()?;
    let mut out = Vec::new();
    if let Some(indent) = indent {
        let spaces = b" ".repeat(indent);
        let formatter = serde_json::ser::PrettyFormatter::with_indent(&spaces);
        value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter)).map_err(fail)?;
    } else {
        value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced)).map_err(fail)?;
    }
    Ok(Value::from_safe_string(String::from_utf8_lossy(&out).into_owned()))
}

/// `{"a": 1, "b": [2, 3]}`.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W) -> std::io::Result<()> {
        w.write_all(b": ")
    }
}
