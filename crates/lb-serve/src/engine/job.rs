//! What the engine is asked to do, and what is heard of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_model::{GenerateOptions, StopReason};
use lb_session::{BriefConfig, CancelToken, Handoff, Segment, Task};
use serde::Serialize;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use utoipa::ToSchema;

use super::{CallOff, Listening};
use crate::http::Fetched;
use crate::trajectories::Trajectory;
use crate::{Refusal, Tenant};

/// Something to do.
pub(crate) struct Job {
    pub(crate) work: Work,
    pub(crate) cancel: CancelToken,
    pub(crate) until: Instant,
    /// How long it may take in all.
    pub(crate) allowed: Duration,
    pub(crate) events: UnboundedSender<Event>,
    pub(crate) tenant: Tenant,
    /// The request that it belongs to.
    pub(crate) span: tracing::Span,
}

/// What.
pub(crate) enum Work {
    /// Go on with a prompt.
    Complete { prompt: Vec<u32>, spoken: Spoken },
    /// Answer a task about a trajectory.
    Ask { trajectory: Arc<Trajectory>, task: Task, handoff: Handoff, spoken: Spoken },
    /// Answer a task over a briefing that lies in a file.
    Over { briefing: Fetched, task: Task, spoken: Spoken },
    /// Make a briefing and write it to a file.
    Brief { trajectory: Arc<Trajectory>, task: Task, config: Box<BriefConfig>, file: PathBuf },
    /// Read segments behind a trajectory.
    Extend { trajectory: Arc<Trajectory>, segments: Vec<Segment> },
    /// Make the trajectory's session there, from what is stored or from its text.
    Open { trajectory: Arc<Trajectory> },
    /// A trajectory that goes on from another.
    Fork { from: Arc<Trajectory>, into: Arc<Trajectory> },
    /// Write a trajectory's cache down and take it out of memory.
    Rest { trajectory: Arc<Trajectory> },
}

/// How an answer is to be written.
#[derive(Clone, Debug)]
pub(crate) struct Spoken {
    pub(crate) options: GenerateOptions,
    /// How many answers.
    pub(crate) choices: usize,
    /// Texts that end it.
    pub(crate) stops: Vec<String>,
    /// Log-probabilities of each token and of so many of the likeliest.
    pub(crate) log_probs: Option<usize>,
    /// Tokens are told by number, each as it is written.
    pub(crate) by_number: bool,
    /// What of an answer about a trajectory is there already; it is gone on with.
    pub(crate) written: Vec<u32>,
}

/// What is heard.
#[derive(Debug)]
pub(crate) enum Event {
    /// Reading is done; what it cost.
    Begun(Box<Usage>),
    /// A piece of an answer; `ids` where tokens are told by number.
    Text { choice: usize, text: String, tokens: Vec<Told>, ids: Vec<u32> },
    /// An answer has ended; tokens that it has.
    Ended { choice: usize, finish: Finish, generated: usize },
    /// Something without an answer is done: tokens that entered, and those left out, of each segment.
    Done { entered: Vec<(usize, usize)> },
    /// A briefing is in its file.
    Made(Box<Usage>),
    /// It cannot be done.
    Refused(Refusal),
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model said so.
    End,
    /// This text, one of those that end it, came.
    Stop(String),
    /// The limit of tokens, or of the model's positions.
    Length,
}

impl Finish {
    /// Of an answer that came upon a text which ends it, or stopped for this reason.
    pub(crate) fn of(hit: Option<String>, stopped: StopReason) -> Self {
        match (hit, stopped) {
            (Some(stop), _) => Self::Stop(stop),
            (None, StopReason::MaxTokens | StopReason::ContextFull) => Self::Length,
            (None, _) => Self::End,
        }
    }
}

/// A token that was written, for who asked for its log-probability.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) token: Piece,
    pub(crate) log_prob: f32,
    pub(crate) likeliest: Vec<(Piece, f32)>,
}

/// A token by number and text.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) id: u32,
    pub(crate) text: String,
}

/// What a call cost, in the terms of a ledger.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[non_exhaustive]
pub struct Usage {
    /// How the trajectory reached the worker; `prompt` for a plain request.
    pub handoff: String,
    /// Positions in the worker's context when it begins to answer.
    pub attended: usize,
    /// Tokens that were computed for this call before the answer.
    pub prefilled: usize,
    /// Positions that are attended to without having been computed for it.
    pub reused: usize,
    /// Positions of the trajectory that the handoff had to choose from.
    pub seq_len: usize,
    /// Positions in their place.
    pub kept: usize,
    /// Milliseconds that the selection or the briefing took.
    pub brief_ms: f64,
    /// Milliseconds from the beginning of the work to the first token.
    pub read_ms: f64,
    /// Milliseconds that the request waited before.
    pub waited_ms: f64,
}

impl Job {
    pub(crate) fn new(tenant: Tenant, work: Work, allowed: Duration) -> (Self, Listening) {
        let (events, heard) = unbounded_channel();
        let cancel = CancelToken::new();
        let until = Instant::now() + allowed;
        let listening = Listening { events: heard, hold: CallOff(cancel.clone()) };
        let span = tracing::Span::current();
        (Self { work, cancel, until, allowed, events, tenant, span }, listening)
    }

    pub(crate) fn tell(&self, event: Event) {
        // Who has gone hears nothing.
        let _ = self.events.send(event);
    }
}
