//! Orchestrators whose turns are written out.

use latent_briefing::orchestrate::{
    ChatMessage, ChatRequest, Completion, Error, Orchestrator, Result, Usage,
};

/// The sandbox with the program that was built for the tests.
#[cfg(feature = "monty")]
pub(crate) fn monty() -> Result<Box<dyn latent_briefing::sandbox::Repl>> {
    use latent_briefing::sandbox::{MontyConfig, MontyRepl};
    let worker = Some(env!("CARGO_BIN_EXE_lb-repl").into());
    Ok(Box::new(MontyRepl::start(&MontyConfig { worker, ..MontyConfig::default() })?))
}

/// Says one thing after the other, and remembers what it was shown. Each turn costs 100 tokens for each message, and 10.
pub(crate) struct Scripted {
    turns: std::vec::IntoIter<String>,
    pub(crate) seen: Vec<Vec<ChatMessage>>,
    pub(crate) before: Box<dyn FnMut(usize)>,
}

impl Scripted {
    pub(crate) fn new<S: Into<String>>(turns: impl IntoIterator<Item = S>) -> Self {
        let turns: Vec<String> = turns.into_iter().map(Into::into).collect();
        Self { turns: turns.into_iter(), seen: Vec::new(), before: Box::new(|_| {}) }
    }

    /// What it was shown last.
    pub(crate) fn last(&self) -> &str {
        &self.seen.last().unwrap().last().unwrap().content
    }

    /// What the REPL showed before turn `turn`, from 0.
    pub(crate) fn output(&self, turn: usize) -> &str {
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
