//! The field by which a request names a trajectory, and what becomes of its messages then.

use lb_model::{Content, Message};
use lb_session::{BriefConfig, Handoff, QuerySource, Task};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::Refusal;

/// `briefing` of a request: which trajectory the answer is about, and how it reaches the worker.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BriefingField {
    /// The trajectory's name.
    pub(crate) trajectory: Option<String>,
    /// Or a stored briefing's.
    pub(crate) object: Option<String>,
    /// `latent-briefing:keep=0.1`, `full-kv`, `bm25:0.1`, ...; a briefing by the defaults where it is missing.
    #[schema(value_type = Option<Object>)]
    handoff: Option<Value>,
}

impl BriefingField {
    pub(crate) fn names_handoff(&self) -> bool {
        self.handoff.as_ref().is_some_and(|handoff| !handoff.is_null())
    }

    pub(crate) fn handoff(&self) -> Result<Handoff, Refusal> {
        handoff("briefing.handoff", self.handoff.as_ref())
    }
}

/// A handoff as a request says it: as a text or as JSON. It names no file.
pub(crate) fn handoff(field: &str, said: Option<&Value>) -> Result<Handoff, Refusal> {
    let refused = |error: &dyn std::fmt::Display| Refusal::field(field, error);
    let handoff = match said {
        None | Some(Value::Null) => Handoff::default(),
        Some(Value::String(text)) => text.parse().map_err(|error: lb_session::Error| refused(&error))?,
        Some(other) => serde_json::from_value(other.clone()).map_err(|error| refused(&error))?,
    };
    handoff.validate().map_err(|error| refused(&error))?;
    if let Some(config) = handoff.brief_config() {
        bounded(field, config)?;
    }
    let lookahead = handoff.brief_config().and_then(|config| config.lookahead.as_ref());
    if lookahead.is_some_and(|lookahead| lookahead.learned.is_some()) {
        return Err(Refusal::unsupported(field, "a request names no file (`vectors=`)"));
    }
    Ok(handoff)
}

/// The last message is the question; what stands before it, the worker reads as a document that this call alone has.
pub(crate) fn task(messages: &[Message]) -> Result<Task, Refusal> {
    let Some((last, before)) = messages.split_last() else {
        return Err(Refusal::field("messages", "no message"));
    };
    if last.role != "user" {
        let field = format!("messages[{}].role", before.len());
        return Err(Refusal::field(field, "the last message is the question, of the user"));
    }
    let question = text(last);
    if question.trim().is_empty() {
        return Err(Refusal::field(format!("messages[{}].content", before.len()), "is empty"));
    }
    let said =
        before.iter().map(|message| (message, text(message))).filter(|(_, text)| !text.trim().is_empty());
    let lines: Vec<String> = said.map(|(message, text)| format!("{}: {text}", message.role)).collect();
    Ok(if lines.is_empty() { question.into() } else { Task::about(lines.join("\n"), question) })
}

fn text(message: &Message) -> String {
    match &message.content {
        None => String::new(),
        Some(Content::Text(text)) => text.clone(),
        Some(Content::Parts(parts)) => parts.iter().map(|part| part.text.as_str()).collect(),
        Some(Content::Data(data)) => data.to_string(),
    }
}

/// Tokens that the worker may write for a briefing; positions of a part at least. What takes longer holds up everybody.
const WRITTEN: usize = 1024;
const PART: usize = 64;

fn bounded(field: &str, config: &BriefConfig) -> Result<(), Refusal> {
    if let QuerySource::SelfStudy { prompts, max_new_tokens, .. } = &config.queries
        && prompts.len().saturating_mul(*max_new_tokens) > WRITTEN
    {
        let reason = format!("self-study of more than {WRITTEN} tokens in all");
        return Err(Refusal::unsupported(field, reason));
    }
    let draft = config.lookahead.as_ref().and_then(|lookahead| lookahead.draft);
    if draft.is_some_and(|draft| draft.tokens > WRITTEN) {
        return Err(Refusal::unsupported(field, format!("a draft of more than {WRITTEN} tokens")));
    }
    if config.chunking.is_some_and(|chunking| chunking.chunk_len < PART) {
        return Err(Refusal::unsupported(field, format!("parts of fewer than {PART} positions")));
    }
    Ok(())
}
