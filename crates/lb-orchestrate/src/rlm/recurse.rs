//! A query that becomes a loop of its own.

use std::time::Instant;

use lb_sandbox::Query;

use super::loop_state::Shared;
use crate::log::{CallKind, ChildRecord, WorkerCall};
use crate::rlm::{Event, Limits, Rlm, RlmConfig, RunLedger};
use crate::{Alerts, Orchestrator, Result};

/// Runs `query` as a question about its document (itself, where it has none), with what is left of the budgets.
pub(super) fn recurse(
    shared: &mut Shared,
    orchestrator: &mut dyn Orchestrator,
    on_event: &mut dyn FnMut(&Event<'_>),
    query: &Query,
) -> WorkerCall {
    let start = Instant::now();
    let (answer, ledger, metadata) = match run(shared, orchestrator, on_event, query) {
        Ok(ran) => ran,
        Err(error) => (Err(error.to_string()), RunLedger::default(), None),
    };
    shared.books.ledger.add_child(&ledger);
    let mut call = WorkerCall::unanswered(CallKind::Rlm, query, orchestrator.model(), &shared.config.handoff);
    let usage = ledger.orchestrator.usage;
    call.used(ledger.orchestrator.turns, usage.input, usage.output);
    call.execution_time = start.elapsed().as_secs_f64();
    call.metadata = metadata;
    call.answered(answer);
    call
}

type Ran = (std::result::Result<String, String>, RunLedger, Option<ChildRecord>);

fn run(
    shared: &mut Shared,
    orchestrator: &mut dyn Orchestrator,
    on_event: &mut dyn FnMut(&Event<'_>),
    query: &Query,
) -> Result<Ran> {
    shared.tick();
    let ledger = &shared.books.ledger;
    let limits = Limits {
        run: shared.config.limits.run.less(&ledger.spent()),
        orchestrator: shared.config.limits.orchestrator.less(&ledger.spent_orchestrating()),
        worker: shared.config.limits.worker.less(&ledger.spent_working()),
        sandbox: shared.config.limits.sandbox.less(&ledger.spent_in_sandbox()),
        ..shared.config.limits.clone()
    };
    // Shares of the parent's budgets are said by the parent, and phases are its question's.
    let (phases, alerts) = (Vec::new(), Alerts::off());
    let config = RlmConfig { limits, log_dir: None, phases, alerts, ..shared.config.clone() };
    let mut child = Rlm::child(shared, config)?;
    child.add_context(query.document.as_deref().unwrap_or(&query.prompt))?;
    let ended = child.run_with(orchestrator, &query.prompt, on_event);
    let record = child.into_record();
    Ok(match ended {
        Ok(run) => (Ok(run.answer), run.ledger, record),
        Err(stopped) => {
            let partial = stopped.partial.as_deref().unwrap_or("nothing");
            (Err(format!("{stopped}; so far: {partial}")), stopped.ledger.clone(), record)
        }
    })
}
