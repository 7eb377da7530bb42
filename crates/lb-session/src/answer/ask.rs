//! A question on its way: through which handoff, until when, who hears the answer.

use std::fmt;
use std::time::{Duration, Instant};

use lb_model::GenerateOptions;

use super::answerer::Answerer;
use super::call::Through;
use crate::context::{Context, Reader};
use crate::guard::Guard;
use crate::handoff::Memo;
use crate::{Briefing, CancelToken, Choices, Handoff, Task, TokenLedger};

/// A task, or a list of tasks, on its way to the worker: [`ask`](crate::Snapshot::ask) begins it, [`run`](Self::run) answers
/// it.
///
/// Where nothing else is said, the trajectory reaches the worker through [`Handoff::default`], a briefing by the default
/// [`BriefConfig`](crate::BriefConfig) that is cut for the task, and the answer ends where the session's configuration says.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// use std::time::Duration;
///
/// use lb_am::Compaction;
/// use lb_model::Worker;
/// use lb_session::{Handoff, OpenSession, Segment};
///
/// let mut session = Worker::embedded()?.session()?;
/// session.extend(Segment::finding("The Oslo ledger is kept by Ana."))?;
/// let task = "Who keeps the Oslo ledger?";
/// let outcome = session.ask(task).via(Compaction::keep_ratio(0.5)).timeout(Duration::from_secs(60)).run()?;
/// assert!(outcome.kept_len < session.seq_len());
/// let mut heard = String::new();
/// let full = session.ask(task).via(Handoff::FullKv).at_most(20).stream(|text| {
///     heard.push_str(text);
///     true
/// });
/// assert_eq!(full.run()?.answer.text, heard.trim());
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing is asked before `run`"]
pub struct Ask<'a, T = Task> {
    pub(super) asked: T,
    pub(super) plan: Plan<'a>,
}

/// Hears the number of a task and a piece of its answer; false stops that answer there.
type OnText<'a> = Box<dyn FnMut(usize, &str) -> bool + 'a>;

/// Where a task is asked, and how.
pub(super) struct Plan<'a> {
    pub(super) context: &'a Context,
    pub(super) memo: &'a Memo,
    /// Where the calls are entered.
    pub(super) ledger: Option<&'a mut TokenLedger>,
    pub(super) through: Through<'a>,
    pub(super) on_text: Option<OnText<'a>>,
    cancel: Option<&'a CancelToken>,
    deadline: Option<Instant>,
    timeout: Option<Duration>,
    max_new_tokens: Option<usize>,
    generate: Option<GenerateOptions>,
    choices: Option<&'a Choices>,
}

impl<'a, T> Ask<'a, T> {
    pub(crate) fn new(
        asked: T,
        context: &'a Context,
        memo: &'a Memo,
        ledger: Option<&'a mut TokenLedger>,
    ) -> Self {
        let through = Through::Handoff(Handoff::default());
        let plan = Plan {
            context,
            memo,
            ledger,
            through,
            on_text: None,
            cancel: None,
            deadline: None,
            timeout: None,
            max_new_tokens: None,
            generate: None,
            choices: None,
        };
        Self { asked, plan }
    }

    /// How the trajectory reaches the worker: a [`Handoff`], or a [`Compaction`](lb_am::Compaction) or
    /// [`BriefConfig`](crate::BriefConfig) for a briefing by it. Takes the place of briefings that were named before.
    pub fn via(mut self, handoff: impl Into<Handoff>) -> Self {
        self.plan.through = Through::Handoff(handoff.into());
        self
    }

    /// When the answer is no longer wanted: between the passes that read, and at each token of an answer. Of several
    /// deadlines and [`timeout`](Self::timeout) the earliest holds.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.plan.deadline = Some(self.plan.deadline.map_or(deadline, |other| other.min(deadline)));
        self
    }

    /// How long the call may take, counted from [`run`](Self::run).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.plan.timeout = Some(self.plan.timeout.map_or(timeout, |other| other.min(timeout)));
        self
    }

    /// What calls the call off, at the same places as a [`deadline`](Self::deadline).
    pub fn cancelled_by(mut self, cancel: &'a CancelToken) -> Self {
        self.plan.cancel = Some(cancel);
        self
    }

    /// Tokens of an answer at most, at least 1, instead of what the session was configured with.
    pub fn at_most(mut self, max_new_tokens: usize) -> Self {
        self.plan.max_new_tokens = Some(max_new_tokens);
        self
    }

    /// How the answer is generated, instead of as the session was configured; [`at_most`](Self::at_most) has the last word on its length.
    pub fn generating(mut self, options: GenerateOptions) -> Self {
        self.plan.generate = Some(options);
        self
    }

    /// Reads the chances of these choices as well, before the answer is written.
    pub fn weighing(mut self, choices: &'a Choices) -> Self {
        self.plan.choices = Some(choices);
        self
    }
}

impl<'a> Ask<'a, Task> {
    /// Answers over a briefing that is there already, instead of through a handoff.
    pub fn over(mut self, briefing: &'a Briefing) -> Self {
        self.plan.through = Through::Briefings(vec![briefing]);
        self
    }

    /// Who hears the answer as it comes; false stops it there.
    pub fn stream(mut self, mut on_text: impl FnMut(&str) -> bool + 'a) -> Self {
        self.plan.on_text = Some(Box::new(move |_, text| on_text(text)));
        self
    }
}

impl<'a> Ask<'a, Vec<Task>> {
    /// Answers each task over the briefing in its place, instead of through a handoff; one may serve several tasks.
    pub fn over(mut self, briefings: impl IntoIterator<Item = &'a Briefing>) -> Self {
        self.plan.through = Through::Briefings(briefings.into_iter().collect());
        self
    }

    /// Who hears the answers as they come, each piece with the number of its task from 0; false stops that answer there.
    pub fn stream(mut self, on_text: impl FnMut(usize, &str) -> bool + 'a) -> Self {
        self.plan.on_text = Some(Box::new(on_text));
        self
    }
}

impl Plan<'_> {
    /// For a call that begins now.
    pub(super) fn guard(&self) -> Guard {
        let timeout = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Guard::new(self.cancel.cloned(), self.deadline.into_iter().chain(timeout).min())
    }

    pub(super) fn answerer<'b>(&'b self, guard: &'b Guard, tasks: &'b [Task]) -> Answerer<'b> {
        Answerer {
            reader: Reader::new(self.context, guard),
            memo: self.memo,
            tasks,
            through: &self.through,
            max_new_tokens: self.max_new_tokens,
            generate: self.generate.as_ref(),
            choices: self.choices,
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Ask<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = &self.plan;
        let through = match &plan.through {
            Through::Handoff(handoff) => handoff.name(),
            Through::Briefings(_) => "briefings",
        };
        f.debug_struct("Ask")
            .field("asked", &self.asked)
            .field("through", &through)
            .field("cancel", &plan.cancel)
            .field("deadline", &plan.deadline)
            .field("timeout", &plan.timeout)
            .field("max_new_tokens", &plan.max_new_tokens)
            .field("generate", &plan.generate)
            .field("choices", &plan.choices)
            .field("on_text", &plan.on_text.is_some())
            .finish_non_exhaustive()
    }
}
