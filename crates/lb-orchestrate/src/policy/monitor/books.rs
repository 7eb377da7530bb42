//! The state of a run's books as an event for `tracing`.

use super::alerts::shares;
use crate::rlm::{Limits, Measure, RunLedger};

/// Tells subscribers where a run stands; targets and fields are what [`Monitor`](super::Monitor) reads.
pub(crate) fn tell(ledger: &RunLedger, limits: &Limits, turn: usize, findings: usize) {
    let (usage, tokens) = (&ledger.orchestrator.usage, &ledger.worker.tokens);
    let gone = shares(&limits.run, &ledger.spent()).into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
    let (of, share) = gone.map_or(("", 0.0), |(what, share)| (name(what), share));
    let (cost, currency) =
        (ledger.cost().unwrap_or(f64::NAN), ledger.currency.as_deref().unwrap_or_default());
    tracing::info!(
        target: "latent_briefing::books",
        turn,
        input = usage.input,
        cached = usage.cached,
        output = usage.output,
        calls = ledger.worker.calls + ledger.worker.failed,
        worker = tokens.prefilled + tokens.drafted + tokens.generated + ledger.worker.trajectory_prefilled,
        findings,
        cost,
        currency,
        seconds = ledger.elapsed_s,
        share,
        of,
    );
}

fn name(what: Measure) -> &'static str {
    match what {
        Measure::Time => "time",
        Measure::Tokens => "tokens",
        Measure::Cost => "money",
        _ => "calls",
    }
}
