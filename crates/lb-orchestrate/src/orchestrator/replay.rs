//! The orchestrator's turns of an earlier run, word by word.

use super::{ChatRequest, Completion, Orchestrator};
use crate::log::{Iteration, RunRecord};
use crate::{Error, Result};

/// Says what the orchestrator of a recorded run said, turn by turn, with the tokens that it cost then. Under another
/// handoff only what the workers reply differs, and what the code makes of it.
#[derive(Clone, Debug)]
pub struct Replay {
    model: String,
    turns: std::vec::IntoIter<Completion>,
    recorded: usize,
}

impl Replay {
    /// Replays `record` from its beginning, recursive queries included.
    pub fn new(record: &RunRecord) -> Self {
        let mut turns = Vec::new();
        collect(&record.iterations, &mut turns);
        Self { model: record.metadata.root_model.clone(), recorded: turns.len(), turns: turns.into_iter() }
    }
}

/// The completions in the order in which they came about: those of a recursive query after that of the turn whose code
/// asked it.
fn collect(iterations: &[Iteration], turns: &mut Vec<Completion>) {
    for iteration in iterations.iter().filter(|iteration| iteration.stopped.is_none()) {
        turns.push(Completion {
            text: iteration.response.clone(),
            reasoning: iteration.reasoning.clone(),
            usage: iteration.usage,
            finish: iteration.finish.clone(),
            by_model: iteration.by_model.clone(),
        });
        let calls = iteration.code_blocks.iter().flat_map(|block| &block.result.rlm_calls);
        for child in calls.filter_map(|call| call.metadata.as_ref()) {
            collect(&child.iterations, turns);
        }
    }
}

impl Orchestrator for Replay {
    fn model(&self) -> &str {
        &self.model
    }

    fn backend(&self) -> &'static str {
        "replay"
    }

    /// # Errors
    /// [`Error::ReplayEnded`] after the last recorded turn.
    fn complete(&mut self, request: &ChatRequest<'_>) -> Result<Completion> {
        if request.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        self.turns.next().ok_or(Error::ReplayEnded { turns: self.recorded })
    }
}
