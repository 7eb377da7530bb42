//! A run as it goes on, and what it cost.

use std::sync::{Arc, Mutex, PoisonError};

use indicatif::ProgressBar;
use lb_orchestrate::{
    ChainReport, Estimate, EstimatedRun, Event, MemoStats, Monitor, RunLedger, RunTables, Standing,
};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use crate::progress::at;
use crate::{complain, say, spinner};

/// One line on a terminal; nothing where the output is piped.
pub(crate) struct Progress {
    line: ProgressBar,
    turn: String,
    /// Where the run stands, by the layer that listens.
    standing: Arc<Mutex<Option<Standing>>>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let standing = Arc::<Mutex<Option<Standing>>>::default();
        let kept = Arc::clone(&standing);
        let monitor = Monitor::new(move |now| {
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(now.clone());
        });
        let heard = Targets::new().with_target("latent_briefing", tracing::Level::INFO);
        // Where a program has a subscriber of its own, that one hears the events.
        let _ = tracing_subscriber::registry().with(monitor.with_filter(heard)).try_init();
        Self { line: spinner(), turn: String::new(), standing }
    }

    pub(crate) fn hear(&mut self, event: &Event<'_>) {
        let now = match event {
            Event::TurnBegan { turn, of } => {
                self.turn =
                    if turn > of { "last completion".to_owned() } else { format!("turn {turn} of {of}") };
                "the orchestrator thinks".to_owned()
            }
            Event::CodeBegan(code) => format!("its code runs ({} lines)", code.lines().count()),
            Event::CallsBegan { queries, depth: 0, .. } => match queries {
                [query] => format!("a worker reads: {}", query.prompt),
                many => format!("{} workers read", many.len()),
            },
            Event::CallsBegan { depth, .. } => format!("a loop of its own at depth {depth}"),
            Event::BreakerOpened(limit) => limit.to_string(),
            Event::Alert(alert) => {
                self.line.suspend(|| complain!("run: {alert}"));
                return;
            }
            Event::PhaseBegan { name, allowance } => format!("phase {name}: {allowance}"),
            _ => return,
        };
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let standing = standing.map(|standing| format!(" | {standing}")).unwrap_or_default();
        at(&self.line, &format!("{}: {now}{standing}", self.turn));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.line.finish_and_clear();
    }
}

pub(crate) fn costs(ledger: &RunLedger) {
    let (o, w) = (&ledger.orchestrator, &ledger.worker);
    say!(
        "Orchestrator: {} turns, {} tokens in ({} cached), {} out. Worker: {} calls, {} tokens attended, {} read, {} \
         generated; {:.0} ms for briefings, {:.0} ms for answers.",
        o.turns,
        o.usage.input,
        o.usage.cached,
        o.usage.output,
        w.calls,
        w.tokens.attended,
        w.tokens.prefilled + w.trajectory_prefilled,
        w.tokens.generated,
        1e3 * w.brief_s,
        1e3 * (w.prefill_s + w.decode_s)
    );
    if let (Some(cost), Some(currency)) = (ledger.cost(), &ledger.currency) {
        say!("Cost: {cost:.4} {currency}.");
    }
}

/// What policies came to, and where the tokens went.
pub(crate) fn policies(tables: Option<&RunTables>, memo: Option<&MemoStats>, choices: Option<&ChainReport>) {
    if let Some(memo) = memo {
        say!(
            "Remembered answers: {} hits, {} misses ({} too old, {} spoilt), {} not looked up, {} written, {} forgotten.",
            memo.hits,
            memo.misses,
            memo.expired,
            memo.corrupt,
            memo.bypassed,
            memo.stored,
            memo.evicted
        );
    }
    if let Some(choices) = choices {
        say!("{choices}");
    }
    if let Some(tables) = tables {
        say!("\n{tables}");
    }
}

pub(crate) fn estimate(estimate: &Estimate) {
    for (name, run) in [("low", estimate.low), ("likely", estimate.likely), ("high", estimate.high)] {
        let EstimatedRun { turns, orchestrator: o, calls, worker: w, worker_s, cost } = run;
        let seconds = worker_s.map(|s| format!(" in {s:.1} s")).unwrap_or_default();
        let cost = cost.map(|c| format!(", costs {c:.4}")).unwrap_or_default();
        say!(
            "{name:>6}: {turns} turns, orchestrator {} tokens in ({} cached) and {} out, {calls} worker calls over {} \
             tokens, {} read{seconds}{cost}",
            o.input,
            o.cached,
            o.output,
            w.attended,
            w.prefilled
        );
    }
}
