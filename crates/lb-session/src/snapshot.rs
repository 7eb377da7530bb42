//! A trajectory as it was at one moment, to brief and to answer from.

use std::sync::Arc;

use lb_am::Spans;
use lb_model::{KvCache, Worker};

use crate::answer::Ask;
use crate::briefing::{BriefConfig, Briefer, Briefing};
use crate::context::{Context, Reader, unit_starts};
use crate::handoff::Memo;
use crate::{Note, Result, Task};

/// What a worker has of a trajectory at one moment: full cache, tokens, text, notes. Nothing changes it, clones share it,
/// and any number of threads may brief and answer over it at once, each as it would alone.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// use lb_model::Worker;
/// use lb_session::{OpenSession, Outcome, Result, Segment};
///
/// let mut session = Worker::embedded()?.session()?;
/// session.extend(Segment::finding("The Oslo ledger is kept by Ana."))?;
/// let snapshot = &session.snapshot();
/// let outcomes: Vec<Result<Outcome>> = std::thread::scope(|scope| {
///     let tasks = ["Who keeps the Oslo ledger?", "What does Ana keep?"];
///     let threads = tasks.map(|task| scope.spawn(move || snapshot.ask(task).run()));
///     // Meanwhile.
///     session.extend(Segment::finding("The Oslo ledger has 40 pages."))?;
///     Ok::<_, lb_session::Error>(threads.into_iter().map(|thread| thread.join().unwrap()).collect())
/// })?;
/// for outcome in outcomes {
///     session.record(outcome?.record);
/// }
/// assert_eq!(session.ledger().calls().len(), 2);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Snapshot {
    context: Arc<Context>,
    memo: Arc<Memo>,
}

impl Snapshot {
    pub(crate) fn new(context: Context, memo: Arc<Memo>) -> Self {
        Self { context: Arc::new(context), memo }
    }

    /// Cuts a briefing for `task`: the full cache, compacted as `config` says, a [`Compaction`](lb_am::Compaction) or a
    /// [`BriefConfig`] with every choice there is.
    ///
    /// # Errors
    /// [`Error::Empty`](crate::Error::Empty) for an empty task or trajectory; [`Error::Compaction`](crate::Error::Compaction)
    /// and [`Error::Config`](crate::Error::Config) for what is out of range or does not go together;
    /// [`Error::Model`](crate::Error::Model) where the task, or the queries asked for, do not fit behind the trajectory.
    pub fn brief(&self, task: impl Into<Task>, config: impl Into<BriefConfig>) -> Result<Briefing> {
        self.briefer().brief(&task.into(), &config.into())
    }

    /// Cuts a briefing for each of `tasks`, in their order: those that [`brief`](Self::brief) cuts one by one, but for the
    /// order of summation in the passes. The tasks are read behind the trajectory together, as many at a time as
    /// [`SessionConfig::max_batch`](crate::SessionConfig::max_batch) says.
    ///
    /// Queries from elsewhere than the task, on-policy ones and chunks that are read on their own are made task by task.
    /// In [`Briefing::timing`] each has an equal share of what the batch took.
    ///
    /// ```
    /// # #[cfg(feature = "embedded")] {
    /// use lb_am::Compaction;
    /// use lb_model::Worker;
    /// use lb_session::{OpenSession, Segment};
    ///
    /// let mut session = Worker::embedded()?.session()?;
    /// session.extend(Segment::finding("The Oslo ledger is kept by Ana."))?;
    /// let tasks = ["Who keeps the Oslo ledger?", "What does Ana keep?"];
    /// let briefings = session.snapshot().brief_batch(tasks, Compaction::keep_ratio(0.5))?;
    /// let outcomes = session.ask_all(tasks).over(&briefings).run()?;
    /// assert_eq!(outcomes.len(), 2);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`brief`](Self::brief); what is wrong with one task is an [`Error::Call`](crate::Error::Call) with its number.
    pub fn brief_batch<T: Into<Task>>(
        &self,
        tasks: impl IntoIterator<Item = T>,
        config: impl Into<BriefConfig>,
    ) -> Result<Vec<Briefing>> {
        let tasks: Vec<Task> = tasks.into_iter().map(Into::into).collect();
        self.briefer().brief_batch(&tasks.iter().collect::<Vec<_>>(), &config.into())
    }

    /// A briefing of each configuration for one task, as [`brief`](Self::brief) makes them, to compare them. The task is
    /// read behind the full cache once for all that ask by it alone and score alike.
    ///
    /// # Errors
    /// Those of [`brief`](Self::brief).
    pub fn brief_each(&self, task: impl Into<Task>, configs: &[BriefConfig]) -> Result<Vec<Briefing>> {
        self.briefer().brief_each(&task.into(), configs)
    }

    /// Begins to ask the worker, see [`Ask`]. What the call costs is in [`Outcome::record`](crate::Outcome::record).
    pub fn ask(&self, task: impl Into<Task>) -> Ask<'_> {
        Ask::new(task.into(), &self.context, &self.memo, None)
    }

    /// The same for several tasks, which are answered together.
    pub fn ask_all<T: Into<Task>>(&self, tasks: impl IntoIterator<Item = T>) -> Ask<'_, Vec<Task>> {
        Ask::new(tasks.into_iter().map(Into::into).collect(), &self.context, &self.memo, None)
    }

    /// The worker.
    pub fn worker(&self) -> &Worker {
        self.context.worker()
    }

    /// The orchestrator's notes, in the order in which their keys were first used.
    pub fn notes(&self) -> &[Note] {
        &self.context.notes
    }

    /// The full cache of the trajectory.
    pub fn cache(&self) -> &KvCache {
        &self.context.full.cache
    }

    /// Positions in the full cache, template head counted in.
    pub fn seq_len(&self) -> usize {
        self.context.seq_len()
    }

    /// Whether the cache holds nothing of the trajectory; then only handoffs that do without one answer.
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

    /// The tokens that a task is read as, behind the trajectory: question and template tail.
    ///
    /// # Errors
    /// [`Error::Empty`](crate::Error::Empty) for an empty task, [`Error::Model`](crate::Error::Model).
    pub fn task_tokens(&self, task: impl Into<Task>) -> Result<Vec<u32>> {
        Reader::unguarded(&self.context).task_tokens(&task.into())
    }

    /// Positions at which the units of the trajectory's text begin, where `spans` are units.
    pub fn unit_starts(&self, spans: Spans) -> Option<Vec<u32>> {
        unit_starts(&self.context, spans, 0, self.seq_len())
    }

    fn briefer(&self) -> Briefer<'_> {
        Briefer::new(Reader::unguarded(&self.context))
    }
}
