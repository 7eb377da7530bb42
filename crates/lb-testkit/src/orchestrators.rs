//! Orchestrators whose turns are written out.

use lb_orchestrate::{ChatMessage, ChatRequest, Completion, Error, Orchestrator, Result, Usage};

/// Says one thing after the other, and remembers what it was shown. Each turn costs 100 tokens for each message, and 10.
pub struct Scripted {
    turns: std::vec::IntoIter<String>,
    /// What it was shown at each turn.
    pub seen: Vec<Vec<ChatMessage>>,
    /// Called before each turn with its number, from 0.
    pub before: Box<dyn FnMut(usize)>,
}

impl Scripted {
    /// Says these turns.
    pub fn new<S: Into<String>>(turns: impl IntoIterator<Item = S>) -> Self {
        let turns: Vec<String> = turns.into_iter().map(Into::into).collect();
        Self { turns: turns.into_iter(), seen: Vec::new(), before: Box::new(|_| {}) }
    }

    /// What it was shown last.
    pub fn last(&self) -> &str {
        &self.seen.last().unwrap().last().unwrap().content
    }

    /// What the REPL showed before turn `turn`, from 0.
    pub fn output(&self, turn: usize) -> &str {
        let messages = &self.seen[turn];
        &messages[messages.len() - 2].content
    }
}

impl Orchestrator for Scripted {
    fn model(&self) -> &'static str {
        "scripted"
    }

    fn backend(&self) -> &'static str {
        "program"
    }

    fn complete(&mut self, request: &ChatRequest<'_>) -> Result<Completion> {
        (self.before)(self.seen.len());
        if request.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        self.seen.push(request.messages.to_vec());
        let text = self.turns.next().ok_or_else(|| Error::Orchestrator("nothing left to say".into()))?;
        let usage = Usage { input: 100 * request.messages.len(), output: 10, ..Usage::default() };
        Ok(Completion { text, usage, ..Completion::default() })
    }
}
