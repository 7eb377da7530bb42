//! One turn: what the orchestrator says, what its code does, what the log gets.

use std::time::Instant;

use lb_sandbox::{Executed, Fault};
use lb_session::{Segment, Source};

use super::host::{Host, Texts};
use super::protocol::{FinalMark, Protocol, Reply};
use super::verdict::{Done, Taken};
use super::{PromptProfile, Rlm, prompts, small, spans};
use crate::log::{BlockResult, CodeBlock, Entered, Iteration, ManagedPrompt, WorkerCall};
use crate::rlm::Event;
use crate::rlm::limits::Phase;
use crate::{ChatMessage, ChatRequest, Completion, Error, Finish, Orchestrator, Result, Role};

/// A turn as far as it has come.
#[derive(Default)]
pub(super) struct Draft {
    completion: Completion,
    completion_s: f64,
    ran: Vec<Executed>,
    blocks: Vec<CodeBlock>,
    pub(super) entered: Vec<Entered>,
    calls: usize,
    failed_calls: usize,
    number: usize,
    managed: Option<ManagedPrompt>,
}

impl Rlm {
    /// Carries a turn through; the answer, if it gave one. What it did is in the log either way.
    pub(super) fn turn(
        &mut self,
        orchestrator: &mut dyn Orchestrator,
        news: Option<&str>,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<Option<String>> {
        let (turns, of) =
            (self.question.as_ref().map_or(0, |q| q.turns), self.shared.config.limits.iterations);
        on_event(&Event::TurnBegan { turn: turns + 1, of });
        let standard = self.shared.config.profile == PromptProfile::Standard;
        // Of a small model's conversation, what was printed is the prompt of the next turn.
        let mut prompt = standard.then(|| prompts::turn(turns + 1, of, self.messages.len() > 2));
        if let (Some(prompt), Some(news)) = (&mut prompt, news) {
            prompt.insert_str(0, &format!("{news}\n\n"));
        }
        let work = |rlm: &mut Self, draft: &mut Draft, on_event: &mut dyn FnMut(&Event<'_>)| {
            rlm.work(draft, orchestrator, on_event)
        };
        self.logged(turns + 1, prompt.as_deref(), on_event, work)
    }

    /// The completion that asks for the answer when no turn is left.
    pub(super) fn last_turn(
        &mut self,
        orchestrator: &mut dyn Orchestrator,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<String> {
        let of = self.shared.config.limits.iterations;
        on_event(&Event::TurnBegan { turn: of + 1, of });
        let prompt = match self.shared.config.profile {
            PromptProfile::Standard => prompts::last_completion(self.shared.config.protocol),
            PromptProfile::Small => small::last_completion(),
        };
        let work = |rlm: &mut Self, draft: &mut Draft, on_event: &mut dyn FnMut(&Event<'_>)| {
            rlm.complete(draft, orchestrator, on_event)?;
            Ok(Some(rlm.last_answer(&draft.completion)?))
        };
        Ok(self.logged(0, Some(prompt), on_event, work)?.unwrap_or_default())
    }

    /// Does `work` behind a message and writes the turn's line; a turn that is stopped leaves the conversation as it was.
    fn logged(
        &mut self,
        turn: usize,
        prompt: Option<&str>,
        on_event: &mut dyn FnMut(&Event<'_>),
        work: impl FnOnce(&mut Self, &mut Draft, &mut dyn FnMut(&Event<'_>)) -> Result<Option<String>>,
    ) -> Result<Option<String>> {
        let (start, before) = (Instant::now(), self.messages.len());
        self.messages.extend(prompt.map(|prompt| ChatMessage::new(Role::User, prompt)));
        let asked = self.messages.len();
        let mut draft = Draft { number: turn, ..Draft::default() };
        let done = work(self, &mut draft, on_event);
        self.shared.tick();
        let (answer, stopped) = match &done {
            Ok(answer) => (answer.clone(), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let partial_answer = stopped.as_ref().and_then(|_| self.question.as_ref()?.partial.clone());
        self.iterations += 1;
        let line = Iteration {
            iteration: self.iterations,
            timestamp: chrono::Utc::now().to_rfc3339(),
            prompt: self.messages[..asked].to_vec(),
            response: draft.completion.text,
            code_blocks: draft.blocks,
            final_answer: answer,
            iteration_time: start.elapsed().as_secs_f64(),
            question: self.question.as_ref().map(|q| q.text.clone()).unwrap_or_default(),
            turn,
            usage: draft.completion.usage,
            finish: draft.completion.finish,
            reasoning: draft.completion.reasoning,
            completion_time: draft.completion_s,
            entered: draft.entered,
            contexts: std::mem::take(&mut self.added),
            stopped,
            partial_answer,
            managed: draft.managed,
            by_model: draft.completion.by_model,
            phase: self.phase(),
        };
        if done.is_ok() {
            self.settle(line.code_blocks.iter().map(|block| &block.result));
        }
        self.watch(turn, on_event);
        let said = line.response.clone();
        let written = self.sink.append(line);
        if done.is_err() {
            self.messages.truncate(before);
        }
        let answer = done?;
        written?;
        if answer.is_some() {
            self.said(&said);
        }
        if let Some(question) = &mut self.question {
            question.turns += usize::from(turn > 0);
        }
        Ok(answer)
    }

    fn work(
        &mut self,
        draft: &mut Draft,
        orchestrator: &mut dyn Orchestrator,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<Option<String>> {
        self.too_many_errors()?;
        self.read_documents(draft, on_event)?;
        self.complete(draft, orchestrator, on_event)?;
        let Taken { reply, kept } = self.take_apart(&draft.completion.text, &draft.completion.finish);
        self.enter(draft, Source::Reasoning, &reply.prose, on_event)?;
        for code in &reply.blocks {
            self.enter(draft, Source::Code, code, on_event)?;
        }
        for code in &reply.blocks {
            if self.execute(draft, code, orchestrator, on_event)?.is_some() {
                break;
            }
        }
        let finish = draft.completion.finish.clone();
        let ran = std::mem::take(&mut draft.ran);
        let mut done = Done { reply: &reply, finish: &finish, ran: &ran, calls: draft.calls, refused: None };
        if let Some(answer) = self.answer_of(&done)? {
            done.refused = self.refuses(&answer, draft.calls);
            if done.refused.is_none() {
                return Ok(Some(answer));
            }
            self.clear_answer()?;
        }
        let printed = ran.iter().map(prompts::printed).collect::<Vec<_>>().join("\n");
        self.enter(draft, Source::Tool, &printed, on_event)?;
        let (told, noticed) = self.told(&done);
        self.count_errors(draft, &ran, noticed);
        self.remember(&done);
        self.reply(&kept, told);
        Ok(None)
    }

    /// What the orchestrator is told of a turn that was no answer, besides what its code printed.
    pub(super) fn notice(&self, reply: &Reply, finish: &Finish) -> Option<&'static str> {
        let named = matches!(reply.final_mark, Some(FinalMark::Variable(_)));
        match (finish, reply.unclosed, reply.blocks.is_empty()) {
            _ if named && self.shared.config.protocol == Protocol::Final => Some(prompts::NO_FINAL_VAR),
            (Finish::Length, true, _) => Some(prompts::CUT),
            (_, true, _) => Some(prompts::UNCLOSED),
            (_, false, true) => Some(prompts::NO_CODE),
            _ => None,
        }
    }

    /// What the conversation keeps of a turn.
    pub(super) fn reply(&mut self, text: &str, told: String) {
        self.said(text);
        self.messages.push(ChatMessage::new(Role::User, told));
    }

    pub(super) fn said(&mut self, text: &str) {
        // Some APIs refuse an empty message.
        let said = if text.trim().is_empty() { "(no reply)" } else { text };
        self.messages.push(ChatMessage::new(Role::Assistant, said));
    }

    fn count_errors(&mut self, draft: &Draft, ran: &[Executed], noticed: bool) {
        let faulty = ran.iter().any(|ran| ran.fault.is_some());
        let mute = draft.calls > 0 && draft.failed_calls == draft.calls;
        if let Some(question) = &mut self.question {
            question.errors = if faulty || mute || noticed { question.errors + 1 } else { 0 };
        }
    }

    fn complete(
        &mut self,
        draft: &mut Draft,
        orchestrator: &mut dyn Orchestrator,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<()> {
        self.shared.cancelled()?;
        if let Some(limit) = self.shared.broken(&[Phase::Run, Phase::Orchestrator]) {
            return Err(Self::limit(limit));
        }
        let left = self.shared.config.limits.orchestrator;
        let left = left.less(&self.shared.books.ledger.spent_orchestrating()).time;
        let own = left.and_then(|left| Instant::now().checked_add(left));
        let managed = self.managed_prompt(on_event)?;
        let request = ChatRequest {
            messages: managed.as_ref().map_or(&self.messages[..], |(messages, _)| messages),
            max_tokens: self.shared.config.turn_tokens,
            deadline: [self.shared.deadline(), own].into_iter().flatten().min(),
            cancel: &self.shared.config.cancel.clone(),
        };
        let (span, start) = (spans::chat(orchestrator, draft.number), Instant::now());
        let completed = span.in_scope(|| orchestrator.complete(&request));
        let seconds = start.elapsed().as_secs_f64();
        draft.completion_s = seconds;
        let completion = completed.map_err(|error| {
            span.record("error.type", tracing::field::display(&error));
            // A request past the deadline of the run is the run's limit.
            match self.shared.broken(&[Phase::Run]) {
                Some(limit) if matches!(error, Error::Timeout { .. }) => Self::limit(limit),
                _ => error,
            }
        })?;
        spans::completed(&span, &completion);
        draft.managed = managed.map(|(_, managed)| managed);
        self.shared.books.completion(&completion.usage, &completion.by_model, seconds);
        self.watch(draft.number, on_event);
        on_event(&Event::Replied(&completion));
        self.partial(None, &completion.text);
        draft.completion = completion;
        Ok(())
    }

    fn enter(
        &mut self,
        draft: &mut Draft,
        source: Source,
        text: &str,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<()> {
        if text.trim().is_empty() {
            return Ok(());
        }
        let entered = self.shared.enter(Segment::new(source, text.trim()), draft.calls)?;
        on_event(&Event::Entered(&entered));
        draft.entered.push(entered);
        Ok(())
    }

    /// Runs a block; the answer, if it set one.
    fn execute(
        &mut self,
        draft: &mut Draft,
        code: &str,
        orchestrator: &mut dyn Orchestrator,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<Option<String>> {
        on_event(&Event::CodeBegan(code));
        if let Some(limit) = self.shared.broken(&[Phase::Sandbox]) {
            on_event(&Event::BreakerOpened(&limit));
            let stderr = format!("Error: {limit}; the block did not run; answer with what you have");
            let refused = Executed { stderr, fault: Some(Fault::Time), ..Executed::default() };
            draft.ran(code, refused, Vec::new(), 0.0);
            return Ok(None);
        }
        self.shelve()?;
        let (start, span) = (Instant::now(), spans::code(self.repl.kind()));
        let mut host = Host {
            shared: &mut self.shared,
            orchestrator,
            on_event,
            calls: Vec::new(),
            entered: &mut draft.entered,
            earlier_calls: draft.calls,
            fatal: None,
            breaker: None,
            texts: Texts::default(),
        };
        let executed = span.in_scope(|| self.repl.execute(code, &mut host));
        let (calls, fatal) = (std::mem::take(&mut host.calls), host.fatal.take());
        let executed = executed?;
        if let Some(fault) = executed.fault {
            span.record("error.type", tracing::field::debug(fault));
        }
        on_event(&Event::CodeEnded(&executed));
        self.shared.books.block(executed.elapsed.as_secs_f64(), executed.fault.is_some());
        self.partial(Some(&executed.answer), "");
        let answer = executed.answer.ready.then(|| executed.answer.content.clone());
        draft.ran(code, executed, calls, start.elapsed().as_secs_f64());
        if let Some(error) = fatal {
            return Err(error);
        }
        if answer.is_none() {
            self.shared.cancelled()?;
            if let Some(limit) = self.shared.broken(&[Phase::Run]).filter(|l| l.what == super::Measure::Time)
            {
                return Err(Self::limit(limit));
            }
        }
        Ok(answer)
    }
}

impl Draft {
    fn ran(&mut self, code: &str, executed: Executed, rlm_calls: Vec<WorkerCall>, execution_time: f64) {
        self.calls += rlm_calls.len();
        self.failed_calls += rlm_calls.iter().filter(|call| call.error.is_some()).count();
        let Executed { stdout, stderr, fault, locals, answer, .. } = executed.clone();
        let final_answer = answer.ready.then(|| answer.content.clone());
        let result =
            BlockResult { stdout, stderr, locals, execution_time, rlm_calls, final_answer, fault, answer };
        self.blocks.push(CodeBlock { code: code.to_owned(), result });
        self.ran.push(executed);
    }
}
