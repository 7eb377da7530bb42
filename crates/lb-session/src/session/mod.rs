//! A worker with an orchestrator's trajectory in its cache, while the trajectory grows.

mod config;
mod entering;
mod extend;
mod policy;
mod room;
mod shared;
mod stored;

use std::sync::Arc;

use lb_am::Spans;
use lb_model::{KvCache, Warning, Worker};

use crate::answer::Ask;
use crate::briefing::{BriefConfig, Briefer, Briefing};
use crate::context::{Context, Reader, Settings, unit_starts};
use crate::handoff::Last;
use crate::handoff::Memo;
use crate::ledger::TokenLedger;
use crate::prompt::{self, PromptEncoder};
use crate::queries::REQUEST;
use crate::snapshot::Snapshot;
use crate::trajectory::note;
use crate::{CallRecord, Error, Note, Result, Segment, Task, Trajectory};

pub use config::SessionConfig;
pub use extend::{Extended, SegmentEntered};
pub use policy::BoundaryPolicy;
pub use room::{CompactOldest, RoomFit, RoomPolicy, RoomReport};
pub use shared::SharedCaches;

/// A worker, the trajectory, and the full KV cache of what the policy lets in.
///
/// The cache grows by the new tokens only. Briefings and answers never change it, and what they cost is entered into the
/// session's ledger. Where the session may make room ([`RoomPolicy::CompactOldest`]), the oldest part of the cache is a
/// compacted one in the end. A [`snapshot`](Self::snapshot) briefs and answers as the session does, from as many threads as
/// there are, while the session goes on.
#[derive(Debug)]
pub struct WorkerSession {
    context: Context,
    memo: Arc<Memo>,
    config: SessionConfig,
    trajectory: Trajectory,
    rooms: Vec<RoomReport>,
    ledger: TokenLedger,
}

impl WorkerSession {
    /// A session with an empty trajectory. A worker without a chat template is given plain text to continue.
    ///
    /// # Errors
    /// [`Error::Config`] for a policy out of range, [`Error::Model`] where the chat template cannot be used or the
    /// template's head does not fit the model.
    pub fn with(worker: &Worker, config: SessionConfig) -> Result<Self> {
        config.validate()?;
        let mut context = Context::new(Settings {
            worker: worker.clone(),
            prompt: PromptEncoder::new(worker, config.format.clone())?,
            generate: config.generate.clone(),
            lookup: config.lookup,
            prefill: config.prefill,
            max_batch: config.max_batch,
            vectors: Last::default(),
        });
        let request = Reader::unguarded(&context).task_tokens(&REQUEST.into())?.len();
        config.room.validate(worker.config().position_limit(), context.head().len(), request)?;
        let (head, mut ledger) = (context.head().to_vec(), TokenLedger::default());
        let reading = extend::read(&mut context, &config, &head, &mut |_, _| true)?;
        ledger.extend(head.len(), reading);
        let (memo, trajectory, rooms) = (Arc::default(), Trajectory::new(), Vec::new());
        Ok(Self { context, memo, config, trajectory, rooms, ledger })
    }

    /// Appends a segment; the result says how many of its tokens entered the cache and how many were left out.
    ///
    /// # Errors
    /// [`Error::Empty`] for a segment without text; [`Error::NoRoom`] where the trajectory would pass the model's
    /// position limit and the [`RoomPolicy`] refuses that. Trajectory and cache are unchanged then.
    pub fn extend(&mut self, segment: Segment) -> Result<Extended> {
        self.extend_while([segment], &mut |_, _| true)
    }

    /// Like [`extend`](Self::extend); `progress` hears tokens read and tokens to read.
    ///
    /// # Errors
    /// Those of [`extend`](Self::extend).
    pub fn extend_with(
        &mut self,
        segment: Segment,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Extended> {
        self.extend_all([segment], progress)
    }

    /// Appends many segments; their tokens are read in as few passes as the chunk size allows.
    ///
    /// # Errors
    /// Those of [`extend`](Self::extend); nothing is appended then.
    pub fn extend_all(
        &mut self,
        segments: impl IntoIterator<Item = Segment>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Extended> {
        self.extend_while(segments, &mut |done, all| {
            progress(done, all);
            true
        })
    }

    /// Like [`extend_all`](Self::extend_all); where `go_on` returns false, nothing is appended. It is asked after every pass,
    /// and every few milliseconds while long texts become tokens, their number guessed from their bytes.
    ///
    /// # Errors
    /// Those of [`extend`](Self::extend), [`Error::Cancelled`] where `go_on` said so before the last pass.
    pub fn extend_while(
        &mut self,
        segments: impl IntoIterator<Item = Segment>,
        go_on: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Extended> {
        let segments: Vec<Segment> = segments.into_iter().collect();
        let (context, config) = (&mut self.context, &self.config);
        let (entering, segments_entered) =
            extend::encode(context, config, &segments, go_on).map_err(called_off)?;
        let mut extended = Extended { segments: segments_entered, room: Vec::new() };
        if !entering.tokens.is_empty() {
            let entered = extend::enter(context, config, &entering, go_on).map_err(called_off)?;
            self.memo = Arc::default();
            self.ledger.extend(entering.tokens.len(), entered.reading);
            for room in &entered.room {
                self.ledger.make_room(room.read, room.elapsed);
            }
            self.rooms.extend(&entered.room);
            extended.room = entered.room;
        }
        for segment in segments {
            self.trajectory.push(segment);
        }
        Ok(extended)
    }

    /// Keeps a note for [`Handoff::Notes`](crate::Handoff::Notes). It replaces an earlier one of the same key and takes its
    /// place; without a key, and behind a new one, it comes last. The trajectory and its cache know nothing of it.
    ///
    /// # Errors
    /// [`Error::Empty`] for a text, or a key, that says nothing.
    pub fn note(&mut self, key: Option<&str>, text: impl Into<String>) -> Result<()> {
        note::keep(Arc::make_mut(&mut self.context.notes), key, text.into())
    }

    /// What the worker has of the trajectory now. It stays as it is while the session goes on, and copies nothing.
    ///
    /// Its cache shares memory with the session's, which writes behind it. While snapshots are asked by tasks of a rayon
    /// pool, let the session grow outside of that pool: a thread of the pool that holds the memory for reading may take up
    /// the task that wants to write to it, and would wait for itself.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.context.fork(), self.memo.clone())
    }

    /// A session of its own that goes on from here. They share what is read until now, and nothing is copied; the ledger of the new one
    /// is empty.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self {
            context: self.context.fork(),
            memo: self.memo.clone(),
            config: self.config.clone(),
            trajectory: self.trajectory.clone(),
            rooms: self.rooms.clone(),
            ledger: TokenLedger::default(),
        }
    }

    /// Like [`Snapshot::brief`].
    ///
    /// # Errors
    /// Those of [`Snapshot::brief`].
    pub fn brief(&self, task: impl Into<Task>, config: impl Into<BriefConfig>) -> Result<Briefing> {
        self.briefer().brief(&task.into(), &config.into())
    }

    /// Like [`Snapshot::brief_batch`].
    ///
    /// # Errors
    /// Those of [`Snapshot::brief_batch`].
    pub fn brief_batch<T: Into<Task>>(
        &self,
        tasks: impl IntoIterator<Item = T>,
        config: impl Into<BriefConfig>,
    ) -> Result<Vec<Briefing>> {
        let tasks: Vec<Task> = tasks.into_iter().map(Into::into).collect();
        self.briefer().brief_batch(&tasks.iter().collect::<Vec<_>>(), &config.into())
    }

    /// Like [`Snapshot::brief_each`].
    ///
    /// # Errors
    /// Those of [`Snapshot::brief_each`].
    pub fn brief_each(&self, task: impl Into<Task>, configs: &[BriefConfig]) -> Result<Vec<Briefing>> {
        self.briefer().brief_each(&task.into(), configs)
    }

    /// Begins to ask the worker, see [`Ask`]; the call is entered into the session's [`ledger`](Self::ledger).
    pub fn ask(&mut self, task: impl Into<Task>) -> Ask<'_> {
        Ask::new(task.into(), &self.context, &self.memo, Some(&mut self.ledger))
    }

    /// The same for several tasks, which are answered together.
    pub fn ask_all<T: Into<Task>>(&mut self, tasks: impl IntoIterator<Item = T>) -> Ask<'_, Vec<Task>> {
        let tasks = tasks.into_iter().map(Into::into).collect();
        Ask::new(tasks, &self.context, &self.memo, Some(&mut self.ledger))
    }

    /// Enters a call into the ledger that was answered over a [`snapshot`](Self::snapshot).
    pub fn record(&mut self, call: CallRecord) {
        self.ledger.record(call);
    }

    /// The worker.
    pub fn worker(&self) -> &Worker {
        self.context.worker()
    }

    /// Everything that was appended, also what the policy kept out of the cache.
    pub fn trajectory(&self) -> &Trajectory {
        &self.trajectory
    }

    /// The orchestrator's notes, in the order in which their keys were first used.
    pub fn notes(&self) -> &[Note] {
        &self.context.notes
    }

    /// What the calls cost so far.
    pub fn ledger(&self) -> &TokenLedger {
        &self.ledger
    }

    /// The full cache of the trajectory.
    pub fn cache(&self) -> &KvCache {
        &self.context.full.cache
    }

    /// Positions in the full cache, template head counted in.
    pub fn seq_len(&self) -> usize {
        self.context.seq_len()
    }

    /// Whether nothing of the trajectory has entered the cache so far; then only handoffs that do without one answer.
    pub fn is_empty(&self) -> bool {
        self.context.is_empty()
    }

    /// Positions of the template's head, before the first segment.
    pub fn head_len(&self) -> usize {
        self.context.head().len()
    }

    /// The tokens behind the full cache, template head first.
    pub fn tokens(&self) -> &[u32] {
        &self.context.full.tokens
    }

    /// The compactions of the oldest part that made room so far.
    pub fn room_reports(&self) -> &[RoomReport] {
        &self.rooms
    }

    /// Like [`Snapshot::task_tokens`].
    ///
    /// # Errors
    /// Those of [`Snapshot::task_tokens`].
    pub fn task_tokens(&self, task: impl Into<Task>) -> Result<Vec<u32>> {
        Reader::unguarded(&self.context).task_tokens(&task.into())
    }

    /// Like [`Snapshot::unit_starts`].
    pub fn unit_starts(&self, spans: Spans) -> Option<Vec<u32>> {
        unit_starts(&self.context, spans, 0, self.seq_len())
    }

    fn briefer(&self) -> Briefer<'_> {
        Briefer::new(Reader::unguarded(&self.context))
    }
}

fn called_off(error: Error) -> Error {
    match error {
        Error::Model(lb_model::Error::Interrupted) => Error::Cancelled,
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
        self.warnings().iter().cloned().chain(prompt::warning(self)).collect()
    }
}
