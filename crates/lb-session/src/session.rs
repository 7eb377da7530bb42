//! A worker with an orchestrator's trajectory in its cache.

use std::borrow::Cow;

use candle_core::Tensor;
use lb_model::{Captured, GenerateOptions, KvCache, PrefillOptions, Warning, Worker};

use crate::ask::Watch;
use crate::handoff::{Keeps, Notes};
use crate::ledger::TokenLedger;
use crate::prompt::Prompt;
use crate::queries::REQUEST;
use crate::{
    Ask, BoundaryPolicy, Error, Note, PromptFormat, Result, RoomPolicy, RoomReport, SharedCaches, Trajectory,
};

/// How a session behaves; see [`WorkerSession::with`].
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Which segments enter the cache.
    pub policy: BoundaryPolicy,
    /// The wording around them.
    pub format: PromptFormat,
    /// How answers are generated. Default: greedy.
    pub generate: GenerateOptions,
    /// How long inputs are read.
    pub prefill: PrefillOptions,
    /// What happens when the trajectory comes near the model's position limit. Default: it is refused.
    pub room: RoomPolicy,
    /// Calls of a batch that have a cache at the same time, at least 1. Default: 16.
    pub max_batch: usize,
    /// Caches in common with other sessions of the same worker and configuration. Default: none.
    pub shared: Option<SharedCaches>,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            policy: BoundaryPolicy::default(),
            format: PromptFormat::default(),
            generate: GenerateOptions::default(),
            prefill: PrefillOptions::default(),
            room: RoomPolicy::default(),
            max_batch: 16,
            shared: None,
        }
    }
}

/// A worker, the trajectory, and the full KV cache of what the policy lets in.
///
/// The cache grows by the new tokens only. A briefing is cut from it before each call and never changes it. Where the
/// session may make room ([`RoomPolicy::CompactOldest`]), the oldest part of the cache is a compacted one in the end.
#[derive(Debug)]
pub struct WorkerSession {
    pub(crate) worker: Worker,
    pub(crate) prompt: Prompt,
    pub(crate) config: SessionConfig,
    pub(crate) held: Held,
    pub(crate) text: Text,
    pub(crate) notes: Notes,
    pub(crate) keeps: Keeps,
    pub(crate) rooms: Vec<RoomReport>,
    pub(crate) trajectory: Trajectory,
    pub(crate) ledger: TokenLedger,
    /// What may end the call under way.
    pub(crate) watch: Watch,
}

/// The full cache. Slots, positions and tokens are the same in number.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) cache: KvCache,
    /// The tokens behind `cache`, template head first.
    pub(crate) tokens: Vec<u32>,
    /// Where the template's head, and then each segment in the cache, begins.
    pub(crate) starts: Vec<u32>,
}

impl Held {
    /// The same without copying the cache.
    pub(crate) fn fork(&self) -> Self {
        Self { cache: self.cache.fork(), tokens: self.tokens.clone(), starts: self.starts.clone() }
    }
}

/// All text that ever entered, as it was read.
#[derive(Debug)]
pub(crate) struct Text {
    /// Template head first.
    pub(crate) tokens: Vec<u32>,
    /// Where each segment begins, and its label.
    pub(crate) segments: Vec<(u32, Cow<'static, str>)>,
}

impl WorkerSession {
    /// A session with an empty trajectory. A worker without a chat template is given plain text to continue.
    ///
    /// # Errors
    /// [`Error::Config`] for a policy out of range, [`Error::Model`] where the chat template cannot be used or the
    /// template's head does not fit the model.
    pub fn with(worker: &Worker, config: SessionConfig) -> Result<Self> {
        config.policy.validate()?;
        config.generate.validate()?;
        if config.max_batch == 0 {
            return Err(Error::config("max_batch", 0, "want at least 1"));
        }
        let prompt = Prompt::new(worker, config.format.clone())?;
        let request = prompt.task(worker, &REQUEST.into(), &Watch::default())?.len();
        config.room.validate(worker.config().position_limit(), prompt.head.len(), request)?;
        let mut session = Self {
            held: Held { cache: worker.model().new_cache(), tokens: Vec::new(), starts: vec![0] },
            text: Text { tokens: prompt.head.clone(), segments: Vec::new() },
            worker: worker.clone(),
            notes: Notes::default(),
            keeps: Keeps::default(),
            rooms: Vec::new(),
            trajectory: Trajectory::new(),
            ledger: TokenLedger::default(),
            watch: Watch::default(),
            prompt,
            config,
        };
        let head = session.prompt.head.clone();
        session.read(&head, &mut |_, _| true)?;
        Ok(session)
    }

    /// The worker.
    pub fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Everything that was appended, also what the policy kept out of the cache.
    pub fn trajectory(&self) -> &Trajectory {
        &self.trajectory
    }

    /// The orchestrator's notes, in the order in which their keys were first used.
    pub fn notes(&self) -> &[Note] {
        &self.notes.0
    }

    /// What the calls cost so far.
    pub fn ledger(&self) -> &TokenLedger {
        &self.ledger
    }

    /// The full cache of the trajectory.
    pub fn cache(&self) -> &KvCache {
        &self.held.cache
    }

    /// Positions in the full cache, template head counted in.
    pub fn seq_len(&self) -> usize {
        self.held.tokens.len()
    }

    /// Whether nothing of the trajectory has entered the cache so far; then only handoffs that do without one answer.
    pub fn is_empty(&self) -> bool {
        self.held.tokens.len() <= self.prompt.head.len()
    }

    /// Positions of the template's head, before the first segment.
    pub fn head_len(&self) -> usize {
        self.prompt.head.len()
    }

    /// The tokens behind the full cache, template head first.
    pub fn tokens(&self) -> &[u32] {
        &self.held.tokens
    }

    /// The compactions of the oldest part that made room so far.
    pub fn room_reports(&self) -> &[RoomReport] {
        &self.rooms
    }

    pub(crate) fn check_trajectory(&self) -> Result<()> {
        if self.is_empty() { Err(Error::Empty { arg: "trajectory" }) } else { Ok(()) }
    }

    /// Runs one call under what may end it.
    pub(crate) fn watched<T>(
        &mut self,
        ask: &mut Ask<'_>,
        run: impl FnOnce(&mut Self, &mut Ask<'_>) -> Result<T>,
    ) -> Result<T> {
        ask.validate()?;
        self.watch = Watch::of(ask);
        let result = self.watch.check().and_then(|()| run(self, ask));
        let watch = std::mem::take(&mut self.watch);
        result.map_err(|error| watch.explain(error))
    }

    /// Reads `tokens` behind `cache`, until the call is ended.
    pub(crate) fn prefill(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        let mut go_on = |_, _| self.watch.goes_on();
        let (model, options) = (self.worker.model(), &self.config.prefill);
        let read = model.prefill_batch_while(&[tokens], &mut [cache], options, &mut go_on);
        Ok(read.map_err(alone)?.remove(0))
    }

    /// Reads `tokens` behind `cache` and hands out their queries, until the call is ended.
    pub(crate) fn capture(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Captured> {
        let mut go_on = |_, _| self.watch.goes_on();
        let (model, options) = (self.worker.model(), &self.config.prefill);
        let read = model.prefill_capturing_batch_while(&[tokens], &mut [cache], options, &mut go_on);
        Ok(read.map_err(alone)?.remove(0))
    }
}

/// The error of a batch of one.
pub(crate) fn alone(error: lb_model::Error) -> lb_model::Error {
    match error {
        lb_model::Error::Sequence { source, .. } => *source,
        other => other,
    }
}

/// Opens sessions on a worker.
pub trait OpenSession {
    /// A session with an empty trajectory and the defaults.
    ///
    /// # Errors
    /// Those of [`WorkerSession::with`].
    fn session(&self) -> Result<WorkerSession>;

    /// What the user of a session with this worker should know: the warnings of its checkpoint, and that a base model is
    /// given plain text.
    fn session_warnings(&self) -> Vec<Warning>;
}

impl OpenSession for Worker {
    fn session(&self) -> Result<WorkerSession> {
        WorkerSession::with(self, SessionConfig::default())
    }

    fn session_warnings(&self) -> Vec<Warning> {
        self.warnings().iter().cloned().chain(Prompt::warning(self)).collect()
    }
}
