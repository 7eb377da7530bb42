//! Worker calls: brief for each prompt, answer all at once.

use std::collections::BTreeMap;
use std::time::Instant;

use lb_sandbox::Query;
use lb_session::{Briefing, Handoff, Outcome, Task};

use super::loop_state::Shared;
use super::remembered::Remembered;
use crate::log::{CallKind, WorkerCall};

/// Answers `queries`, each a call of its own in the log; those that want a briefing together, and the others together.
pub(super) fn answer(shared: &mut Shared, queries: &[Query]) -> Vec<WorkerCall> {
    let with_trajectory = !shared.session.is_empty();
    let (mut calls, mut groups) = (BTreeMap::new(), [Vec::new(), Vec::new()]);
    let common = shared.config.answered.clone();
    let mut remembered = Remembered::new(shared);
    for (index, query) in queries.iter().enumerate() {
        if let Some(call) = common.as_ref().filter(|_| !query.brief).and_then(|work| work.get(query)) {
            calls.insert(index, call);
            continue;
        }
        if let Some(call) = remembered.call(shared, query, query.brief && with_trajectory) {
            calls.insert(index, call);
            continue;
        }
        groups[usize::from(query.brief && with_trajectory)].push(index);
    }
    for (briefed, group) in groups.into_iter().enumerate() {
        if group.is_empty() {
            continue;
        }
        let handoff = if briefed == 1 { shared.config.handoff.clone() } else { Handoff::None };
        let tasks = group.iter().map(|index| task(&queries[*index]));
        let start = Instant::now();
        let cancel = shared.config.cancel.clone();
        let choices = shared.config.choices.clone().filter(|_| briefed == 1);
        let deadline = shared.deadline();
        let mut ask = shared.session.ask_all(tasks).via(&handoff).cancelled_by(&cancel);
        if let Some(deadline) = deadline {
            ask = ask.deadline(deadline);
        }
        if let Some(choices) = &choices {
            ask = ask.weighing(choices);
        }
        let outcomes = ask.run_each();
        let share = start.elapsed().as_secs_f64() / group.len() as f64;
        for (index, outcome) in group.into_iter().zip(outcomes) {
            let call = record(shared, &handoff, &queries[index], outcome, share);
            if let Some(work) = common.as_ref().filter(|_| !call.query.brief) {
                work.keep(&call);
            }
            remembered.keep(&call, briefed == 1);
            calls.insert(index, call);
        }
    }
    calls.into_values().collect()
}

fn task(query: &Query) -> Task {
    Task { slice: query.document.clone(), question: query.prompt.clone() }
}

fn record(
    shared: &Shared,
    handoff: &Handoff,
    query: &Query,
    outcome: lb_session::Result<Outcome>,
    seconds: f64,
) -> WorkerCall {
    let model = shared.session.worker().name();
    let mut call = WorkerCall::unanswered(CallKind::Llm, query, model, handoff);
    call.execution_time = seconds;
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(lb_session::Error::Call { source, .. }) => {
            call.answered(Err(source.to_string()));
            return call;
        }
        Err(error) => {
            call.answered(Err(error.to_string()));
            return call;
        }
    };
    let (tokens, times) = (outcome.record.tokens, outcome.record.times);
    call.tokens = tokens;
    (call.prefill_s, call.brief_s, call.decode_s) =
        (times.prefill.as_secs_f64(), times.brief.as_secs_f64(), times.decode.as_secs_f64());
    call.cache_bytes = outcome.record.cache_bytes;
    call.keep_ratio = Some(outcome.keep_ratio);
    call.chances.clone_from(&outcome.answer.chances);
    call.used(1, tokens.attended, tokens.generated);
    if shared.config.log_briefings {
        call.briefing = outcome.briefing.as_ref().map(Briefing::map);
    }
    call.answered(Ok(outcome.answer.text));
    call
}
