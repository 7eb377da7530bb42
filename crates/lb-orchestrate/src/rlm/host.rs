//! What the functions of the REPL lead to: worker calls, recursive queries, notes.

use std::collections::VecDeque;
use std::time::Instant;

use lb_sandbox::{HostCall, Query, ReplHost};
use lb_session::{Segment, Source};

use super::loop_state::Shared;
use super::{calls, recurse, spans};
use crate::log::{CallKind, Entered, WorkerCall};
use crate::rlm::Event;
use crate::rlm::limits::Phase;
use crate::{Error, Limit, Orchestrator, Result};

/// Bytes of one call's or note's text. What is longer is refused unseen and not recorded: no worker has that many
/// positions.
const CALL_BYTES: usize = 8 << 20;
/// Bytes of text of all calls and notes of a block. They go into the log, which has to be read again.
const BLOCK_BYTES: usize = 16 << 20;

const NO_ROOM: &str = "Error: the trajectory has no room for the note";

/// The host of one block of code.
pub(super) struct Host<'a> {
    pub(super) shared: &'a mut Shared,
    pub(super) orchestrator: &'a mut dyn Orchestrator,
    pub(super) on_event: &'a mut dyn FnMut(&Event<'_>),
    /// The block's calls, in order.
    pub(super) calls: Vec<WorkerCall>,
    /// What entered the trajectory, and how many calls of the turn there were before.
    pub(super) entered: &'a mut Vec<Entered>,
    pub(super) earlier_calls: usize,
    /// What ends the run once the block is over.
    pub(super) fatal: Option<Error>,
    pub(super) breaker: Option<Limit>,
    pub(super) texts: Texts,
}

/// The text that the calls and notes of a block have handed over.
#[derive(Default)]
pub(super) struct Texts(usize);

impl Texts {
    /// Why a text is not looked at, if so; otherwise it counts.
    fn refuse(&mut self, what: &str, bytes: usize) -> Option<String> {
        if bytes > CALL_BYTES {
            return Some(format!("Error: a {what} of {bytes} bytes; at most {CALL_BYTES} are taken"));
        }
        if self.0 + bytes > BLOCK_BYTES {
            let reason = format!("a {what} of {bytes} bytes behind others of {} bytes", self.0);
            return Some(format!("Error: {reason}; a block may hand over {BLOCK_BYTES}"));
        }
        self.0 += bytes;
        None
    }

    fn refuse_query(&mut self, query: &Query) -> Option<String> {
        self.refuse("call", query.prompt.len() + query.document.as_ref().map_or(0, String::len))
    }

    /// Whatever room the trajectory has.
    fn refuse_note(&mut self, key: Option<&str>, text: &str) -> Option<String> {
        if text.trim().is_empty() {
            return Some("Error: a note needs text".to_owned());
        }
        if key.is_some_and(|key| key.trim().is_empty()) {
            return Some(format!("Error: {}", Error::Empty { arg: "note key" }));
        }
        self.refuse("note", text.len() + key.map_or(0, str::len))
    }
}

impl ReplHost for Host<'_> {
    fn call(&mut self, call: HostCall) -> Vec<String> {
        match call {
            HostCall::Llm(queries) => self.llm(&queries),
            HostCall::Rlm(queries) if !self.shared.recursive() => self.llm(&queries),
            HostCall::Rlm(queries) => queries.into_iter().map(|query| self.rlm(query)).collect(),
            HostCall::Note { key, text } => vec![self.note(key.as_deref(), &text)],
        }
    }

    fn cancelled(&self) -> bool {
        self.fatal.is_some() || self.shared.config.cancel.is_cancelled() || self.shared.out_of_time()
    }
}

impl Host<'_> {
    fn llm(&mut self, queries: &[Query]) -> Vec<String> {
        let refused: Vec<_> = queries.iter().map(|query| self.texts.refuse_query(query)).collect();
        if refused.iter().all(Option::is_none) {
            return self.answers(queries);
        }
        let one = |(query, refused): (&Query, Option<String>)| {
            refused.map_or_else(|| self.answers(std::slice::from_ref(query)), |refused| vec![refused])
        };
        queries.iter().zip(refused).flat_map(one).collect()
    }

    fn answers(&mut self, queries: &[Query]) -> Vec<String> {
        (self.on_event)(&Event::CallsBegan { kind: CallKind::Llm, queries, depth: self.shared.depth });
        let mut replies = Vec::with_capacity(queries.len());
        // Budgets are looked at between the parts of a batch, not once for a thousand prompts.
        for part in queries.chunks(self.shared.config.session.max_batch.max(1)) {
            if let Some(refused) = self.refusal() {
                replies.extend(part.iter().map(|_| refused.clone()));
                continue;
            }
            let span = spans::calls(self.shared.session.worker().name(), part.len());
            let answered = span.in_scope(|| calls::answer(self.shared, part));
            for call in answered {
                span.in_scope(|| spans::called(&call));
                self.shared.books.call(&call);
                (self.on_event)(&Event::CallEnded(&call));
                replies.push(call.response.clone());
                self.calls.push(call);
            }
            let from = self.calls.len() - part.len();
            self.enter_replies(from);
            for alert in self.shared.alerts() {
                (self.on_event)(&Event::Alert(&alert));
            }
        }
        replies
    }

    fn rlm(&mut self, query: Query) -> String {
        if let Some(refused) = self.texts.refuse_query(&query) {
            return refused;
        }
        if let Some(refused) = self.refusal() {
            return refused;
        }
        let (queries, depth) = ([query], self.shared.depth + 1);
        (self.on_event)(&Event::CallsBegan { kind: CallKind::Rlm, queries: &queries, depth });
        let call = recurse::recurse(self.shared, self.orchestrator, self.on_event, &queries[0]);
        let response = call.response.clone();
        (self.on_event)(&Event::CallEnded(&call));
        self.calls.push(call);
        self.enter_replies(self.calls.len() - 1);
        response
    }

    /// Why no call is made now, if so.
    fn refusal(&mut self) -> Option<String> {
        if self.fatal.is_some() {
            return Some("Error: the run is ending".to_owned());
        }
        if self.cancelled() {
            return Some("Error: the run was called off".to_owned());
        }
        let limit = self.shared.broken(&[Phase::Worker, Phase::Run])?;
        if self.breaker.as_ref() != Some(&limit) {
            (self.on_event)(&Event::BreakerOpened(&limit));
        }
        let text = format!("Error: {limit}; finish with what you have");
        self.breaker = Some(limit);
        Some(text)
    }

    /// The replies from the call of this number on become part of the trajectory.
    fn enter_replies(&mut self, from: usize) {
        let longest = self.shared.config.reply_prompt_chars;
        let segments: Vec<Segment> = self.calls[from..]
            .iter()
            .filter(|call| call.error.is_none() && !call.response.trim().is_empty())
            .map(|call| {
                let asked: String = call.query.prompt.trim().chars().take(longest).collect();
                Segment::new(Source::Reply, format!("{asked} -> {}", call.response))
            })
            .collect();
        for segment in segments {
            self.enter(segment);
        }
    }

    fn note(&mut self, key: Option<&str>, text: &str) -> String {
        if let Some(refused) = self.texts.refuse_note(key, text) {
            return refused;
        }
        match self.try_enter(Segment::finding(noted(key, text))) {
            Ok(()) => {}
            // The code can do with less, and nothing was noted.
            Err(Error::Session(lb_session::Error::NoRoom { .. })) => return NO_ROOM.to_owned(),
            Err(error) => self.ends_with(error),
        }
        match self.shared.session.note(key, text) {
            Ok(()) => String::new(),
            Err(error) => format!("Error: {error}"),
        }
    }

    fn enter(&mut self, segment: Segment) {
        if let Err(error) = self.try_enter(segment) {
            self.ends_with(error);
        }
    }

    fn try_enter(&mut self, segment: Segment) -> Result<()> {
        let before = self.earlier_calls + self.calls.len();
        let entered = self.shared.enter(segment, before)?;
        (self.on_event)(&Event::Entered(&entered));
        self.entered.push(entered);
        Ok(())
    }

    fn ends_with(&mut self, error: Error) {
        self.fatal = Some(self.fatal.take().unwrap_or(error));
    }
}

/// What a note is in the trajectory.
fn noted(key: Option<&str>, text: &str) -> String {
    key.map_or_else(|| text.to_owned(), |key| format!("{key}: {text}"))
}

/// The host of code that ran before: every call is answered as it was then.
pub(super) struct Recorded<'a> {
    pub(super) shared: &'a mut Shared,
    pub(super) replies: VecDeque<&'a WorkerCall>,
    /// What entered the trajectory in its turn.
    pub(super) entered: &'a [Entered],
    /// Calls that the record does not have: the code did something else this time.
    pub(super) unknown: usize,
    pub(super) deadline: Instant,
    pub(super) texts: Texts,
}

impl ReplHost for Recorded<'_> {
    fn call(&mut self, call: HostCall) -> Vec<String> {
        let queries = match call {
            HostCall::Llm(queries) | HostCall::Rlm(queries) => queries,
            HostCall::Note { key, text } => {
                // What was wrong with it then is wrong with it now.
                let line = noted(key.as_deref(), &text);
                let entered = || {
                    self.entered
                        .iter()
                        .any(|entered| entered.whole.as_ref().unwrap_or(&entered.text) == &line)
                };
                let refused = self.texts.refuse_note(key.as_deref(), &text);
                if let Some(refused) = refused.or_else(|| (!entered()).then(|| NO_ROOM.to_owned())) {
                    return vec![refused];
                }
                return vec![match self.shared.session.note(key.as_deref(), &text) {
                    Ok(()) => String::new(),
                    Err(error) => format!("Error: {error}"),
                }];
            }
        };
        let reply = |query: Query| {
            if let Some(refused) = self.texts.refuse_query(&query) {
                return refused;
            }
            match self.replies.front() {
                Some(call) if call.query == query => {
                    self.replies.pop_front().map(|call| call.response.clone()).unwrap_or_default()
                }
                _ => {
                    self.unknown += 1;
                    "Error: this call is not in the record of the run".to_owned()
                }
            }
        };
        queries.into_iter().map(reply).collect()
    }

    fn cancelled(&self) -> bool {
        self.shared.config.cancel.is_cancelled() || Instant::now() > self.deadline
    }
}
