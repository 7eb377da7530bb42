//! Orchestrators that are programs: a closure, and a fixed list of replies.

use std::collections::VecDeque;
use std::error::Error as StdError;

use super::guard::TurnGuard;
use super::{ChatMessage, ChatRequest, Completion, Orchestrator};
use crate::{Error, Result};

/// What a program that orchestrates returns.
pub type ProgramResult = std::result::Result<String, Box<dyn StdError + Send + Sync>>;

/// A closure that writes the turns: from the conversation so far, oldest message first, to the next turn's text.
pub struct Program<F> {
    name: String,
    write: F,
}

impl<F: FnMut(&[ChatMessage]) -> ProgramResult> Program<F> {
    /// An orchestrator named `program`.
    pub fn new(write: F) -> Self {
        Self { name: "program".to_string(), write }
    }

    /// Names it; logs and price tables know it by this name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }
}

impl<F> std::fmt::Debug for Program<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<F: FnMut(&[ChatMessage]) -> ProgramResult> Orchestrator for Program<F> {
    fn model(&self) -> &str {
        &self.name
    }

    fn backend(&self) -> &'static str {
        "program"
    }

    fn complete(&mut self, request: &ChatRequest<'_>) -> Result<Completion> {
        TurnGuard::of(request).check()?;
        let text = (self.write)(request.messages).map_err(Error::Orchestrator)?;
        Ok(Completion { text, ..Completion::default() })
    }
}

/// A fixed list of replies, given one after the other whatever is asked.
#[derive(Clone, Debug)]
pub struct Script {
    name: String,
    replies: usize,
    left: VecDeque<String>,
}

impl Script {
    /// An orchestrator named `script`.
    pub fn new(replies: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let left: VecDeque<String> = replies.into_iter().map(Into::into).collect();
        Self { name: "script".to_string(), replies: left.len(), left }
    }

    /// Names it; logs and price tables know it by this name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }
}

impl Orchestrator for Script {
    fn model(&self) -> &str {
        &self.name
    }

    fn backend(&self) -> &'static str {
        "program"
    }

    /// # Errors
    /// [`Error::ScriptEnded`] when all replies were given.
    fn complete(&mut self, request: &ChatRequest<'_>) -> Result<Completion> {
        TurnGuard::of(request).check()?;
        let text = self.left.pop_front().ok_or(Error::ScriptEnded { replies: self.replies })?;
        Ok(Completion { text, ..Completion::default() })
    }
}
