//! From a question to its answer, turn by turn.

use lb_sandbox::AnswerCell;
use serde_json::Map;

use super::prompts::{self, Setting};
use super::sink::Sink;
use super::{PromptProfile, Question, Rlm, small, spans};
use crate::log::{Metadata, RunLog, RunSettings};
use crate::rlm::limits::{Measure, Phase};
use crate::rlm::{Ending, Event, Run, Stopped};
use crate::{ChatMessage, Error, Limit, Orchestrator, Result, Role};

impl Rlm {
    /// Works at `question` until there is an answer.
    ///
    /// # Errors
    /// [`Stopped`], with what there was of an answer: [`Error::Limit`], [`Error::Cancelled`], what the orchestrator, the
    /// sandbox, the worker or the log failed with. [`go_on`](Self::go_on) takes the question up again.
    pub fn run(
        &mut self,
        orchestrator: &mut dyn Orchestrator,
        question: &str,
    ) -> std::result::Result<Run, Box<Stopped>> {
        self.run_with(orchestrator, question, &mut |_| {})
    }

    /// Like [`run`](Self::run); `on_event` hears every step.
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub fn run_with(
        &mut self,
        orchestrator: &mut dyn Orchestrator,
        question: &str,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> std::result::Result<Run, Box<Stopped>> {
        self.shared.since = std::time::Instant::now();
        match self.ask(orchestrator, question) {
            Ok(()) => self.go_on(orchestrator, on_event),
            Err(error) => Err(self.stopped(error)),
        }
    }

    /// Goes on with the question that was not answered yet, after [`Stopped`] or [`resume`](Self::resume).
    ///
    /// # Errors
    /// Those of [`run`](Self::run), [`Error::Empty`] where there is none.
    pub fn go_on(
        &mut self,
        orchestrator: &mut dyn Orchestrator,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> std::result::Result<Run, Box<Stopped>> {
        if let Err(error) = self.meet(orchestrator) {
            return Err(self.stopped(error));
        }
        let (worker, handoff) = (self.shared.session.worker().name(), self.shared.config.handoff.name());
        let span = spans::run(orchestrator, worker, handoff);
        let ended = span.in_scope(|| self.until_answered(orchestrator, on_event));
        self.shared.tick();
        match ended {
            Ok((answer, ending)) => {
                on_event(&Event::Answered(&answer));
                let turns = self.question.take().map_or(0, |question| question.turns);
                let ledger = self.shared.books.ledger.clone();
                Ok(Run { answer, ending, turns, ledger, log: self.sink.path().map(Into::into) })
            }
            Err(error) => Err(self.stopped(error)),
        }
    }

    fn until_answered(
        &mut self,
        orchestrator: &mut dyn Orchestrator,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<(String, Ending)> {
        let of = self.shared.config.limits.iterations;
        while self.question.as_ref().ok_or(Error::Empty { arg: "question" })?.turns < of {
            let (ending, news) = self.before_turn(on_event);
            if let Some(ending) = ending {
                return Ok((self.last_turn(orchestrator, on_event)?, ending));
            }
            if let Some(answer) = self.turn(orchestrator, news.as_deref(), on_event)? {
                return Ok((answer, Ending::Answered));
            }
        }
        Ok((self.last_turn(orchestrator, on_event)?, Ending::LastCompletion))
    }

    pub(super) fn too_many_errors(&self) -> Result<()> {
        let (limit, errors) =
            (self.shared.config.limits.consecutive_errors, self.question.as_ref().map_or(0, |q| q.errors));
        if errors < limit {
            return Ok(());
        }
        let (phase, what) = (Phase::Run, Measure::ConsecutiveErrors);
        Err(Self::limit(Limit { phase, what, allowed: limit.to_string(), used: errors.to_string() }))
    }

    /// Opens a question: conversation, log, `answer`.
    fn ask(&mut self, orchestrator: &mut dyn Orchestrator, question: &str) -> Result<()> {
        if question.trim().is_empty() {
            return Err(Error::Empty { arg: "question" });
        }
        let first = question.to_owned();
        self.question = Some(Question { text: first, ..Question::default() });
        self.meet(orchestrator)?;
        self.open(question)
    }

    /// Puts a question into the conversation.
    pub(super) fn open(&mut self, question: &str) -> Result<()> {
        let again = !self.messages.is_empty();
        let small = self.shared.config.profile == PromptProfile::Small;
        if again {
            self.clear_answer()?;
        } else if small {
            let instructions = self.shared.config.instructions.as_deref();
            self.messages = small::beginning(instructions, &self.contexts);
        } else {
            let setting = Setting {
                protocol: self.shared.config.protocol,
                dialect: self.repl.dialect(),
                // The trajectory takes positions of its own.
                worker_tokens: self.shared.session.worker().config().position_limit() / 2,
                recursive: self.shared.recursive(),
                instructions: self.shared.config.instructions.as_deref(),
            };
            self.messages.push(ChatMessage::new(Role::System, prompts::system(&setting)));
        }
        let opening = if small {
            small::question(question, &self.contexts)
        } else {
            prompts::question(question, &self.contexts, again)
        };
        self.messages.push(ChatMessage::new(Role::User, opening));
        if !again {
            self.opening = self.messages.len();
        }
        let opened_at = self.messages.len() - 1;
        self.question = Some(Question { text: question.to_owned(), opened_at, ..Question::default() });
        Ok(())
    }

    /// Makes `answer` what it was at first.
    pub(super) fn clear_answer(&mut self) -> Result<()> {
        Ok(self.repl.execute(CLEAR_ANSWER, &mut NoHost).map(drop)?)
    }

    /// Looks up what the orchestrator costs, and begins the log where there is none.
    fn meet(&mut self, orchestrator: &dyn Orchestrator) -> Result<()> {
        let config = &self.shared.config;
        let price_of = |model: &str| config.prices.as_ref().and_then(|table| table.model(model));
        let price = price_of(orchestrator.model());
        let by_phase = config.phases.iter().any(|phase| phase.cost.is_some());
        let unknown = orchestrator.models().into_iter().find(|model| price_of(model).is_none());
        if let Some(unknown) = unknown.filter(|_| config.limits.limits_cost() || by_phase) {
            let reason = "a limit of money needs a price of the orchestrator's model";
            return Err(Error::config("prices", unknown, reason));
        }
        self.shared.books.set_model(price);
        if self.begun {
            return Ok(());
        }
        let metadata = self.metadata(orchestrator);
        match &self.shared.config.log_dir {
            Some(dir) if matches!(self.sink, Sink::None) => {
                self.sink = Sink::File(RunLog::create(dir, metadata, &std::mem::take(&mut self.unlogged))?);
            }
            _ => self.sink.begin(metadata),
        }
        self.begun = true;
        Ok(())
    }

    fn metadata(&self, orchestrator: &dyn Orchestrator) -> Metadata {
        let (config, session) = (&self.shared.config, &self.shared.session);
        let worker = session.worker();
        Metadata {
            timestamp: chrono::Utc::now().to_rfc3339(),
            root_model: orchestrator.model().to_owned(),
            max_depth: config.limits.depth,
            max_iterations: config.limits.iterations,
            backend: orchestrator.backend().to_owned(),
            backend_kwargs: Map::new(),
            environment_type: self.repl.kind().to_owned(),
            environment_kwargs: Map::new(),
            other_backends: Some(vec![worker.name().to_owned()]),
            latent_briefing: RunSettings {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                protocol: config.protocol,
                profile: config.profile,
                ask_first: config.ask_first,
                brief_documents: config.brief_documents,
                handoff: config.handoff.clone(),
                limits: config.limits.clone(),
                worker: worker.name().to_owned(),
                position_limit: worker.config().position_limit(),
                question: self.question.as_ref().map(|q| q.text.clone()).unwrap_or_default(),
                contexts: Vec::new(),
                head: worker.tokenizer().pieces(&session.tokens()[..session.head_len()]),
                context: config.context.is_on().then(|| config.context.clone()),
                prompt_used: config.prompt_used.clone(),
            },
        }
    }

    fn stopped(&mut self, error: Error) -> Box<Stopped> {
        let question = self.question.as_ref();
        Box::new(Stopped {
            error,
            partial: question.and_then(|question| question.partial.clone()),
            turns: question.map_or(0, |question| question.turns),
            messages: self.messages.clone(),
            ledger: self.shared.books.ledger.clone(),
            log: self.sink.path().map(Into::into),
        })
    }

    /// What there is of an answer: a draft in `answer`, else what was said.
    pub(super) fn partial(&mut self, answer: Option<&AnswerCell>, said: &str) {
        let draft = answer.map(|answer| answer.content.trim()).filter(|draft| !draft.is_empty());
        let said = Some(said.trim()).filter(|said| !said.is_empty());
        if let (Some(question), Some(text)) = (&mut self.question, draft.or(said)) {
            question.partial = Some(text.to_owned());
        }
    }
}

const CLEAR_ANSWER: &str = "answer = {\"content\": \"\", \"ready\": False}";

/// For code that calls nothing.
struct NoHost;

impl lb_sandbox::ReplHost for NoHost {
    fn call(&mut self, _: lb_sandbox::HostCall) -> Vec<String> {
        vec!["Error: no calls here".to_owned()]
    }

    fn cancelled(&self) -> bool {
        false
    }
}
