//! What turns, calls and recursive queries of one run share.

use std::sync::Arc;
use std::time::Instant;

use lb_model::Tokenizer;
use lb_sandbox::Repl;
use lb_session::{Segment, Source, WorkerSession};

use crate::log::Entered;
use crate::policy::monitor::Alarm;
use crate::rlm::RlmConfig;
use crate::rlm::ledger::Books;
use crate::rlm::limits::Phase;
use crate::{Alert, Error, Limit, Result, TrajectoryManager};

/// Opens a REPL.
pub(super) type OpenRepl = Arc<dyn Fn() -> lb_sandbox::Result<Box<dyn Repl>> + Send + Sync>;

/// The worker with the trajectory, the books, and how the run is set up.
pub(super) struct Shared {
    pub(super) session: WorkerSession,
    pub(super) books: Books,
    pub(super) config: RlmConfig,
    pub(super) open_repl: OpenRepl,
    pub(super) depth: usize,
    /// Since when the books do not have the time.
    pub(super) since: Instant,
    /// What of a segment enters the trajectory.
    pub(super) manager: TrajectoryManager,
    /// Texts that pointers name and the REPL does not have yet.
    pub(super) shelved: Vec<(String, String)>,
    pub(super) alarm: Alarm,
    /// Findings that were noted.
    pub(super) findings: usize,
}

impl Shared {
    /// Whether recursive queries are loops of their own.
    pub(super) fn recursive(&self) -> bool {
        self.depth + 1 < self.config.limits.depth
    }

    /// Puts the time until now into the books.
    pub(super) fn tick(&mut self) {
        let now = Instant::now();
        self.books.ledger.elapsed_s += now.duration_since(self.since).as_secs_f64();
        self.since = now;
    }

    /// The first limit of `phases` that is reached.
    pub(super) fn broken(&mut self, phases: &[Phase]) -> Option<Limit> {
        self.tick();
        let (limits, ledger) = (&self.config.limits, &self.books.ledger);
        phases.iter().find_map(|phase| match phase {
            Phase::Run => limits.run.broken_by(&ledger.spent(), *phase),
            Phase::Orchestrator => limits.orchestrator.broken_by(&ledger.spent_orchestrating(), *phase),
            Phase::Worker => limits.worker.broken_by(&ledger.spent_working(), *phase),
            Phase::Sandbox => limits.sandbox.broken_by(&ledger.spent_in_sandbox(), *phase),
        })
    }

    /// When the run has to be over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let left = self.config.limits.run.time?.saturating_sub(self.books.ledger.spent().time);
        self.since.checked_add(left)
    }

    pub(super) fn out_of_time(&self) -> bool {
        self.deadline().is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Shares of budgets that have gone since it was asked last.
    pub(super) fn alerts(&mut self) -> Vec<Alert> {
        self.tick();
        let (limits, ledger, alerts) = (&self.config.limits, &self.books.ledger, &self.config.alerts);
        let budgets = [
            (Phase::Run, &limits.run, ledger.spent()),
            (Phase::Orchestrator, &limits.orchestrator, ledger.spent_orchestrating()),
            (Phase::Worker, &limits.worker, ledger.spent_working()),
            (Phase::Sandbox, &limits.sandbox, ledger.spent_in_sandbox()),
        ];
        let found: Vec<Alert> = budgets
            .iter()
            .flat_map(|(phase, allowed, spent)| self.alarm.look(alerts, *phase, allowed, spent))
            .collect();
        for alert in &found {
            tracing::warn!(target: "latent_briefing::alerts", alert = alert.to_string());
        }
        found
    }

    /// Appends a segment to the trajectory, `after_calls` calls of the turn, in the form that the context manager leaves it.
    pub(super) fn enter(&mut self, segment: Segment, after_calls: usize) -> Result<Entered> {
        if !self.config.context.is_on() {
            return self.enter_whole(segment, after_calls);
        }
        let (worker, policy) = (self.session.worker().clone(), self.config.session.policy.clone());
        let admitted =
            self.manager.admit(&segment, &|source| policy.admits(source), &count(worker.tokenizer()));
        let Some(left) = admitted.left_out else { return self.enter_whole(segment, after_calls) };
        let mut entered = if let Some(shortened) = admitted.segment {
            self.enter_whole(shortened, after_calls)?
        } else {
            self.findings += usize::from(segment.source == Source::Finding);
            Entered {
                source: segment.source,
                name: segment.name,
                text: String::new(),
                pieces: Vec::new(),
                left_out: 0,
                room: Vec::new(),
                seconds: 0.0,
                after_calls,
                managed: None,
                whole: None,
            }
        };
        if let Some(name) = &left.pointer {
            self.shelved.push((name.clone(), segment.text.clone()));
        }
        (entered.managed, entered.whole) = (Some(left), Some(segment.text));
        Ok(entered)
    }

    fn enter_whole(&mut self, segment: Segment, after_calls: usize) -> Result<Entered> {
        let Segment { source, text, name } = segment.clone();
        let start = Instant::now();
        let (cancel, deadline) = (self.config.cancel.clone(), self.deadline());
        let goes_on = || !cancel.is_cancelled() && deadline.is_none_or(|deadline| Instant::now() < deadline);
        let extended = self.session.extend_while([segment], &mut |_, _| goes_on());
        let extended = extended.map_err(|error| match self.broken(&[Phase::Run]) {
            // What broke it off may be the run's limit.
            Some(limit) if matches!(error, lb_session::Error::Cancelled) && !cancel.is_cancelled() => {
                Error::Limit { limit }
            }
            _ => error.into(),
        })?;
        let seconds = start.elapsed().as_secs_f64();
        let (tokens, left_out) = (extended.entered(), extended.left_out());
        let reread: usize = extended.room.iter().map(|room| room.read).sum();
        self.books.entered(tokens + reread, seconds);
        let all = self.session.tokens();
        let pieces = self.session.worker().tokenizer().pieces(&all[all.len().saturating_sub(tokens)..]);
        self.findings += usize::from(source == Source::Finding);
        let (room, managed, whole) = (extended.room, None, None);
        Ok(Entered { source, name, text, pieces, left_out, room, seconds, after_calls, managed, whole })
    }

    pub(super) fn cancelled(&self) -> Result<()> {
        if self.config.cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// Counts tokens; a text that cannot be encoded is as long as its bytes.
pub(super) fn count(tokenizer: &Tokenizer) -> impl Fn(&str) -> usize + '_ {
    |text| tokenizer.encode_text(text).map_or(text.len(), |tokens| tokens.len())
}
