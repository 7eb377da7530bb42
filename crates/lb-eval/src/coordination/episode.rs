//! What several agents did about one task, turn by turn.

use lb_session::Segment;
use serde::{Deserialize, Serialize};

use crate::logs::Decision;

/// What several agents did about one task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Episode {
    /// Unique within its data.
    pub id: String,
    /// What they were to do; empty where the data does not say.
    pub task: String,
    /// What was said to all, oldest first; empty where each turn has a context of its own.
    pub transcript: Vec<Segment>,
    /// Who wrote what, in order.
    pub turns: Vec<Turn>,
    /// How it ended.
    pub outcome: Option<Outcome>,
}

/// One message of one agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turn {
    /// Who wrote it.
    pub agent: String,
    /// In which part of the work: `plan`, `search`, `review`.
    pub phase: Option<String>,
    /// What the agent was given.
    pub context: Given,
    /// What it was asked for; empty where the data does not say.
    pub instruction: String,
    /// What it wrote.
    pub response: String,
    /// Tokens as they were recorded, by the tokenizer of the time.
    pub tokens: RecordedTokens,
    /// What is decided in the response, where that is known.
    pub decisions: Vec<Decision>,
}

/// What an agent was given.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    /// So many segments of the episode's transcript.
    Shared(usize),
    /// Segments of its own.
    Own(Vec<Segment>),
}

impl Default for Given {
    fn default() -> Self {
        Self::Shared(0)
    }
}

/// Tokens of a turn as they were recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordedTokens {
    /// Of all that the agent read.
    pub input: Option<usize>,
    /// Of all that it wrote.
    pub output: Option<usize>,
}

/// How an episode ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// From 0, wrong, to 1, right.
    pub score: Option<f64>,
    /// What came out.
    pub answer: Option<String>,
    /// What would be right.
    pub expected: Option<String>,
    /// Who judged.
    pub judge: Option<String>,
}

impl Episode {
    /// What the agent of `turn` was given.
    pub fn context<'a>(&'a self, turn: &'a Turn) -> &'a [Segment] {
        match &turn.context {
            Given::Shared(count) => &self.transcript[..(*count).min(self.transcript.len())],
            Given::Own(segments) => segments,
        }
    }
}
