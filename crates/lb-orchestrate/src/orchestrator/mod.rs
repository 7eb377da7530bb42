//! Who decides what happens next: a language model behind an API, a local one, a program, or the record of a run.

#[cfg(feature = "api")]
pub mod api;
mod fences;
mod form;
mod guard;
mod local;
mod program;
mod reader;
mod replay;
mod thoughts;

use std::time::Instant;

use lb_session::CancelToken;
use serde::{Deserialize, Serialize};

use crate::{ChainReport, ModelUse, Result};

pub(crate) use guard::TurnGuard;
pub use local::{LocalConfig, LocalOrchestrator, LocalThinking};
pub use program::{Program, ProgramResult, Script};
pub use reader::Reader;
pub use replay::Replay;

/// Something that works through a problem turn by turn: given the conversation so far, it writes the next turn, code for
/// the REPL in fences marked `repl` included.
pub trait Orchestrator {
    /// The model's name, as logs and price tables have it.
    fn model(&self) -> &str;

    /// The kind of orchestrator: `openai`, `anthropic`, `local`, `program`, `replay`.
    fn backend(&self) -> &'static str;

    /// The models that may say something, as price tables have them: the one, unless it is several.
    fn models(&self) -> Vec<&str> {
        vec![self.model()]
    }

    /// What each choice among several models came to; none where there is one model.
    fn choices(&self) -> Option<&ChainReport> {
        None
    }

    /// The next turn.
    ///
    /// # Errors
    /// Whatever keeps it from answering, after its own retries; [`Error::Cancelled`](crate::Error::Cancelled) where the
    /// request was called off, [`Error::Timeout`](crate::Error::Timeout) past its deadline.
    fn complete(&mut self, request: &ChatRequest<'_>) -> Result<Completion>;
}

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What holds for the whole conversation.
    System,
    /// Questions, and what the REPL printed.
    User,
    /// The orchestrator's turns.
    Assistant,
}

/// One message of the conversation with an orchestrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl ChatMessage {
    /// A message.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

/// What an orchestrator is asked for.
#[derive(Clone, Copy, Debug)]
pub struct ChatRequest<'a> {
    /// The conversation, oldest first. From turn to turn it only grows at its end.
    pub messages: &'a [ChatMessage],
    /// Most tokens of the turn; without a limit, what the orchestrator was configured with.
    pub max_tokens: Option<usize>,
    /// When the turn is no longer wanted.
    pub deadline: Option<Instant>,
    /// Calls the turn off.
    pub cancel: &'a CancelToken,
}

/// A turn of an orchestrator.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completion {
    /// What it says; thoughts are apart.
    pub text: String,
    /// Its thoughts, where the model shows them.
    pub reasoning: Option<String>,
    /// What it cost.
    pub usage: Usage,
    /// Why it ended.
    pub finish: Finish,
    /// Who was asked and what each cost, where there are several models; `usage` is the sum.
    pub by_model: Vec<ModelUse>,
}

/// Why a turn ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Finish {
    /// The model was done.
    #[default]
    Stop,
    /// It came to the limit of tokens; the text is cut.
    Length,
    /// Something else, in the API's own word: a content filter, a refusal.
    Other(String),
}

/// Tokens of an orchestrator's turn, or summed over turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// All tokens of the prompt, those read from or written to a cache counted in.
    pub input: usize,
    /// The part of `input` that was read from the provider's prompt cache (or a local model's own).
    pub cached: usize,
    /// The part of `input` that was written to the provider's prompt cache.
    pub cache_written: usize,
    /// All tokens that were generated, thoughts counted in.
    pub output: usize,
    /// The part of `output` that was thoughts, where the API tells.
    pub reasoning: usize,
    /// Replies without counts: the API gave none, or the reply broke off and was asked for again. What they cost is missing
    /// from the other counts.
    pub unreported: usize,
}

impl Usage {
    /// Everything that was read and generated.
    pub fn total(&self) -> usize {
        self.input.saturating_add(self.output)
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input = self.input.saturating_add(other.input);
        self.cached = self.cached.saturating_add(other.cached);
        self.cache_written = self.cache_written.saturating_add(other.cache_written);
        self.output = self.output.saturating_add(other.output);
        self.reasoning = self.reasoning.saturating_add(other.reasoning);
        self.unreported = self.unreported.saturating_add(other.unreported);
    }
}
