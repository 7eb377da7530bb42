//! The loop, with the built-in worker and the sandbox itself; only the orchestrator is written out.

mod api;
mod children;
mod ending;
mod killed;
mod limits;
mod log;
mod loops;
mod many_calls;
mod resume;
mod small;
mod spans;

use std::path::Path;

use latent_briefing::am::Compaction;
use latent_briefing::orchestrate::{Error, Protocol, Rlm, RlmConfig};
use latent_briefing::session::{BoundaryPolicy, Handoff, Source};

use crate::support::embedded;
use crate::support::monty;
use crate::support::orchestrators::Scripted;

const NOTES: &str = "finding: The Velmar ledger is kept by Anara.\n\
    tool: Open part 2: done.\n\
    finding: Anara works in Redmoor.\n\
    finding: The code of the Torwick vault is 4821.\n\
    finding: The Oslund relay is kept by Tolio.";

fn config() -> RlmConfig {
    let mut config =
        RlmConfig { handoff: Handoff::briefing(Compaction::keep_ratio(0.6)), ..RlmConfig::default() };
    config.session.policy = BoundaryPolicy::nothing().admitting([Source::Finding, Source::Tool]);
    config
}

fn rlm(config: RlmConfig) -> Rlm {
    let mut rlm = Rlm::new(embedded(), monty, config).unwrap();
    assert_eq!(rlm.add_context(NOTES).unwrap(), "context");
    rlm
}

fn logged(dir: &Path) -> RlmConfig {
    RlmConfig { log_dir: Some(dir.to_owned()), ..config() }
}

fn repl(code: &str) -> String {
    format!("I go on.\n```repl\n{code}\n```")
}

fn ready(expression: &str) -> String {
    repl(&format!("answer[\"content\"] = {expression}\nanswer[\"ready\"] = True"))
}

fn final_protocol() -> RlmConfig {
    RlmConfig { protocol: Protocol::Final, ..config() }
}

/// An orchestrator that says these things, and then fails.
fn script<S: Into<String>>(turns: impl IntoIterator<Item = S>) -> Scripted {
    Scripted::new(turns)
}

fn limit_of(error: &Error) -> &latent_briefing::orchestrate::Limit {
    match error {
        Error::Limit { limit } => limit,
        other => panic!("no limit: {other}"),
    }
}

/// A whole loop over a server that serves the built-in worker, which cannot orchestrate: it is asked for code, told that
/// there was none, and at last asked for an answer.
pub(super) fn a_short_run_over(orchestrator: &mut dyn latent_briefing::orchestrate::Orchestrator) {
    let mut config = RlmConfig { turn_tokens: Some(16), ..config() };
    config.limits.iterations = 2;
    let run = rlm(config).run(orchestrator, "Who keeps the Velmar ledger?").unwrap();
    assert_eq!(run.ending, latent_briefing::orchestrate::Ending::LastCompletion);
    let usage = run.ledger.orchestrator.usage;
    assert!(usage.input > 1000 && usage.output > 0 && usage.unreported == 0, "{usage:?}");
}
