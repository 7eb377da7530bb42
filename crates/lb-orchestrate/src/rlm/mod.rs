//! The recursive loop (RLM, arXiv 2512.24601): an orchestrator writes code about a long text, turn by turn, and the code
//! asks a worker that is briefed for each prompt.
//!
//! One turn: [`Orchestrator::complete`](crate::Orchestrator::complete) → [`protocol`] takes the reply apart → the code
//! runs in a [`Repl`](lb_sandbox::Repl), whose functions lead to [`host`] and from there to [`calls`] → what was said, run,
//! printed and replied enters the trajectory → a line in the log.

mod answered;
mod calls;
mod config;
mod contexts;
mod ending;
mod event;
mod host;
mod ledger;
mod lenient;
mod limits;
mod loop_state;
mod managing;
mod profile;
mod prompts;
mod protocol;
mod recurse;
mod remembered;
mod resume;
mod run;
mod sink;
mod small;
mod spans;
mod turn;
mod verdict;

use std::sync::Arc;
use std::time::Instant;

pub use answered::{AnsweredCalls, SharedWork};
pub use config::RlmConfig;
pub use ending::{Ending, Run, Stopped};
pub use event::Event;
pub use ledger::{OrchestratorTotals, RunLedger, SandboxTotals, WorkerTotals};
pub use limits::{Allowance, Limit, Limits, Measure, Phase, Spent};
pub use profile::PromptProfile;
pub(crate) use prompts::OPENING;
pub use protocol::{FinalMark, Protocol, Reply};
pub use resume::Resumed;

use lb_model::Worker;
use lb_sandbox::Repl;
use lb_session::{CancelToken, WorkerSession};

use crate::log::{ChildRecord, ContextFile};
use crate::policy::context::Conversation;
use crate::policy::monitor::Alarm;
use crate::{ChatMessage, Error, PhaseMeter, Result, Settled, TrajectoryManager};
use contexts::Contexts;
use ledger::Books;
use loop_state::{OpenRepl, Shared};
use sink::Sink;

/// A loop with its worker, its REPL and its documents. It lives from question to question: variables, trajectory and
/// conversation stay.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// use lb_model::Worker;
/// use lb_orchestrate::{Program, Rlm, RlmConfig};
/// use lb_sandbox::{Executed, Repl, ReplHost};
/// # struct Fixed;
/// # impl Repl for Fixed {
/// #     fn kind(&self) -> &'static str { "fixed" }
/// #     fn dialect(&self) -> &str { "" }
/// #     fn set_text(&mut self, _: &str, _: &str) -> lb_sandbox::Result<()> { Ok(()) }
/// #     fn execute(&mut self, _: &str, _: &mut dyn ReplHost) -> lb_sandbox::Result<Executed> {
/// #         let mut done = Executed::default();
/// #         done.answer.content = "42 lines".into();
/// #         done.answer.ready = true;
/// #         Ok(done)
/// #     }
/// #     fn variable(&mut self, _: &str) -> lb_sandbox::Result<Option<String>> { Ok(None) }
/// # }
/// # fn open() -> lb_sandbox::Result<Box<dyn Repl>> { Ok(Box::new(Fixed)) }
///
/// // `open` is `MontyRepl::open` or `CPythonRepl::open` outside of examples.
/// let mut rlm = Rlm::new(&Worker::embedded()?, open, RlmConfig::default())?;
/// rlm.add_context("A very long text.")?;
/// let mut program = Program::new(|_messages| {
///     Ok("```repl\nanswer['content'] = f'{len(context)} lines'\nanswer['ready'] = True\n```".to_owned())
/// });
/// match rlm.run(&mut program, "How long is it?") {
///     Ok(run) => println!("{} ({} turns)", run.answer, run.turns),
///     Err(stopped) => println!("{stopped}; so far: {:?}", stopped.partial),
/// }
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Rlm {
    shared: Shared,
    repl: Box<dyn Repl>,
    messages: Vec<ChatMessage>,
    contexts: Contexts,
    /// Documents that the log does not have yet.
    unlogged: Vec<(String, String)>,
    /// Documents that came after the log was begun, for the next line.
    added: Vec<ContextFile>,
    sink: Sink,
    /// Whether the orchestrator is known to log and books.
    begun: bool,
    /// Lines of the log.
    iterations: usize,
    question: Option<Question>,
    /// What was decided about the conversation's messages.
    conversation: Conversation,
    /// Messages before the first turn.
    opening: usize,
}

/// A question under way.
#[derive(Debug, Default)]
struct Question {
    text: String,
    /// Turns that were carried through.
    turns: usize,
    /// Of them, the last ones that failed.
    errors: usize,
    partial: Option<String>,
    /// Worker calls in turns that are over.
    calls: usize,
    /// Whether an answer was refused because nobody had been asked.
    refused: bool,
    /// The code of the turn before.
    code: String,
    /// The number of the message that opens it.
    opened_at: usize,
    meter: Option<PhaseMeter>,
    settled: Settled,
}

impl std::fmt::Debug for Rlm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (repl, contexts) = (self.repl.kind(), &self.contexts);
        f.debug_struct("Rlm").field("repl", &repl).field("contexts", contexts).finish_non_exhaustive()
    }
}

impl Rlm {
    /// A loop without documents. `open_repl` opens the REPL, now and for each recursive query.
    ///
    /// # Errors
    /// [`Error::Config`] for a configuration out of range, those of [`WorkerSession::with`] and of `open_repl`.
    pub fn new(
        worker: &Worker,
        open_repl: impl Fn() -> lb_sandbox::Result<Box<dyn Repl>> + Send + Sync + 'static,
        config: RlmConfig,
    ) -> Result<Self> {
        Self::at_depth(worker, Arc::new(open_repl), config, 0)
    }

    fn at_depth(worker: &Worker, open_repl: OpenRepl, config: RlmConfig, depth: usize) -> Result<Self> {
        config.validate()?;
        let session = WorkerSession::with(worker, config.session.clone())?;
        let books = Books::new(config.prices.as_ref(), worker.name());
        let repl = open_repl()?;
        let shared = Shared {
            session,
            books,
            manager: TrajectoryManager::new(config.context.clone()),
            config,
            open_repl,
            depth,
            since: Instant::now(),
            shelved: Vec::new(),
            alarm: Alarm::default(),
            findings: 0,
        };
        Ok(Self {
            shared,
            repl,
            messages: Vec::new(),
            contexts: Contexts::default(),
            unlogged: Vec::new(),
            added: Vec::new(),
            sink: Sink::None,
            begun: false,
            iterations: 0,
            question: None,
            conversation: Conversation::default(),
            opening: 0,
        })
    }

    /// The loop of a recursive query; its record stays in memory.
    fn child(parent: &Shared, config: RlmConfig) -> Result<Self> {
        let (open, worker) = (Arc::clone(&parent.open_repl), parent.session.worker().clone());
        let mut child = Self::at_depth(&worker, open, config, parent.depth + 1)?;
        child.sink = Sink::memory();
        Ok(child)
    }

    fn into_record(self) -> Option<ChildRecord> {
        self.sink.into_record()
    }

    /// Adds a document: `context` in the REPL, or `context_1` and so on where there is one already. Returns the name.
    ///
    /// # Errors
    /// Those of the REPL; [`Error::Log`] where the log is begun and cannot take it.
    pub fn add_context(&mut self, text: &str) -> Result<String> {
        let name = match self.contexts.len() {
            0 => "context".to_owned(),
            n => format!("context_{n}"),
        };
        self.repl.set_text(&name, text)?;
        match &self.sink {
            Sink::File(log) => self.added.push(log.add_context(&name, text)?),
            _ if self.shared.config.log_dir.is_some() => self.unlogged.push((name.clone(), text.to_owned())),
            _ => {}
        }
        self.list_context(&name, text)?;
        Ok(name)
    }

    /// The worker's session: the trajectory, and its cache.
    pub fn session(&self) -> &WorkerSession {
        &self.shared.session
    }

    /// What the run cost so far.
    pub fn ledger(&self) -> &RunLedger {
        &self.shared.books.ledger
    }

    /// The conversation with the orchestrator so far.
    pub fn messages(&self) -> &[ChatMessage] {
        &self.messages
    }

    /// How the loop is set up.
    pub fn config(&self) -> &RlmConfig {
        &self.shared.config
    }

    /// Other limits for what is still to come, say after [`Stopped`]. What was spent so far counts.
    ///
    /// # Errors
    /// [`Error::Config`] for limits out of range; the old ones hold then.
    pub fn set_limits(&mut self, limits: Limits) -> Result<()> {
        let changed = RlmConfig { limits, ..self.shared.config.clone() };
        changed.validate()?;
        self.shared.config = changed;
        Ok(())
    }

    /// Another token that calls off what is still to come: one that was set stays set, so a run that was called off goes on
    /// with a new one.
    pub fn set_cancel(&mut self, cancel: CancelToken) {
        self.shared.config.cancel = cancel;
    }

    /// The question that was not answered yet.
    pub fn question(&self) -> Option<&str> {
        self.question.as_ref().map(|question| question.text.as_str())
    }

    fn limit(limit: Limit) -> Error {
        Error::Limit { limit }
    }
}

#[cfg(test)]
mod tests {
    /// A loop may be made in one thread and run in another.
    #[test]
    fn a_loop_can_be_sent() {
        fn sendable<T: Send>() {}
        sendable::<super::Rlm>();
    }
}
