//! Calls that were answered in this run or an earlier one, and are not computed again.

use lb_sandbox::Query;
use lb_session::Handoff;

use super::loop_state::Shared;
use crate::log::{CallKind, WorkerCall};
use crate::policy::memo::{Setting, applies};
use crate::{AnswerMemo, RememberedAnswer};

/// The memo, as far as it applies to the calls of one batch: `[without a briefing, with one]`.
pub(super) struct Remembered {
    memo: Option<AnswerMemo>,
    settings: [Option<Setting>; 2],
}

impl Remembered {
    pub(super) fn new(shared: &Shared) -> Self {
        let config = &shared.config;
        let Some(memo) = config.memo.clone() else { return Self { memo: None, settings: [None, None] } };
        let of = |briefed: bool| {
            let handoff = if briefed { &config.handoff } else { &Handoff::None };
            // Chances are not kept.
            if !applies(&config.session, handoff) || (briefed && config.choices.is_some()) {
                return None;
            }
            let setting = Setting::of(&shared.session, &config.session, handoff, briefed, memo.tenant());
            setting
                .inspect_err(|error| tracing::warn!(%error, "answers are not remembered: the worker has no fingerprint"))
                .ok()
        };
        let settings = [of(false), of(true)];
        Self { memo: Some(memo), settings }
    }

    /// The call as it was answered before.
    pub(super) fn call(&mut self, shared: &Shared, query: &Query, briefed: bool) -> Option<WorkerCall> {
        let memo = self.memo.as_ref()?;
        let Some(setting) = &self.settings[usize::from(briefed)] else {
            memo.bypassed(1);
            return None;
        };
        let (answer, hit) = memo.get(&setting.key(query))?;
        let handoff = if briefed { &shared.config.handoff } else { &Handoff::None };
        let mut call = WorkerCall::unanswered(CallKind::Llm, query, shared.session.worker().name(), handoff);
        call.used(0, 0, 0);
        (call.keep_ratio, call.memo) = (answer.keep_ratio, Some(hit));
        call.answered(Ok(answer.response));
        Some(call)
    }

    /// Remembers an answer.
    pub(super) fn keep(&self, call: &WorkerCall, briefed: bool) {
        let (Some(memo), Some(setting)) = (&self.memo, &self.settings[usize::from(briefed)]) else { return };
        if call.error.is_none() {
            let seconds = call.prefill_s + call.brief_s + call.decode_s;
            let (response, tokens, keep_ratio) = (call.response.clone(), call.tokens, call.keep_ratio);
            memo.put(&setting.key(&call.query), &RememberedAnswer { response, tokens, keep_ratio, seconds });
        }
    }
}
