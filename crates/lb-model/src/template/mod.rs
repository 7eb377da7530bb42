//! Chat templates: conversations to text as transformers renders them, and to tokens without trusting what they say.

mod bounded;
mod encode;
mod generation;
mod json;
mod language;
mod message;
mod options;
mod read;
mod strftime;
mod system;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use minijinja::Value;
use minijinja::value::{Serde, merge_maps};
use serde::Serialize;

use crate::{Error, Result, Tokenizer};
use language::Load;

pub use encode::RenderedPiece;
pub use message::{Content, Conversation, Message, PartKind, TextPart};
pub use options::{PromptEnd, RenderOptions};

/// Stands for the document while the template is rendered; private-use characters that no template contains.
const MARKER: &str = "\u{E0B1}document\u{E0B2}";

/// Names of special tokens as templates know them (`bos_token`, `eos_token`, ...), with their text.
pub type SpecialTokens = BTreeMap<String, String>;

/// A model's chat template (Jinja, as in `chat_template.jinja`).
///
/// Rendering is that of transformers' `apply_chat_template`: the same whitespace rules, Python's methods and `tojson`,
/// loop controls, `{% generation %}`, `raise_exception`, `strftime_now`, and the special tokens as variables. A template
/// of more than 1 MiB, one that nests too deeply, runs too long or makes far more text than the conversation holds (64
/// MiB and more with its length) ends in an error. Two things are laxer or plainer than in Jinja2: a loop over `none` is
/// empty where Python fails, and text joined to a string that is marked `safe` is not escaped.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: String,
    special: SpecialTokens,
    takes_system: OnceLock<bool>,
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

/// What a template sees besides the variables of [`RenderOptions`].
#[derive(Serialize)]
struct Context<'a> {
    messages: &'a [serde_json::Value],
    tools: Option<&'a [serde_json::Value]>,
    documents: Option<()>,
    add_generation_prompt: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    enable_thinking: Option<bool>,
}

impl ChatTemplate {
    /// Parses a template.
    ///
    /// # Errors
    /// [`Error::Template`] with line and reason.
    pub fn new(source: impl Into<String>) -> Result<Self> {
        let template =
            Self { source: source.into(), special: SpecialTokens::new(), takes_system: OnceLock::new() };
        language::check(&template.source)?;
        Ok(template)
    }

    /// Sets the special tokens that the template may write, as [`Tokenizer::special_tokens`] has them. A checkpoint
    /// does this by itself.
    #[must_use]
    pub fn with_special_tokens(mut self, special: SpecialTokens) -> Self {
        self.special = special;
        self.takes_system = OnceLock::new();
        self
    }

    /// The template's source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders one user turn, with `system` before it, and splits around the user's text. `system` is put in as it
    /// is: control tokens in it become control tokens, so it must be trusted. A template that refuses it gets it in
    /// the user's turn, see [`fold_system`](Self::fold_system). With `enable_thinking` false, Qwen3's template opens
    /// the answer with an empty think block.
    ///
    /// # Errors
    /// [`Error::Template`] when the template fails or does not show the user's text exactly once.
    pub fn split(&self, system: Option<&str>, enable_thinking: bool) -> Result<TemplateParts> {
        let system = system.map(|text| Message::new("system", text));
        let messages: Vec<Message> = system.into_iter().chain([Message::new("user", MARKER)]).collect();
        let options = RenderOptions { enable_thinking: Some(enable_thinking), ..RenderOptions::default() };
        let text = self.render(&self.fold_system(&messages), &options)?;
        match text.split(MARKER).collect::<Vec<_>>()[..] {
            [head, tail] => Ok(TemplateParts { head: head.to_string(), tail: tail.to_string() }),
            ref parts => {
                let reason = format!("the user's text appears {} times, not once", parts.len() - 1);
                Err(Error::Template { reason })
            }
        }
    }

    /// The conversation as text, equal to transformers' `apply_chat_template(..., tokenize=False)`.
    ///
    /// This text is for reading. Encoding it as a whole lets whatever a message says become a control token;
    /// [`encode_conversation`](Self::encode_conversation) does not.
    ///
    /// Messages whose content is a list of text parts reach the template as a list if it reads such lists, and joined
    /// to one string otherwise (where transformers fails, or prints the list as Python writes it).
    ///
    /// # Errors
    /// [`Error::Template`] when the template fails, its own `raise_exception` included, [`Error::Conversation`] for a
    /// conversation without messages or one that cannot be continued.
    pub fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<String> {
        let messages = self.prepare(messages, options)?;
        render(&self.source, &self.special, &messages, options)
    }

    /// The conversation as tokens. Only the template's own text and the special tokens of the tokenizer's files may
    /// become control tokens; in messages, tools and variables, `<|im_end|>` and the like stay plain text.
    ///
    /// Without such look-alikes the tokens are those of transformers' `apply_chat_template(..., tokenize=True)`: text
    /// between two control tokens is encoded in one go, so that no token ends where a message begins. With them, the
    /// look-alike and its neighbours are tokens of plain text, where transformers (unless told to sanitise) has the
    /// control token. [`render_pieces`](Self::render_pieces) says how the two are told apart.
    ///
    /// Where the template refuses a system message, and transformers fails, its text goes to the first
    /// user's turn, see [`fold_system`](Self::fold_system).
    ///
    /// # Errors
    /// Those of [`render_pieces`](Self::render_pieces), [`Error::Tokenizer`].
    pub fn encode_conversation(
        &self,
        messages: &[Message],
        options: &RenderOptions,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<u32>> {
        let messages = self.fold_system(messages);
        let pieces = self.render_pieces(&messages, options, tokenizer.added_tokens())?;
        tokenizer.encode_pieces(&pieces)
    }

    /// Like [`encode_conversation`](Self::encode_conversation), as long as there are at most `most` tokens and `go_on`, asked every few
    /// milliseconds, says so; see [`Tokenizer::encode_text_within`].
    ///
    /// # Errors
    /// Those of [`encode_conversation`](Self::encode_conversation), [`Error::TooManyTokens`], [`Error::Interrupted`].
    pub fn encode_conversation_within(
        &self,
        messages: &[Message],
        options: &RenderOptions,
        tokenizer: &Tokenizer,
        most: usize,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<u32>> {
        let messages = self.fold_system(messages);
        let pieces = self.render_pieces(&messages, options, tokenizer.added_tokens())?;
        tokenizer.encode_pieces_within(&pieces, most, go_on)
    }
}

/// Bytes of all strings in a value.
fn text_bytes(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::String(text) => text.len(),
        serde_json::Value::Array(items) => items.iter().map(text_bytes).sum(),
        serde_json::Value::Object(map) => map.iter().map(|(key, value)| key.len() + text_bytes(value)).sum(),
        _ => 0,
    }
}

/// Renders prepared messages.
fn render(
    source: &str,
    special: &SpecialTokens,
    messages: &[serde_json::Value],
    options: &RenderOptions,
) -> Result<String> {
    let context = Context {
        messages,
        tools: options.tools.as_deref(),
        documents: None,
        add_generation_prompt: options.ending == PromptEnd::AnswerPrompt,
        enable_thinking: options.enable_thinking,
    };
    let layers =
        [Value::from(Serde(&options.variables)), Value::from(Serde(context)), Value::from(Serde(special))];
    let tools = options.tools.as_deref().unwrap_or_default();
    let all = messages.iter().chain(tools).chain(options.variables.values());
    let load = Load { items: messages.len() + tools.len(), bytes: all.map(text_bytes).sum() };
    let text = language::render(source, options.now, merge_maps(layers), load)?;
    options.finish(text, messages)
}
