//! From a task to an answer, however the trajectory reaches the worker.

mod answerer;
mod ask;
mod call;
mod forced;
mod handed_text;
mod prepared;
mod run;

use std::time::Duration;

use lb_model::StopReason;

use crate::ledger::{CallRecord, CallTokens};
use crate::{Briefing, Chances, Renewed, Squeezed};

pub use ask::Ask;
pub use forced::Forced;
pub use handed_text::HandedText;
pub use prepared::Prepared;

/// What a worker answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The text, trimmed.
    pub text: String,
    /// Why it ended: at the limit of tokens or of the model's positions it is cut.
    pub stopped: StopReason,
    /// What it cost.
    pub tokens: CallTokens,
    /// What the worker thought of the choices, where [`Ask::weighing`] asked for that and it can be told.
    pub chances: Option<Chances>,
    /// From the call to the last token: reading the task and generating, without the briefing. In a batch, the time of
    /// the calls that were answered together.
    pub elapsed: Duration,
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// An answer with what the handoff did for it.
#[derive(Debug)]
pub struct Outcome {
    /// The answer.
    pub answer: Answer,
    /// Positions in the trajectory's place that the worker could attend to, template head counted in: slots of the cache,
    /// or tokens of text that was read anew.
    pub kept_len: usize,
    /// The same over all positions of the trajectory; 0 for [`Handoff::None`](crate::Handoff::None). Notes and summaries
    /// may pass 1.
    pub keep_ratio: f64,
    /// Time to make the selection, the summary or the briefing; zero where there is none.
    pub brief: Duration,
    /// The briefing, where the handoff made one.
    pub briefing: Option<Briefing>,
    /// Those that took its place while the answer was written, where the handoff renews it.
    pub renewals: Vec<Renewed>,
    /// Which message was handed over, where it was one of several ([`Handoff::Squeeze`](crate::Handoff::Squeeze)).
    pub squeezed: Option<Squeezed>,
    /// What a ledger has of it. A session has entered it; over a snapshot that is up to the caller.
    pub record: CallRecord,
}
